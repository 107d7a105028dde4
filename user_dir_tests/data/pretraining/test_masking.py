"""How many tokens are masked, which, and what becomes of them."""

from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from convbert_plugin.data.pretraining.masking import MASKING_RECIPES, mask_tokens, masked_count

pytestmark = pytest.mark.pretraining

LENGTH = 128
COUNT = 19
EXAMPLES = 800
MASK = 4
WORDS = np.arange(5, 1000)
# [CLS], 60 tokens, [SEP], 65 tokens, [SEP]
SPECIAL = (0, 61, 127)
CANDIDATES = np.array([position for position in range(LENGTH) if position not in SPECIAL])


def mask_examples(objective, with_replacement=False, seed=1):
    """800 full examples, 102,400 tokens: the original tokens [N, T] and a Masking for each."""
    rng = np.random.default_rng(seed)
    originals = rng.choice(WORDS, size=(EXAMPLES, LENGTH))
    originals[:, SPECIAL] = 2, 3, 3
    recipe = MASKING_RECIPES[objective]
    maskings = [
        mask_tokens(tokens, CANDIDATES, COUNT, recipe, MASK, WORDS, with_replacement, rng)
        for tokens in originals.copy()
    ]
    return originals, maskings


def assert_binomial(count, draws, probability):
    assert stats.binomtest(int(count), draws, probability).pvalue > 1e-4


@pytest.mark.parametrize(
    ("length", "max_length", "expected"),
    [
        (128, 128, 19),
        (512, 512, 77),
        (3, 128, 1),
        (5, 128, 1),
        # Halves go to the even number: 1.5, 4.5, 7.5, 10.5, 13.5, 16.5.
        (10, 128, 2),
        (30, 128, 4),
        (50, 128, 8),
        (70, 128, 10),
        (90, 128, 14),
        (110, 128, 16),
        # The limit: int(0.155 x 10) = 1 under round(1.5) = 2.
        (10, 10, 1),
        (8, 8, 1),
    ],
)
def test_count_by_hand(length, max_length, expected):
    assert masked_count(length, 0.15, max_length) == expected


def test_count_in_exact_arithmetic():
    for max_length in range(8, 513):
        limit = int(Fraction(155, 1000) * max_length)
        for length in range(3, max_length + 1, 7):
            expected = max(1, min(limit, round(Fraction(15, 100) * length)))
            assert masked_count(length, 0.15, max_length) == expected


@pytest.mark.parametrize("objective", MASKING_RECIPES)
def test_positions_are_distinct_candidates(objective):
    originals, maskings = mask_examples(objective)
    for tokens, masking in zip(originals, maskings, strict=True):
        assert len(masking.positions) == len(set(masking.positions.tolist())) == COUNT
        assert np.isin(masking.positions, CANDIDATES).all()
        others = np.setdiff1d(np.arange(LENGTH), masking.positions)
        assert (masking.tokens[others] == tokens[others]).all()


@pytest.mark.parametrize("with_replacement", [False, True])
def test_positions_are_uniform_over_the_candidates(with_replacement):
    _, maskings = mask_examples("replaced_token_detection", with_replacement)
    drawn = np.concatenate([masking.positions for masking in maskings])
    counts = np.bincount(drawn, minlength=LENGTH)
    assert counts[list(SPECIAL)].sum() == 0
    assert stats.chisquare(counts[CANDIDATES]).pvalue > 1e-4


def test_no_order_among_the_positions_drawn():
    _, maskings = mask_examples("replaced_token_detection")
    first = np.array([masking.positions[0] for masking in maskings])
    last = np.array([masking.positions[-1] for masking in maskings])
    assert stats.ks_2samp(first, last).pvalue > 1e-4


def test_replaced_token_detection_masks_85_of_100_and_never_randomly():
    originals, maskings = mask_examples("replaced_token_detection")
    before = np.concatenate([t[m.positions] for t, m in zip(originals, maskings, strict=True)])
    after = np.concatenate([masking.tokens[masking.positions] for masking in maskings])
    assert set(after[after != before].tolist()) == {MASK}
    assert_binomial((after == MASK).sum(), EXAMPLES * COUNT, 0.85)


def test_masked_lm_masks_80_of_100_and_replaces_10():
    originals, maskings = mask_examples("masked_lm")
    before = np.concatenate([t[m.positions] for t, m in zip(originals, maskings, strict=True)])
    after = np.concatenate([masking.tokens[masking.positions] for masking in maskings])
    assert_binomial((after == MASK).sum(), EXAMPLES * COUNT, 0.8)
    # A random token is the original itself once in 995.
    assert_binomial((after == before).sum(), EXAMPLES * COUNT, 0.1 + 0.1 / len(WORDS))
    replaced = after[(after != before) & (after != MASK)]
    assert np.isin(replaced, WORDS).all()
    assert stats.chisquare(np.histogram(replaced, bins=5, range=(5, 1000))[0]).pvalue > 1e-4


def test_decisions_do_not_depend_on_the_place():
    _, maskings = mask_examples("replaced_token_detection")
    kept = [masking.tokens[masking.positions] != MASK for masking in maskings]
    counts = np.bincount(
        np.concatenate([m.positions[k] for m, k in zip(maskings, kept, strict=True)]),
        minlength=LENGTH,
    )
    assert stats.chisquare(counts[CANDIDATES]).pvalue > 1e-4


def test_with_replacement_as_released():
    """19 draws from 125: 125 x (1 - (124 / 125) ** 19) = 17.7 distinct ones."""
    _, maskings = mask_examples("replaced_token_detection", with_replacement=True)
    assert {len(masking.positions) for masking in maskings} == {COUNT}
    distinct = np.array([len(set(masking.positions.tolist())) for masking in maskings])
    expected = 125 * (1 - (124 / 125) ** 19)
    assert expected == pytest.approx(17.69, abs=0.005)
    assert distinct.mean() == pytest.approx(expected, abs=5 * distinct.std() / EXAMPLES**0.5)
    assert distinct.min() < COUNT


def test_a_position_drawn_twice_is_masked_if_either_draw_says_so():
    _, maskings = mask_examples("replaced_token_detection", with_replacement=True)
    masked = {1: [], 2: []}
    for masking in maskings:
        positions, draws = np.unique(masking.positions, return_counts=True)
        for times, results in masked.items():
            results.extend(masking.tokens[positions[draws == times]] == MASK)
    assert_binomial(np.sum(masked[1]), len(masked[1]), 0.85)
    assert len(masked[2]) > 500
    assert_binomial(np.sum(masked[2]), len(masked[2]), 1 - 0.15**2)


def test_fewer_candidates_than_draws():
    tokens = np.array([2, 7, 8, 3])
    recipe = MASKING_RECIPES["replaced_token_detection"]
    arguments = (tokens, np.array([1, 2]), 5, recipe, MASK, WORDS)
    masking = mask_tokens(*arguments, False, np.random.default_rng(1))
    assert sorted(masking.positions.tolist()) == [1, 2]
    masking = mask_tokens(*arguments, True, np.random.default_rng(1))
    assert len(masking.positions) == 5


def test_no_candidates():
    tokens = np.array([2, 3])
    recipe = MASKING_RECIPES["replaced_token_detection"]
    no_candidates = np.zeros(0, dtype=np.int64)
    for with_replacement in (False, True):
        masking = mask_tokens(
            tokens, no_candidates, 1, recipe, MASK, WORDS, with_replacement, np.random.default_rng()
        )
        assert masking.positions.tolist() == []
        assert masking.tokens.tolist() == [2, 3]


@pytest.mark.parametrize("objective", MASKING_RECIPES)
def test_original_tokens_are_left_alone(objective):
    tokens = np.arange(100, 100 + LENGTH)
    mask_tokens(
        *(tokens, CANDIDATES, COUNT, MASKING_RECIPES[objective], MASK, WORDS, False),
        np.random.default_rng(1),
    )
    assert tokens.tolist() == list(range(100, 100 + LENGTH))
