"""Against every pair of a start and an end of every window, scored one by one."""

import math

import numpy as np
import pytest
import torch

from convbert_plugin.data.squad.squad_answers import (
    QuestionSpans,
    best_texts,
    in_characters,
    merge,
    n_best,
    window_table,
)
from convbert_plugin.data.squad.squad_windows import make_windows
from convbert_plugin.formats.reading import Reading

pytestmark = pytest.mark.squad

READING = Reading(length=24, doc_stride=6, max_query_length=5, max_answer_length=4)
# Sums of two numbers of at most ten, or of their log-probabilities, in fp32.
TOLERANCE = 1e-5
HEADS = ("transformers", "released")
QUERIES, CONTEXTS = np.array([3, 9, 5, 1]), np.array([60, 5, 41, 19])


def batch_of(windows, rows):
    """What SquadDataset says of these windows."""
    query = np.minimum(QUERIES, READING.max_query_length)[windows.question[rows]]
    places, begin = np.arange(READING.length), query[:, None] + 2
    first, length, low, high = (column[rows][:, None] for column in windows[1:])
    tokens = places - begin + first
    return {
        "id": torch.from_numpy(rows),
        "first": torch.from_numpy(first[:, 0]),
        "context_position": torch.from_numpy(begin[:, 0]),
        "context": torch.from_numpy((tokens >= first) & (tokens < first + length)),
        "scored": torch.from_numpy((tokens >= low) & (tokens < high)),
    }


def logits_of(kind, count, digits=None):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        values = 3 * torch.randn(shape, generator=generator)
        return values if digits is None else values.round(decimals=digits)

    start, tokens = draw(count, READING.length), READING.length
    if kind == "transformers":
        return start, draw(count, tokens), None, None
    tops = start.topk(20).indices
    return start, draw(count, 20, tokens), tops, draw(count)


def at(logits, rows):
    return [None if one is None else one[rows] for one in logits]


def table_of(logits, windows, count, batch_size=3):
    """Batches of windows in any order, added up."""
    order = np.random.default_rng(1).permutation(len(windows.question))
    table = torch.zeros(len(order), 3 * count + 3, dtype=torch.float64)
    for rows in np.split(order, range(batch_size, len(order), batch_size)):
        batch = batch_of(windows, rows)
        of_batch = window_table(*at(logits, rows), batch, READING.max_answer_length, count)
        table.index_add_(0, batch["id"], of_batch)
    return table.numpy()


def log_softmax(values):
    return values.double() - values.double().logsumexp(-1)


def slow_answers(logits, windows):
    """For each question (score, start, end) of all its spans, the best first, and null odds."""
    answers = []
    for question in range(len(QUERIES)):
        found, null = [], []
        for row in np.flatnonzero(windows.question == question):
            start, end, tops, impossible = at(logits, row)
            batch = batch_of(windows, np.array([row]))
            to_context = int(batch["first"] - batch["context_position"])
            for low in range(READING.length):
                for high in range(low, READING.length):
                    inside = batch["context"][0, low] and batch["context"][0, high]
                    if not inside or not batch["scored"][0, low] or high - low >= 4:
                        continue
                    if tops is None:
                        score = start[low].double() + end[high].double()
                    elif low in tops:
                        of_low = end[tops.tolist().index(low)]
                        score = log_softmax(start)[low] + log_softmax(of_low)[high]
                    else:
                        continue
                    found.append((float(score), low + to_context, high + to_context))
            null.append(float(start[0] + end[0] if impossible is None else impossible))
        found.sort(key=lambda span: (-span[0], *span[1:]))
        less = found[0][0] if logits[3] is None else 0
        answers.append((found, min(null) - less))
    return answers


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("kind", HEADS)
def test_every_pair_of_every_window(kind, count):
    windows = make_windows(QUERIES, CONTEXTS, READING)
    assert len(windows.question) > 2 * len(QUERIES)
    logits = logits_of(kind, len(windows.question))
    spans = merge(table_of(logits, windows, count), windows.question)
    for question, (expected, null_odds) in enumerate(slow_answers(logits, windows)):
        assert spans.seen[question]
        assert len(expected) >= 10
        rows = (values[question].tolist() for values in spans[:3])
        for (score, start, end), *found in zip(expected, *rows, strict=False):
            assert found == [start, end, pytest.approx(score, abs=TOLERANCE)]
        assert (spans.scores[question, len(expected) :] == -math.inf).all()
        assert spans.null_odds[question] == pytest.approx(null_odds, abs=TOLERANCE)


def test_equal_scores_stand_in_order_over_windows():
    windows = make_windows(QUERIES, CONTEXTS, READING)
    logits = logits_of("transformers", len(windows.question), digits=-1)
    spans = merge(table_of(logits, windows, 20), windows.question)
    for question, (expected, _) in enumerate(slow_answers(logits, windows)):
        found = list(zip(*(values[question].tolist() for values in spans[:3]), strict=True))
        expected = expected[:20]
        assert [(score, start, end) for start, end, score in found[: len(expected)]] == expected


def test_windows_that_were_not_seen():
    windows = make_windows(QUERIES, CONTEXTS, READING)
    logits = logits_of("released", len(windows.question))
    table = table_of(logits, windows, 2)
    whole = merge(table, windows.question)
    table[windows.question == 1] = 0
    table[np.flatnonzero(windows.question == 2)[-1]] = 0
    spans = merge(table, windows.question)
    assert spans.seen.tolist() == [True, False, False, True]
    assert spans.scores[1].tolist() == [-math.inf] * 2
    for values, expected in zip(spans, whole, strict=True):
        assert np.array_equal(values[[0, 3]], expected[[0, 3]])


def test_characters_texts_and_probabilities():
    # "the cat saw the cat" and, of another paragraph, "👍é": a character alone, one of two.
    contexts = ["the  cat saw the cat", "👍e\u0301"]
    offsets = np.array([[0, 3], [5, 8], [9, 12], [13, 16], [17, 20], [0, 1], [1, 3]], np.int32)
    spans = QuestionSpans(
        starts=np.array([[1, 4, 0, 3], [0, 1, 0, 0]]),
        ends=np.array([[1, 4, 1, 4], [1, 1, 0, 0]]),
        scores=np.array([[2.0, 1.5, 1.0, 0.5], [7.0, 6.0, -math.inf, -math.inf]]),
        null_odds=np.zeros(2),
        seen=np.ones(2, bool),
    )
    of_texts = in_characters(spans, offsets, np.array([0, 5]))
    assert best_texts(of_texts, contexts) == ["cat", "👍e\u0301"]
    first, second = n_best(of_texts, contexts)
    # The second "cat" is not another answer; with one space it is another one than with two.
    weights = [math.exp(score) for score in (2.0, 1.0, 0.5)]
    assert [candidate[1] for candidate in first] == pytest.approx(
        [weight / sum(weights) for weight in weights]
    )
    assert [(one.text, one.score, one.start, one.end) for one in first] == [
        ("cat", 2.0, 5, 8),
        ("the  cat", 1.0, 0, 8),
        ("the cat", 0.5, 13, 20),
    ]
    assert [(one.text, one.start, one.end) for one in second] == [
        ("👍e\u0301", 0, 3),
        ("e\u0301", 1, 3),
    ]
    assert all(type(value) in (str, float, int) for one in (*first, *second) for value in one)


def test_no_span_at_all():
    spans = QuestionSpans(*np.zeros((2, 1, 2), int), np.full((1, 2), -math.inf), *np.zeros((2, 1)))
    assert best_texts(spans, ["something"]) == [""]
    assert list(n_best(spans, ["something"])) == [[]]
