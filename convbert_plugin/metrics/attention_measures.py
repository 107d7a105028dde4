"""How local attention is, and what the kernels of a convolution look at; in float64."""

import torch
from torch import Tensor

REACH = 4
"""Tokens to either side that count as local: what a kernel of nine taps sees."""


def local_share(attention: Tensor, reach: int = REACH) -> Tensor:
    """The probability [..., T] that each query gives to keys at most ``reach`` tokens away.

    Shapes, here and in what follows: attention [..., T, T] of queries over keys.
    """
    near = _distances(attention) <= reach
    return (attention.double() * near).sum(dim=-1)


def mean_distance(attention: Tensor) -> Tensor:
    """How many tokens away [..., T] each query looks, in the mean."""
    return (attention.double() * _distances(attention)).sum(dim=-1)


def uniform_attention(length: int) -> Tensor:
    """The pattern [T, T] of a text of that length that looks everywhere alike."""
    return torch.full((length, length), 1 / length, dtype=torch.float64)


def centre_of_mass(kernels: Tensor) -> Tensor:
    """Where kernels [..., K] look, in tokens after their own: [...]."""
    taps = kernels.size(-1)
    offsets = torch.arange(taps, dtype=torch.float64, device=kernels.device) - taps // 2
    return kernels.double() @ offsets


def entropy(probabilities: Tensor) -> Tensor:
    """Of the last dimension, in nats: [...]."""
    return torch.special.entr(probabilities.double()).sum(dim=-1)


def divergence(probabilities: Tensor, reference: Tensor) -> Tensor:
    """Kullback and Leibler's, of the last dimension from that of a reference, in nats: [...].

    Of many kernels from their mean, its own mean is the mutual information of token and tap: 0
    where all tokens have the same kernel.
    """
    # What no reference has at all is met with infinity, unless it is nowhere either.
    ratio = probabilities.double().log() - reference.double().log()
    terms = torch.where(probabilities > 0, probabilities.double() * ratio, 0)
    return terms.sum(dim=-1)


def _distances(attention: Tensor) -> Tensor:
    places = torch.arange(attention.size(-1), dtype=torch.float64, device=attention.device)
    return (places - places[:, None]).abs()
