"""Tables of another length: positions that training never reached, rows of another vocabulary."""

from typing import Sequence

import torch
from torch import Tensor

STANDARD_DEVIATION = 0.02


def tile_positions(table: Tensor, rows: int, trained: int) -> Tensor:
    """A position table of ``rows`` rows of which the first ``trained`` stand as they are.

    Shapes: table [P, E] -> [rows, E]. The rows beyond the trained ones repeat them from the start
    (Beltagy et al. 2020, section 5, extend RoBERTa so). Tiled and not interpolated, because then
    texts of the trained length give what they gave, bit for bit, and the distance between
    neighbours, which is what attention has learned, stays that of training nearly everywhere.
    """
    trained = min(trained, len(table))
    return table[torch.arange(rows) % trained].clone()


def is_tiled(table: Tensor, trained: int) -> bool:
    """Whether all rows of a position table beyond the trained ones repeat them."""
    return torch.equal(table, tile_positions(table, len(table), trained))


def compose_rows(table: Tensor, sources: Sequence[Sequence[int]]) -> Tensor:
    """A table whose row i is the mean of the rows ``sources[i]`` of the old one.

    Shapes: table [V, ...] -> [len(sources), ...]. One source keeps the row bit for bit; none gives
    a fresh one: truncated normal as at the start of training (a bias: 0), the same at every call.
    """
    generator = torch.Generator().manual_seed(0)
    rows = torch.zeros(len(sources), *table.shape[1:], dtype=table.dtype)
    if table.dim() > 1:
        limit = 2 * STANDARD_DEVIATION
        torch.nn.init.trunc_normal_(
            rows, std=STANDARD_DEVIATION, a=-limit, b=limit, generator=generator
        )
    for row, numbers in enumerate(sources):
        if len(numbers) == 1:
            rows[row] = table[numbers[0]]
        elif numbers:
            rows[row] = table[list(numbers)].mean(dim=0)
    return rows
