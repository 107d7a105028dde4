"""Answers as a slow, obvious program finds them: every pair of start and end of every window."""

import math
from typing import NamedTuple

import torch

from convbert_plugin.models.parts import QUESTION_ANSWERING_HEAD
from user_dir_tests.data.squad.test_squad_windows import windows_by_token
from user_dir_tests.oracles.answer_pointer import ends_of, impossible_of, log_softmax, starts_of


class Found(NamedTuple):
    """The best answers, (score, probability, first character, end) each, and the null odds."""

    answers: list
    null_odds: float


class PlainJudge:
    """Scores of spans by the two logits a token that a model of transformers gives."""

    weighs_best = True

    def __init__(self, theirs):
        self.theirs = theirs

    def judge(self, tokens, segments):
        output = self.theirs(torch.tensor([tokens]), token_type_ids=torch.tensor([segments]))
        start, end = output.start_logits[0].tolist(), output.end_logits[0].tolist()
        return lambda first, last: start[first] + end[last], start[0] + end[0]


class ReleasedJudge:
    """Log-probabilities of spans by the released head, of features that the hub gives."""

    weighs_best = False

    def __init__(self, hub):
        self.hub = hub
        head = hub.model.get_submodule(QUESTION_ANSWERING_HEAD)
        self.weights = dict(head.named_parameters())

    def judge(self, tokens, segments):
        segments = torch.tensor([segments])
        hidden = self.hub.extract_features(torch.tensor([tokens]), segments)[0]
        answerable = segments[0].bool()
        answerable[0] = True
        starts = starts_of(self.weights, hidden, answerable)
        of_start = log_softmax(starts).tolist()
        likeliest = sorted(range(len(tokens)), key=lambda place: -of_start[place])[:20]
        of_end = {
            start: log_softmax(ends_of(self.weights, hidden, answerable, start)).tolist()
            for start in likeliest
        }

        def score(first, last):
            return of_start[first] + of_end[first][last] if first in of_end else -math.inf

        return score, float(impossible_of(self.weights, hidden, starts))


@torch.no_grad()
def found_by_loops(judge, hub, question, context, reading):
    """What is found of one question on one context."""
    asked, text = hub.tokenizer.pieces_with_offsets([question, context])
    query, ids = ([hub.vocabulary.index(piece) for piece in line.pieces] for line in (asked, text))
    query = query[: reading.max_query_length]
    bos, eos = hub.vocabulary.bos(), hub.vocabulary.eos()
    spans, nulls = [], []
    for (begin, length), scored in zip(
        *windows_by_token(len(query), len(ids), reading), strict=True
    ):
        part = ids[begin : begin + length]
        tokens = [bos, *query, eos, *part, eos]
        segments = [0] * (len(query) + 2) + [1] * (length + 1)
        score, null = judge.judge(tokens, segments)
        nulls.append(null)
        place = len(query) + 2 - begin
        for first in scored:
            for last in range(first, min(begin + length, first + reading.max_answer_length)):
                spans.append((score(first + place, last + place), first, last))
    spans.sort(key=lambda span: (-span[0], span[1], span[2]))
    null_odds = min(nulls) - (spans[0][0] if judge.weighs_best else 0)
    kept = {}
    for score, first, last in spans[: reading.n_best_size]:
        start, end = text.offsets[first][0], text.offsets[last][1]
        if score > -math.inf:
            kept.setdefault(context[start:end], (score, start, end))
    total = sum(math.exp(score - spans[0][0]) for score, _, _ in kept.values())
    return Found(
        [
            (score, math.exp(score - spans[0][0]) / total, start, end)
            for score, start, end in kept.values()
        ],
        null_odds,
    )
