"""From the spans of windows to the answers to questions."""

from typing import Any, Iterator, Mapping, NamedTuple, Optional, Sequence

import numpy as np
import torch
from torch import Tensor

from convbert_plugin.ops.answer_spans import best_spans, null_scores

# Beside first token, last token and score of each span a window has its null score, whether that is
# the score of a span, and whether the window was seen.
_BESIDE = 3


class QuestionSpans(NamedTuple):
    """The best spans of the contexts of questions, [Q, N] each, the best ones first.

    ``starts`` and ``ends``: first and last tokens of the context; or, of ``in_characters``, where a
    text begins and where it has ended. Of no span the score is minus infinity. ``null_odds`` [Q]:
    what speaks for there being no answer, more the higher they are. ``seen`` [Q]: whether all
    windows of a question were.
    """

    starts: np.ndarray
    ends: np.ndarray
    scores: np.ndarray
    null_odds: np.ndarray
    seen: np.ndarray


class Candidate(NamedTuple):
    """A possible answer: characters [start, end) of the context, and its probability among all."""

    text: str
    probability: float
    score: float
    start: int
    end: int


def window_table(
    start: Tensor,
    end: Tensor,
    tops: Optional[Tensor],
    impossible: Optional[Tensor],
    batch: Mapping[str, Any],
    max_answer_length: int,
    count: int,
) -> Tensor:
    """Return what counts of the windows of a batch, a row each: [B, 3 × count + 3] in float64.

    The logits are those of a head, the batch one of SquadDataset. Rows of batches that are added up
    in a table of all windows, from zeros, make a table for ``merge``.
    """
    device = start.device
    scored, context = batch["scored"].to(device), batch["context"].to(device)
    spans = best_spans(start, end, tops, scored, context, max_answer_length, count)
    to_context = (batch["first"] - batch["context_position"]).to(device)[:, None]
    null = null_scores(start, end, impossible)[:, None]
    of_span = torch.full_like(null, impossible is None)
    columns = [spans.starts + to_context, spans.ends + to_context, spans.scores]
    columns += [null, of_span, torch.ones_like(null)]
    return torch.cat([column.double() for column in columns], dim=1)


def merge(table: np.ndarray, question: np.ndarray) -> QuestionSpans:
    """Merge the windows of each question: its best spans, and its null odds.

    ``table`` [W, 3 × N + 3] of ``window_table``, ``question`` [W]: whose windows they are, those of
    one after each other. Of equal scores the earlier start comes first, then the earlier end.

    Null odds are the lowest null score of the windows; where that is the score of a span, less that
    of the best other span.
    """
    count = (table.shape[1] - _BESIDE) // 3
    starts, ends, scores = (table[:, place * count : (place + 1) * count] for place in range(3))
    null, of_span, seen = table[:, 3 * count :].T
    first_windows = np.flatnonzero(np.diff(question, prepend=-1))
    is_seen = seen > 0
    owners = np.repeat(question, count)
    starts, ends = starts.astype(np.int64).ravel(), ends.astype(np.int64).ravel()
    scores = np.where(is_seen[:, None], scores, -np.inf).ravel()
    # It leaves equals as they were: those of a window in order, and windows along the context.
    order = np.lexsort((-scores, owners))
    rank = np.arange(len(order)) - np.repeat(
        first_windows * count, np.diff(first_windows, append=len(question)) * count
    )
    kept = order[rank < count]
    starts, ends, scores = (values[kept].reshape(-1, count) for values in (starts, ends, scores))
    null_odds = np.minimum.reduceat(np.where(is_seen, null, np.inf), first_windows)
    all_seen = np.logical_and.reduceat(is_seen, first_windows)
    less_best = np.maximum.reduceat(of_span, first_windows) > 0
    # Infinite ones, of a model that overflows, are no numbers then.
    with np.errstate(invalid="ignore"):
        null_odds = null_odds - np.where(less_best, scores[:, 0], 0.0)
    return QuestionSpans(starts, ends, scores, null_odds, all_seen)


def in_characters(
    spans: QuestionSpans, offsets: np.ndarray, first_tokens: np.ndarray
) -> QuestionSpans:
    """The same spans as characters of the contexts.

    ``offsets`` [tokens, 2]: where each token of all contexts begins and has ended,
    ``first_tokens`` [Q]: which of them is the first of a question's context.
    """
    # What is no span may lie beyond all tokens.
    first, last = (
        first_tokens[:, None] + np.where(spans.scores > -np.inf, tokens, 0)
        for tokens in (spans.starts, spans.ends)
    )
    return spans._replace(starts=offsets[first, 0], ends=offsets[last, 1])


def best_texts(spans: QuestionSpans, contexts: Sequence[str]) -> list[str]:
    """The best answer to each question, of spans ``in_characters``; blank where there is none."""
    columns = (values[:, 0].tolist() for values in (spans.starts, spans.ends, spans.scores))
    return [
        context[start:end] if score > -np.inf else ""
        for context, start, end, score in zip(contexts, *columns, strict=True)
    ]


def n_best(spans: QuestionSpans, contexts: Sequence[str]) -> Iterator[list[Candidate]]:
    """The possible answers to each question, of spans ``in_characters``, the best ones first.

    Of equal texts the best stands for all, and its score alone counts for probabilities.
    """
    rows = (values.tolist() for values in (spans.starts, spans.ends, spans.scores))
    for context, *row in zip(contexts, *rows, strict=True):
        found: dict[str, tuple[int, int, float]] = {}
        for start, end, score in zip(*row, strict=True):
            if score > -np.inf:
                found.setdefault(context[start:end], (start, end, score))
        scores = np.array([score for _, _, score in found.values()])
        weights = np.exp(scores - scores.max(initial=-np.inf))
        probabilities = (weights / weights.sum()).tolist()
        yield [
            Candidate(text, probability, score, start, end)
            for probability, (text, (start, end, score)) in zip(
                probabilities, found.items(), strict=True
            )
        ]
