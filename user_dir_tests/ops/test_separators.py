"""Segment ids that follow from the separators."""

import numpy as np
import pytest
import torch

from convbert_plugin.ops.separators import segments_from_separators

pytestmark = pytest.mark.pretraining

SEPARATOR, PAD = 3, 0


def segments_by_loops(tokens):
    segments = np.zeros_like(tokens)
    for row in range(len(tokens)):
        seen = False
        for time, token in enumerate(tokens[row]):
            segments[row, time] = int(seen and token != PAD)
            seen = seen or token == SEPARATOR
    return segments


@pytest.mark.parametrize(
    ("tokens", "segments"),
    [
        ([2, 7, 8, 3, 9, 3, 0, 0], [0, 0, 0, 0, 1, 1, 0, 0]),
        ([2, 7, 8, 9, 5, 3, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]),
        ([2, 7, 3, 8, 3, 9, 3, 0], [0, 0, 0, 1, 1, 1, 1, 0]),
        ([3, 7, 8, 0, 9, 9, 9, 9], [0, 1, 1, 0, 1, 1, 1, 1]),
        ([2, 7, 8, 9, 9, 9, 9, 9], [0, 0, 0, 0, 0, 0, 0, 0]),
    ],
    ids=["two", "one", "three", "separator first, pad inside", "no separator"],
)
def test_by_hand(tokens, segments):
    result = segments_from_separators(torch.tensor([tokens]), SEPARATOR, PAD)
    assert result.tolist() == [segments]


def test_equals_the_loops():
    tokens = np.random.default_rng(1).integers(0, 9, size=(40, 23))
    result = segments_from_separators(torch.tensor(tokens), SEPARATOR, PAD)
    assert result.dtype == torch.int64
    assert np.array_equal(result, segments_by_loops(tokens))
