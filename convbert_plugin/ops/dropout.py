"""Dropout whose random numbers are cheap on a CPU.

torch draws a float for each number that may be dropped, one after the other. Here a random word of
64 bits decides for four: one is dropped where its 16 bits, read as a whole number, are below the
rate's share of 65,536. So the rate is that of the nearest of its 65,536th parts, 8e-6 away at most,
and what is kept is scaled by that rate: its expectation is exact. The words come from torch's
generator, with which a resumed run goes on.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

LEVELS = 1 << 16
_PER_WORD = 4
_LOWEST = -(1 << 63)


def is_cheap(states: Tensor, rate: float) -> bool:
    """Whether such dropout goes another way than torch's: on a CPU, unless a compiler fuses it."""
    return not torch.compiler.is_compiling() and states.device.type == "cpu" and rate > 0


def dropout(states: Tensor, rate: float) -> Tensor:
    """Zeros at that rate, and what remains scaled to the same expectation; of any shape."""
    if is_cheap(states, rate):
        return _Dropout.apply(states, rate)
    return F.dropout(states, rate) if rate else states


def dropped_levels(rate: float) -> int:
    """How many of the 65,536 values of random bits drop a number; never all of them."""
    return min(round(rate * LEVELS), LEVELS - 1)


def scale_of_kept(rate: float) -> float:
    """By what the numbers that remain are multiplied, so that their expectation does not change."""
    return LEVELS / (LEVELS - dropped_levels(rate))


def random_bits(shape: torch.Size) -> Tensor:
    """16 random bits for each number, int16, on the CPU."""
    words = torch.empty(-(-shape.numel() // _PER_WORD), dtype=torch.int64)
    return words.random_(_LOWEST, None).view(torch.int16)[: shape.numel()].view(shape)


def kept(bits: Tensor, rate: float, dtype: torch.dtype) -> Tensor:
    """1 for what is kept and 0 for what is dropped, as numbers: booleans multiply slowly."""
    ones = torch.empty(bits.shape, dtype=dtype)
    return torch.ge(bits, dropped_levels(rate) - LEVELS // 2, out=ones)


class _Dropout(torch.autograd.Function):
    """Keeps 16 random bits a number, where torch keeps a float."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, rate: float) -> Tensor:
        bits = random_bits(states.shape)
        ctx.save_for_backward(bits)
        ctx.rate = rate
        return kept(bits, rate, states.dtype).mul_(states).mul_(scale_of_kept(rate))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (bits,) = ctx.saved_tensors
        return kept(bits, ctx.rate, grad.dtype).mul_(grad).mul_(scale_of_kept(ctx.rate)), None
