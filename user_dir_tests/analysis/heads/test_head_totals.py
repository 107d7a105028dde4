"""Sums over batches of texts against loops over tokens, and a search by hand."""

import math
from types import SimpleNamespace

import pytest
import torch

from convbert_plugin.analysis.heads.corpus_batches import CorpusBatch, CorpusText
from convbert_plugin.analysis.heads.head_totals import HeadTotals
from convbert_plugin.analysis.heads.kernel_search import Head, KernelSearch
from convbert_plugin.analysis.heads.measuring_heads import measured_heads
from convbert_plugin.errors import UserError
from convbert_plugin.modules.mixed_attention import AttentionMaps
from user_dir_tests.modules.building import shape_of

pytestmark = pytest.mark.experiments

LAYERS, HEADS, TAPS, REACH = 2, 3, 5, 2
BATCHES = ((7, 4, 1), (9,))


def random_maps(lengths, seed):
    """Attention to the real tokens of each text; what stands at pads must not matter."""
    generator = torch.Generator().manual_seed(seed)
    rows, length = len(lengths), max(lengths)
    scores = torch.randn(LAYERS, rows, HEADS, length, length, generator=generator).double()
    for row, size in enumerate(lengths):
        scores[:, row, :, :, size:] = -torch.inf
    logits = torch.randn(LAYERS, rows, HEADS, length, TAPS, generator=generator).double()
    return AttentionMaps(scores.softmax(dim=-1), logits.softmax(dim=-1))


def by_loops(batches, layer, head):
    """What each measure should be, token after token."""
    seen = []
    for maps, lengths in batches:
        for row, size in enumerate(lengths):
            for place in range(size):
                chances = maps.attention[layer, row, head, place, :size].tolist()
                kernel = maps.kernels[layer, row, head, place].tolist()
                away = [abs(key - place) for key in range(size)]
                seen.append(
                    {
                        "local_share": sum(
                            chance
                            for chance, steps in zip(chances, away, strict=True)
                            if steps <= REACH
                        ),
                        "mean_distance": sum(map(math.prod, zip(chances, away, strict=True))),
                        "uniform_share": sum(steps <= REACH for steps in away) / size,
                        "uniform_distance": sum(away) / size,
                        "centre": sum(
                            weight * (tap - TAPS // 2) for tap, weight in enumerate(kernel)
                        ),
                        "entropy": -sum(weight * math.log(weight) for weight in kernel),
                        "kernel": kernel,
                    }
                )
    return seen


@pytest.fixture
def batches():
    return [(random_maps(lengths, seed), lengths) for seed, lengths in enumerate(BATCHES)]


def mean(numbers):
    return math.fsum(numbers) / len(numbers)


def test_totals_are_means_over_the_tokens_of_all_texts(batches):
    totals = HeadTotals(REACH)
    for maps, lengths in batches:
        totals.add(maps, lengths)
    found = totals.result()
    assert (found["texts"], found["tokens"]) == (4, 21)
    for layer in range(LAYERS):
        for head in range(HEADS):
            seen = by_loops(batches, layer, head)
            centres = [one["centre"] for one in seen]
            spread = mean([(centre - mean(centres)) ** 2 for centre in centres]) ** 0.5
            kernel = [
                mean(weights) for weights in zip(*(one["kernel"] for one in seen), strict=True)
            ]
            nats = mean([one["entropy"] for one in seen])
            of_mean = -sum(weight * math.log(weight) for weight in kernel)
            expected = {
                ("attention", "local_share"): mean([one["local_share"] for one in seen]),
                ("attention", "mean_distance"): mean([one["mean_distance"] for one in seen]),
                ("kernels", "centre"): mean(centres),
                ("kernels", "centre_deviation"): spread,
                ("kernels", "entropy"): nats,
                ("kernels", "token_information"): of_mean - nats,
            }
            for (kind, name), value in expected.items():
                assert found[kind][name][layer][head] == pytest.approx(value, abs=1e-9)
            assert found["kernels"]["mean_kernel"][layer][head] == pytest.approx(kernel, abs=1e-9)
            uniform = {
                "local_share": mean([one["uniform_share"] for one in seen]),
                "mean_distance": mean([one["uniform_distance"] for one in seen]),
            }
            assert found["uniform"] == pytest.approx(uniform, abs=1e-9)


def test_a_model_without_kernels():
    totals = HeadTotals(REACH)
    totals.add(random_maps((4,), 1)._replace(kernels=None), (4,))
    assert totals.result()["kernels"] is None


@pytest.mark.parametrize("conv_type", ["conv", "none"])
def test_no_search_through_kernels_that_are_not_there(conv_type):
    convbert = SimpleNamespace(
        model=SimpleNamespace(shape=shape_of(conv_type=conv_type)),
        run=SimpleNamespace(path="run/checkpoint_best.pt"),
    )
    line = f"--head 1.0: run/checkpoint_best.pt has no kernels .* --conv-type is {conv_type}"
    with pytest.raises(UserError, match=line) as error:
        measured_heads(convbert, [], REACH, Head(1, 0), 3)
    assert "\n" not in str(error.value)


def test_places_of_a_search():
    """Of six tokens all kernels are flat but one at the second and an even pair at the fifth."""
    kernels = torch.full((1, 2, 2, 4, 3), 1 / 3, dtype=torch.float64)
    kernels[0, 0, 1, 1] = torch.tensor([0.0, 0.0, 1.0])
    kernels[0, 1, 1, 0] = torch.tensor([0.5, 0.5, 0.0])
    # At a pad of the second text, and in the other head: never found.
    kernels[0, 1, 1, 3] = kernels[0, 0, 0, 2] = torch.tensor([1.0, 0.0, 0.0])
    texts = [CorpusText(3, torch.tensor([5, 6, 7, 8])), CorpusText(4, torch.tensor([8, 6]))]
    search = KernelSearch(Head(0, 1))
    search.add(CorpusBatch(texts, torch.tensor([[5, 6, 7, 8], [8, 6, 0, 0]])), kernels)
    words = {5: "five", 6: "six", 7: "seven", 8: "eight"}
    found = search.result(words, 2)
    sharpest, second = found["sharpest"]
    assert (sharpest["line"], sharpest["position"], sharpest["token"]) == (3, 1, "six")
    assert (sharpest["entropy"], sharpest["centre"]) == pytest.approx((0, 1), abs=1e-9)
    assert sharpest["window"] == [["five", 0.0], ["six", 0.0], ["seven", 1.0]]
    assert (second["line"], second["position"]) == (4, 0)
    assert second["window"] == [[None, 0.5], ["eight", 0.5], ["six", 0.0]]
    assert second["entropy"] == pytest.approx(math.log(2), abs=1e-9)
    # The mean of six: (4/3 + 1/2, 4/3 + 1/2, 4/3 + 1) / 6.
    unlike = found["most_unlike_the_mean"]
    assert [place["position"] for place in unlike] == [1, 0]
    assert unlike[0]["divergence"] == pytest.approx(-math.log(7 / 18), abs=1e-9)
    assert unlike[1]["divergence"] == pytest.approx(math.log(0.5 / (11 / 36)), abs=1e-9)
