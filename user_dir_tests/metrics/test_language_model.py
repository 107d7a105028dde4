"""The unigram cross-entropy against scipy and against hand-worked numbers."""

import math

import numpy as np
import pytest
from scipy import stats

from convbert_plugin.metrics.language_model import unigram_cross_entropy


def test_hand_worked():
    # Smoothed: 4/8, 2/8, 1/8, 1/8. Held out: the first twice, the last once.
    result = unigram_cross_entropy([3, 1, 0, 0], [2, 0, 0, 1])
    assert type(result) is float
    assert result == pytest.approx((2 * math.log(2) + math.log(8)) / 3, rel=1e-14)


def test_against_scipy():
    generator = np.random.default_rng(0)
    train, heldout = generator.integers(0, 50, 997), generator.integers(0, 5, 997)
    # Cross-entropy = entropy + Kullback-Leibler divergence; scipy normalizes both.
    expected = stats.entropy(heldout) + stats.entropy(heldout, train + 1)
    assert unigram_cross_entropy(train, heldout) == pytest.approx(expected, rel=1e-12)


def test_an_empty_training_set_gives_the_uniform_distribution():
    assert unigram_cross_entropy([0] * 7, [1, 2, 3, 0, 0, 0, 9]) == pytest.approx(math.log(7))


@pytest.mark.parametrize(
    ("train", "heldout", "words"),
    [([1, 2], [1, 2, 3], "one vocabulary"), ([1, 2], [0, 0], "no held-out token")],
)
def test_senseless_counts_are_refused(train, heldout, words):
    with pytest.raises(ValueError, match=words):
        unigram_cross_entropy(train, heldout)
