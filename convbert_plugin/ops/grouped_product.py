"""The grouped linear layer of the medium-small model (paper section 3.3)."""

import torch
from torch import Tensor


def grouped_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Map contiguous blocks of channels, each by a matrix of its own.

    Shapes: x [..., G * I], weight [G, I, O], bias [G * O] -> [..., G * O]. Output blocks stay in
    the order of the groups. Source: the released modeling.py:41-161.
    """
    output = grouped_product(x, weight)
    # Under autocast the product is in half precision, and an fp32 bias would widen it again.
    return output + bias.to(output.dtype)


def grouped_product(x: Tensor, weight: Tensor) -> Tensor:
    """:func:`grouped_linear` without its bias."""
    groups, _, out_features = weight.shape
    blocks = x.reshape(-1, groups, weight.size(1)).transpose(0, 1)
    output = torch.bmm(blocks, weight).transpose(0, 1)
    return output.reshape(*x.shape[:-1], groups * out_features)


def grouped_linear_reference(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The definition of :func:`grouped_linear`: one dense matrix, zero off its diagonal blocks."""
    return x @ torch.block_diag(*weight) + bias
