"""The span convolution as products with bands, in operations of torch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from convbert_plugin.ops.precision import at_least_fp32
from convbert_plugin.ops.texts import rounded_up

# Positions of a product. Measured on a CPU against 16, 32 and 64: the fastest with 9 taps, and
# within a tenth of that with 31 to 1,023.
BLOCK = 8


class BandedConvolution:
    """Convolutions of the states of one head [B, T, R], in blocks of P positions; their memory.

    Each block is one product: its band [P, P + K - 1], on whose diagonals the kernels of the
    positions stand, times the window that they reach [P + K - 1, R]. Blocks and windows are views
    of one memory, with so many zeros between rows that no window reaches two. What is not finite
    also meets the zeros of a band: it spreads as far as P - 1 positions too far, within its row.
    """

    def __init__(self, states: Tensor, taps: int):
        batch, self.length, _, channels = states.shape
        reach, self.taps = taps // 2, taps
        self.rows = (batch, rounded_up(self.length, BLOCK) + rounded_up(reach, BLOCK))
        positions = math.prod(self.rows)
        dtype = at_least_fp32(states.dtype)
        memory = states.new_zeros(positions + 2 * reach, channels, dtype=dtype)
        self.states = memory[reach : reach + positions]
        self.blocks = self.states.unflatten(0, (positions // BLOCK, BLOCK))
        self.windows = memory.as_strided(
            (positions // BLOCK, BLOCK + 2 * reach, channels), (BLOCK * channels, channels, 1)
        )
        # Read in rows that are shorter by one, so that each kernel begins one place further right.
        self.kernels = memory.new_zeros(positions, taps + BLOCK)
        self.bands = (
            self.kernels.view(positions // BLOCK, BLOCK * (taps + BLOCK))[:, :-BLOCK]
        ).unflatten(1, (BLOCK, taps + BLOCK - 1))
        self.sums, self.all_products = memory.new_empty(0), memory.new_empty(0)

    def see(self, states: Tensor) -> None:
        # What is contiguous is widened several times as fast.
        is_wide = states.dtype == self.states.dtype
        self._in_rows(self.states).copy_(states if is_wide else states.contiguous())

    def convolved(self, kernel: Tensor) -> Tensor:
        """With kernels [B, K, T] -> [B, T, R]."""
        self._in_rows(self.kernels)[..., : self.taps] = kernel.transpose(1, 2)
        # Autocast leaves a product into given memory in its precision.
        torch.bmm(self.bands, self.windows, out=self.sums)
        return self._in_rows(self.sums)

    def products(self, others: "BandedConvolution") -> Tensor:
        """Of what stands at each position of others with all that it reaches here [B, K, T]."""
        torch.bmm(others.blocks, self.windows.transpose(1, 2), out=self.all_products)
        skewed = F.pad(self.all_products.flatten(1), (0, BLOCK))
        of_kernels = skewed.unflatten(1, (BLOCK, self.taps + BLOCK))
        return self._in_rows(of_kernels)[..., : self.taps].transpose(1, 2)

    def _in_rows(self, positions: Tensor) -> Tensor:
        return positions.view(*self.rows, positions.size(-1))[:, : self.length]


def turned_over(kernel: Tensor) -> Tensor:
    """The weights by which each position reaches others, where the kernel has those it sees."""
    reach = kernel.size(2) // 2
    padded = F.pad(kernel.flip(2), (reach, reach))
    rows, heads, taps, time = padded.stride()
    return padded.as_strided(kernel.shape, (rows, heads, taps + time, time))
