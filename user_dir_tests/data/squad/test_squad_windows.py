from fractions import Fraction

import numpy as np
import pytest

from convbert_plugin.data.squad.squad_windows import make_windows
from convbert_plugin.errors import UserError
from convbert_plugin.formats.reading import Reading

pytestmark = pytest.mark.squad


def windows_by_token(query_length, context_length, reading):
    """BERT's two loops over the tokens of one question, in exact numbers."""
    room = reading.length - min(query_length, reading.max_query_length) - 3
    spans, start = [], 0
    while start < context_length:
        length = min(context_length - start, room)
        spans.append((start, length))
        if start + length == context_length:
            break
        start += min(length, reading.doc_stride)
    scored = [[] for _ in spans]
    for token in range(context_length):
        best = None
        for number, (first, length) in enumerate(spans):
            if first <= token < first + length:
                left, right = token - first, first + length - 1 - token
                score = min(left, right) + Fraction(length, 100)
                if best is None or score > best[0]:
                    best = score, number
        scored[best[1]].append(token)
    return spans, scored


SETTINGS = [
    # Of one window, of many, of windows that follow each other without sharing a token.
    (Reading(length=30, doc_stride=7, max_query_length=9), range(1, 90, 1)),
    (Reading(length=20, doc_stride=100, max_query_length=5), range(1, 70)),
    (Reading(length=12, doc_stride=1, max_query_length=8), range(1, 40)),
    # A last window that is shorter by over a hundred tokens is worse for all but its last ones.
    (Reading(length=400, doc_stride=210, max_query_length=5), [*range(380, 640), 1000]),
    (Reading(length=512, doc_stride=128), [500, 513, 577, 640, 641, 705, 1700]),
]


@pytest.mark.parametrize(("reading", "contexts"), SETTINGS)
def test_windows_and_what_is_scored_in_them_are_those_of_the_loops_over_tokens(reading, contexts):
    queries = np.random.default_rng(0).integers(1, 2 * reading.max_query_length, len(contexts))
    windows = make_windows(queries, np.array(contexts), reading)
    rows = list(zip(*windows, strict=True))
    for question, (query, context) in enumerate(zip(queries, contexts, strict=True)):
        own = [row[1:] for row in rows if row[0] == question]
        spans, scored = windows_by_token(query, context, reading)
        assert [(first, length) for first, length, _, _ in own] == spans
        assert [list(range(begin, end)) for _, _, begin, end in own] == scored


def test_a_context_without_tokens_has_one_empty_window():
    windows = make_windows(np.array([4, 3]), np.array([0, 5]), Reading(length=20))
    assert [column.tolist() for column in windows] == [[0, 1], [0, 0], [0, 5], [0, 0], [0, 5]]


def test_a_question_that_fills_its_window_is_refused():
    reading = Reading(length=13, max_query_length=10)
    with pytest.raises(UserError, match=r"--tokens-per-sample 13: .* 10 tokens.*raise it"):
        make_windows(np.array([4, 11]), np.array([5, 5]), reading)
    assert len(make_windows(np.array([9]), np.array([3]), reading).question) == 3


def test_there_may_be_no_questions():
    windows = make_windows(np.array([], int), np.array([], int), Reading())
    assert [len(column) for column in windows] == [0] * 5
