"""Measures of attention maps and kernels on patterns that are worked out by hand."""

import math

import pytest
import torch

from convbert_plugin.metrics.attention_measures import (
    centre_of_mass,
    divergence,
    entropy,
    local_share,
    mean_distance,
    uniform_attention,
)

pytestmark = pytest.mark.experiments

EXACT = 1e-9


def near(expected):
    return pytest.approx(expected, abs=EXACT)


def shifted(length, steps):
    """Every token looks so many steps ahead, the last ones at themselves."""
    places = torch.arange(length)
    places = torch.where(places + steps < length, places + steps, places)
    return torch.nn.functional.one_hot(places, length).double()


def test_a_uniform_pattern_of_twelve_tokens():
    found = local_share(uniform_attention(12))
    # The first token has itself and four others, the fifth to eighth have nine.
    keys = [5, 6, 7, 8, 9, 9, 9, 9, 8, 7, 6, 5]
    assert found.tolist() == near([count / 12 for count in keys])
    # 66 / 12 for the first: 0 + 1 + ... + 11; for the sixth: (5 + ... + 1) + (1 + ... + 6).
    distances = mean_distance(uniform_attention(12))
    assert (distances[0].item(), distances[5].item()) == near((66 / 12, 36 / 12))
    # Of all pairs: (n^2 - 1) / 3 n.
    assert distances.mean().item() == near(143 / 36)


@pytest.mark.parametrize("length", [1, 2, 5, 9, 10, 31])
def test_uniform_patterns_by_their_closed_formulas(length):
    pattern = uniform_attention(length)
    # Of n^2 pairs all but the two corners are near.
    corner = max(0, length - 5) * max(0, length - 4)
    assert local_share(pattern).mean().item() == near(1 - corner / length**2)
    assert mean_distance(pattern).mean().item() == near((length**2 - 1) / (3 * length))


def test_a_diagonal_pattern_is_all_local():
    assert local_share(torch.eye(17)).tolist() == near([1.0] * 17)
    assert mean_distance(torch.eye(17)).tolist() == near([0.0] * 17)


@pytest.mark.parametrize(("steps", "share"), [(1, 1.0), (4, 1.0), (5, 5 / 17), (16, 16 / 17)])
def test_a_shifted_pattern(steps, share):
    pattern = shifted(17, steps)
    assert local_share(pattern).mean().item() == near(share)
    # All but the last ones look that far.
    assert mean_distance(pattern).mean().item() == near(steps * (17 - steps) / 17)


def test_half_at_itself_and_half_six_tokens_on():
    pattern = (torch.eye(20) + shifted(20, 6)) / 2
    assert local_share(pattern)[:14].tolist() == near([0.5] * 14)
    assert mean_distance(pattern)[:14].tolist() == near([3.0] * 14)
    assert local_share(pattern, reach=6).tolist() == near([1.0] * 20)


def test_random_patterns_by_loops():
    generator = torch.Generator().manual_seed(3)
    pattern = torch.rand(2, 3, 11, 11, generator=generator).softmax(dim=-1)
    shares, distances = local_share(pattern), mean_distance(pattern)
    for row in range(2):
        for head in range(3):
            for query in range(11):
                chances = pattern[row, head, query].tolist()
                away = [abs(key - query) for key in range(11)]
                pairs = list(zip(chances, away, strict=True))
                expected = math.fsum(chance for chance, steps in pairs if steps <= 4)
                assert shares[row, head, query].item() == near(expected)
                expected = math.fsum(chance * steps for chance, steps in pairs)
                assert distances[row, head, query].item() == near(expected)


KERNELS = {
    "middle": ([0, 0, 1, 0, 0], 0.0, 0.0),
    "next": ([0, 0, 0, 1, 0], 1.0, 0.0),
    "two before": ([1, 0, 0, 0, 0], -2.0, 0.0),
    "uniform": ([0.2] * 5, 0.0, math.log(5)),
    "both ends": ([0.5, 0, 0, 0, 0.5], 0.0, math.log(2)),
    "uneven": ([0, 0.25, 0, 0.75, 0], 0.5, math.log(4) - 0.75 * math.log(3)),
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_by_hand(name):
    kernel, centre, nats = KERNELS[name]
    kernels = torch.tensor(kernel, dtype=torch.float64).expand(2, 3, 5)
    assert centre_of_mass(kernels).flatten().tolist() == near([centre] * 6)
    assert entropy(kernels).flatten().tolist() == near([nats] * 6)


def test_divergences_by_hand():
    first, last = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]], dtype=torch.float64)
    mean = (first + last) / 2
    found = divergence(torch.stack([first, last, mean]), mean)
    assert found.tolist() == near([math.log(2), math.log(2), 0.0])
    assert divergence(mean, first).item() == math.inf
    uneven = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    flat = torch.full((3,), 1 / 3, dtype=torch.float64)
    assert divergence(uneven, flat).item() == near(math.log(3) - 1.5 * math.log(2))


def test_mean_divergence_is_what_the_tokens_tell():
    """The entropy of the mean kernel, less the mean of their entropies."""
    generator = torch.Generator().manual_seed(5)
    kernels = torch.rand(40, 9, generator=generator, dtype=torch.float64).softmax(dim=-1)
    mean = kernels.mean(dim=0)
    expected = entropy(mean) - entropy(kernels).mean()
    assert divergence(kernels, mean).mean().item() == near(expected.item())
