"""Measures of every attention head and every kernel, as means over the tokens of a corpus."""

from typing import Any, Iterable, Optional

import torch
from torch import Tensor

from convbert_plugin.metrics.attention_measures import (
    centre_of_mass,
    entropy,
    local_share,
    mean_distance,
    uniform_attention,
)
from convbert_plugin.modules.mixed_attention import AttentionMaps


class HeadTotals:
    """Sums over tokens, those that frame a text among them; pads count nowhere.

    ``sums``: [L, H] by names, and of kernels [L, H, K]; ``uniform``: the same of texts of the same
    lengths that are looked at everywhere alike.
    """

    def __init__(self, reach: int):
        self.reach, self.texts, self.tokens = reach, 0, 0
        self.sums: dict[str, Tensor] = {}
        self.uniform = {"local_share": 0.0, "mean_distance": 0.0}

    def add(self, maps: AttentionMaps, lengths: Iterable[int]) -> None:
        """Of a batch of texts of those lengths; shapes [L, B, H, T, T] and [L, B, H, T, K]."""
        sizes = list(lengths)
        attention, kernels = maps
        places = torch.arange(attention.size(-1), device=attention.device)
        real = places < torch.tensor(sizes, device=attention.device)[:, None]
        self.texts += len(sizes)
        self.tokens += sum(sizes)
        self._add("local_share", [local_share(each, self.reach) for each in attention], real)
        self._add("mean_distance", [mean_distance(each) for each in attention], real)
        for size in sizes:
            pattern = uniform_attention(size)
            self.uniform["local_share"] += local_share(pattern, self.reach).sum().item()
            self.uniform["mean_distance"] += mean_distance(pattern).sum().item()
        if kernels is None:
            return
        centres = centre_of_mass(kernels)
        self._add("centre", centres, real)
        self._add("squared_centre", centres.square(), real)
        self._add("entropy", entropy(kernels), real)
        for name, power in (("kernel", 1), ("squared_kernel", 2)):
            total = torch.einsum("lbhtk,bt->lhk", kernels.double() ** power, real.double())
            self.sums[name] = self.sums.get(name, 0) + total.cpu()

    def _add(self, name: str, values: Any, real: Tensor) -> None:
        """``values``: [B, H, T] of every layer."""
        layers = [torch.einsum("bht,bt->h", each, real.double()) for each in values]
        self.sums[name] = self.sums.get(name, 0) + torch.stack(layers).cpu()

    def mean_kernels(self) -> Optional[Tensor]:
        """[L, H, K], None of a model without kernels."""
        return self.sums["kernel"] / self.tokens if "kernel" in self.sums else None

    def result(self) -> dict[str, Any]:
        """Plain values: lists [L][H] of means over tokens, of kernels [L][H][K], and uniform ones.

        ``token_information``: the entropy of the mean kernel less the mean entropy, in nats: 0
        where a head has the same kernel at every token.
        """
        means = {name: total / self.tokens for name, total in self.sums.items()}
        found: dict[str, Any] = {
            "texts": self.texts,
            "tokens": self.tokens,
            "reach": self.reach,
            "attention": {name: means[name].tolist() for name in ("local_share", "mean_distance")},
            "uniform": {name: total / self.tokens for name, total in self.uniform.items()},
            "kernels": None,
        }
        mean_kernels = self.mean_kernels()
        if mean_kernels is not None:
            found["kernels"] = {
                "mean_kernel": mean_kernels.tolist(),
                "kernel_deviation": _deviation(means, "kernel").tolist(),
                "centre": means["centre"].tolist(),
                "centre_deviation": _deviation(means, "centre").tolist(),
                "entropy": means["entropy"].tolist(),
                "token_information": (entropy(mean_kernels) - means["entropy"]).tolist(),
            }
        return found


def _deviation(means: dict[str, Tensor], name: str) -> Tensor:
    variance = means[f"squared_{name}"] - means[name].square()
    return variance.clamp(min=0).sqrt()
