import itertools

import numpy as np
import pytest

from convbert_plugin.data.pairs import frame, join, truncated_lengths

pytestmark = pytest.mark.glue

BEGIN, SEPARATOR = 101, 102


def popped_lengths(first, second, room):
    """The released loop (classification_tasks.py:296-310) on lists."""
    first, second = [0] * first, [0] * second
    while len(first) + len(second) > room:
        (first if len(first) > len(second) else second).pop()
    return len(first), len(second)


def test_truncation_is_the_released_loop():
    for lengths in itertools.product(range(12), range(12), range(14)):
        assert truncated_lengths(*lengths) == popped_lengths(*lengths), lengths


def text(first, length):
    return np.arange(first, first + length, dtype=np.int32)


@pytest.mark.parametrize(
    ("texts", "max_length", "tokens", "segments"),
    [
        ([text(1, 3)], 5, [101, 1, 2, 3, 102], [0] * 5),
        ([text(1, 3)], 4, [101, 1, 2, 102], [0] * 4),
        ([text(1, 0)], 4, [101, 102], [0] * 2),
        ([text(1, 2), text(7, 3)], 8, [101, 1, 2, 102, 7, 8, 9, 102], [0, 0, 0, 0, 1, 1, 1, 1]),
        ([text(1, 2), text(7, 3)], 7, [101, 1, 2, 102, 7, 8, 102], [0, 0, 0, 0, 1, 1, 1]),
        # Both are equally long: the second one gives way.
        ([text(1, 2), text(7, 2)], 6, [101, 1, 2, 102, 7, 102], [0, 0, 0, 0, 1, 1]),
        ([text(1, 0), text(7, 2)], 9, [101, 102, 7, 8, 102], [0, 0, 1, 1, 1]),
        ([text(1, 2), text(7, 0)], 9, [101, 1, 2, 102, 102], [0, 0, 0, 0, 1]),
        ([text(1, 9), text(7, 9)], 3, [101, 102, 102], [0, 0, 1]),
    ],
)
def test_texts_stand_between_the_special_tokens(texts, max_length, tokens, segments):
    joined = join(texts, BEGIN, SEPARATOR, max_length)
    assert joined.tokens.tolist() == tokens
    assert joined.segments.tolist() == segments
    assert joined.tokens.dtype == joined.segments.dtype == np.int64


def test_any_number_of_texts_is_framed_whole():
    framed = frame([[1, 2], [], [7], [8]], BEGIN, SEPARATOR)
    assert framed.tokens.tolist() == [101, 1, 2, 102, 102, 7, 102, 8, 102]
    # The vocabulary of segments has two: what follows the first separator is the second one.
    assert framed.segments.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert frame([], BEGIN, SEPARATOR).tokens.tolist() == [101]
