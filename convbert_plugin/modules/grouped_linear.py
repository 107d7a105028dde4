"""A linear layer over groups of channels (paper section 3.3)."""

import torch
from torch import Tensor, nn

from convbert_plugin.modules.initialization import linear, truncated_normal_
from convbert_plugin.ops.grouped_product import grouped_linear, grouped_product
from convbert_plugin.ops.products import product


class GroupedLinear(nn.Module):
    """Each group of channels through a matrix of its own.

    Shapes: [..., in_features] -> [..., out_features]; weight [G, in / G, out / G], stored as
    released, without the transposition of nn.Linear.
    """

    def __init__(self, in_features: int, out_features: int, groups: int):
        super().__init__()
        weight = torch.empty(groups, in_features // groups, out_features // groups)
        self.weight = nn.Parameter(truncated_normal_(weight))
        self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, x: Tensor) -> Tensor:
        return grouped_linear(x, self.weight, self.bias)


def without_bias(layer: nn.Module, x: Tensor) -> Tensor:
    """The product of a dense or grouped layer, for whoever adds its bias in passing."""
    if isinstance(layer, GroupedLinear):
        return grouped_product(x, layer.weight)
    return product(x, layer.get_parameter("weight"))


def feed_forward_linear(in_features: int, out_features: int, groups: int) -> nn.Module:
    """One of the feed-forward's two layers: dense for one group, else grouped."""
    if groups == 1:
        return linear(in_features, out_features)
    return GroupedLinear(in_features, out_features, groups)
