"""Replacement tokens: against the exact inverse, against Gumbel noise, and at the edges."""

import numpy as np
import pytest
import torch
from scipy import stats

from convbert_plugin.ops.sampling import replace_tokens, sample_by_gumbel, sample_by_inverse

pytestmark = pytest.mark.pretraining

DRAWS = 100_000
VOCABULARY = 30522
# Of larger pieces the memory costs more time than the draws.
NUMBERS_AT_ONCE = 600_000
# A right sampler fails a test at this level once in ten thousand seeds; the seeds are fixed.
SIGNIFICANCE = 1e-4
LARGEST_UNIFORM = 1 - 2**-24
SMALL_SHAPES = ("uniform", "two tokens", "Zipf", "very peaked", "random", "with zeros")


def distribution(shape, size=41, seed=5):
    rng = np.random.default_rng(seed)
    if shape == "uniform":
        weights = np.ones(size)
    elif shape == "two tokens":
        weights = np.array([0.3, 0.7])
    elif shape == "Zipf":
        weights = rng.permutation(1 / np.arange(1, size + 1))
    elif shape == "very peaked":
        weights = np.full(size, 1e-5)
        weights[size // 3] = 1
    elif shape == "random":
        weights = np.exp(2 * rng.normal(size=size))
    else:
        weights = rng.random(size) * (rng.random(size) < 0.5)
        weights[[0, -1]] = 0
    return weights / weights.sum()


def draw_by_inverse(probabilities, uniforms):
    """Draws of one distribution; a copy of it a draw would not fit into memory at once."""
    rows = torch.as_tensor(probabilities).unsqueeze(0)
    chunk = NUMBERS_AT_ONCE // len(probabilities)
    return torch.cat(
        [sample_by_inverse(rows.expand(len(part), -1), part) for part in uniforms.split(chunk)]
    ).numpy()


def draw_by_gumbel(probabilities, draws, seed):
    chunk = min(draws, NUMBERS_AT_ONCE // len(probabilities))
    logits = torch.as_tensor(probabilities).log().unsqueeze(0)
    generator = torch.Generator().manual_seed(seed)
    return torch.cat(
        [sample_by_gumbel(logits.expand(chunk, -1), generator) for _ in range(-(-draws // chunk))]
    )[:draws].numpy()


def random_uniforms(count, seed=1):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.random(count, dtype=np.float32))


def rare_pooled(counts, expected, at_least=10):
    """Tokens of few expected draws together, as the chi-square test needs it."""
    rare = expected < at_least
    return (np.append(each[~rare], each[rare].sum()) for each in (counts, expected))


def chi_square_p_value(counts, probabilities):
    counts, expected = rare_pooled(counts, counts.sum() * probabilities)
    assert (counts[expected == 0] == 0).all()
    return stats.chisquare(counts[expected > 0], expected[expected > 0]).pvalue


@pytest.mark.parametrize("shape", SMALL_SHAPES)
def test_inverse_and_gumbel_draw_from_the_distribution(shape):
    probabilities = distribution(shape)
    by_inverse, by_gumbel = (
        np.bincount(draws, minlength=len(probabilities))
        for draws in (
            draw_by_inverse(probabilities.astype(np.float32), random_uniforms(DRAWS)),
            draw_by_gumbel(probabilities, DRAWS, seed=2),
        )
    )
    assert by_inverse.sum() == by_gumbel.sum() == DRAWS
    assert chi_square_p_value(by_inverse, probabilities) > SIGNIFICANCE
    assert chi_square_p_value(by_gumbel, probabilities) > SIGNIFICANCE
    common = by_inverse + by_gumbel
    pooled = [next(rare_pooled(counts, common)) for counts in (by_inverse, by_gumbel)]
    pooled = np.array(pooled)[:, sum(pooled) > 0]
    assert stats.chi2_contingency(pooled).pvalue > SIGNIFICANCE


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "count"), [("very peaked", 20_000), ("random", DRAWS)])
def test_total_variation_over_a_whole_vocabulary(shape, count):
    """The mean of the distance is bounded by Cauchy-Schwarz, its excess by McDiarmid."""
    probabilities = distribution(shape, size=VOCABULARY)
    for draws in (
        draw_by_inverse(probabilities.astype(np.float32), random_uniforms(count)),
        draw_by_gumbel(probabilities, 2_000, seed=3),
    ):
        frequencies = np.bincount(draws, minlength=VOCABULARY) / len(draws)
        distance = np.abs(frequencies - probabilities).sum() / 2
        mean = np.sqrt(probabilities * (1 - probabilities) / len(draws)).sum() / 2
        excess = np.sqrt(np.log(1 / SIGNIFICANCE) / (2 * len(draws)))
        assert distance <= mean + excess


def test_an_even_grid_draws_each_token_as_often_as_its_share():
    """Of n even steps, n * p fall on a token, give or take one and the rounding of fp32."""
    probabilities = distribution("random", size=VOCABULARY)
    uniforms = ((torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000).float()
    counts = np.bincount(
        draw_by_inverse(probabilities.astype(np.float32), uniforms), minlength=VOCABULARY
    )
    assert np.abs(counts - 20_000 * probabilities).max() <= 1 + 20_000 * 1e-6


@pytest.mark.parametrize("size", [2, 41, VOCABULARY])
def test_equals_the_inverse_in_float64(size):
    rng = np.random.default_rng(6)
    weights = np.exp(3 * rng.normal(size=(64, size)))
    probabilities = weights / weights.sum(axis=1, keepdims=True)
    uniforms = rng.random(64)
    result = sample_by_inverse(torch.tensor(probabilities), torch.tensor(uniforms))
    expected = [
        np.searchsorted(np.cumsum(row) / row.sum(), uniform, side="right")
        for row, uniform in zip(probabilities, uniforms, strict=True)
    ]
    assert result.tolist() == expected


def test_float32_misses_the_inverse_by_rounding_alone():
    """The uniform number lies in the token's interval, give or take 1e-6."""
    rng = np.random.default_rng(7)
    logits = torch.tensor(3 * rng.normal(size=(400, VOCABULARY)), dtype=torch.float32)
    probabilities = logits.softmax(-1)
    uniforms = random_uniforms(400)
    drawn = sample_by_inverse(probabilities, uniforms).numpy()
    ends = np.cumsum(probabilities.double().numpy(), axis=1)
    ends /= ends[:, -1:]
    rows = np.arange(400)
    starts = np.where(drawn > 0, ends[rows, drawn - 1], 0)
    assert (starts - 1e-6 <= uniforms.numpy()).all()
    assert (uniforms.numpy() <= ends[rows, drawn] + 1e-6).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("uniform", [0.0, 2**-24, 0.25, 0.5, LARGEST_UNIFORM])
def test_tokens_of_probability_zero_are_never_drawn(uniform, dtype):
    generator = torch.Generator().manual_seed(8)
    probabilities = torch.rand(500, 97, generator=generator, dtype=dtype)
    probabilities *= torch.rand(500, 97, generator=generator) < 0.3
    probabilities[:, :3] = 0
    probabilities[:, -3:] = 0
    probabilities /= probabilities.sum(dim=1, keepdim=True)
    # sums that differ from one by rounding, to both sides
    probabilities *= torch.linspace(1 - 1e-6, 1 + 1e-6, 500, dtype=dtype).unsqueeze(1)
    drawn = sample_by_inverse(probabilities, torch.full((500,), uniform))
    assert (probabilities.gather(1, drawn.unsqueeze(1)) > 0).all()


@pytest.mark.parametrize(
    ("probabilities", "uniform", "token"),
    [
        ([0.25, 0.25, 0.5], 0.0, 0),
        ([0.25, 0.25, 0.5], 0.25, 1),
        ([0.25, 0.25, 0.5], 0.499, 1),
        ([0.25, 0.25, 0.5], 0.5, 2),
        ([0.25, 0.25, 0.5], LARGEST_UNIFORM, 2),
        ([0.0, 1.0, 0.0], 0.0, 1),
        ([0.0, 1.0, 0.0], LARGEST_UNIFORM, 1),
        ([0.0, 0.0, 1.0], 0.0, 2),
        ([1.0, 0.0, 0.0], LARGEST_UNIFORM, 0),
        ([0.5, 0.0, 0.5], 0.5, 2),
        ([0.1] * 10, LARGEST_UNIFORM, 9),
    ],
)
def test_by_hand(probabilities, uniform, token):
    result = sample_by_inverse(torch.tensor([probabilities]), torch.tensor([uniform]))
    assert result.tolist() == [token]


def test_a_draw_does_not_depend_on_the_rest_of_the_batch():
    generator = torch.Generator().manual_seed(9)
    probabilities = torch.randn(60, 997, generator=generator).softmax(-1)
    uniforms = random_uniforms(60)
    together = sample_by_inverse(probabilities, uniforms)
    order = torch.randperm(60, generator=generator)
    assert torch.equal(sample_by_inverse(probabilities[order], uniforms[order]), together[order])
    alone = [sample_by_inverse(probabilities[i : i + 1], uniforms[i : i + 1]) for i in range(60)]
    assert torch.equal(torch.cat(alone), together)


def test_nothing_to_draw():
    assert sample_by_inverse(torch.empty(0, 7), torch.empty(0)).shape == (0,)


def replace_by_loops(tokens, positions, replacements):
    given = {}
    for position, replacement in zip(positions, replacements, strict=True):
        given.setdefault(position, []).append(replacement)
    flat = tokens.flatten().copy()
    for position, values in given.items():
        flat[position] = sum(values) // len(values)
    return flat.reshape(tokens.shape)


def test_replacements_equal_the_loops():
    rng = np.random.default_rng(10)
    for draws in (0, 1, 17, 60):
        tokens = rng.integers(0, VOCABULARY, size=(5, 13))
        before = tokens.copy()
        positions = rng.integers(0, tokens.size, size=draws)
        replacements = rng.integers(0, VOCABULARY, size=draws)
        result = replace_tokens(*(torch.tensor(x) for x in (tokens, positions, replacements)))
        assert np.array_equal(result, replace_by_loops(tokens, positions, replacements))
        assert np.array_equal(tokens, before)


def test_a_position_that_stands_twice_gets_the_whole_number_mean():
    tokens = torch.tensor([[10, 11, 12], [13, 14, 15]])
    positions = torch.tensor([4, 1, 4, 5, 5, 5])
    replacements = torch.tensor([100, 7, 103, 1, 1, 3])
    result = replace_tokens(tokens, positions, replacements)
    assert result.tolist() == [[10, 7, 12], [13, 101, 1]]
    assert tokens.tolist() == [[10, 11, 12], [13, 14, 15]]
