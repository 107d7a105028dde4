"""Texts packed into the rows of a batch, which convolutions must not mix.

``cu_seqlens`` [N + 1], int32 or int64, on the device of the batch: where each text begins in the
flattened positions of the batch [B * T], and last B * T. It rises and begins with 0. The ends of a
row are always ends of a text, whether they stand in it or not.
"""

from typing import Optional

import torch
from torch import Tensor


def check_offsets(cu_seqlens: Optional[Tensor]) -> None:
    if cu_seqlens is None:
        return
    if cu_seqlens.dim() != 1 or cu_seqlens.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            "cu_seqlens: offsets of texts are one dimension of int32 or int64, not "
            f"{cu_seqlens.dim()} of {cu_seqlens.dtype}"
        )


def numbers_of_texts(cu_seqlens: Tensor, batch: int, length: int) -> Tensor:
    """The number of the text at every position [B * T]: each row counts as the end of one too."""
    positions = torch.arange(batch * length, device=cu_seqlens.device)
    texts = torch.bucketize(positions, cu_seqlens.to(positions.dtype), right=True)
    return texts + positions // length


def rounded_up(number: int, block: int) -> int:
    """The first multiple of the block that is no less."""
    return -(-number // block) * block


class Gaps:
    """Puts texts of several rows into one, with zeros between them, and takes them out of it.

    Shapes: [B, T, ...] -> [1, positions, ...]. Texts begin at multiples of ``block``. What reaches
    no further than ``gap`` to each side of its block then reaches no other text, and memory of no
    other text enters a product.
    """

    def __init__(self, cu_seqlens: Tensor, batch: int, length: int, gap: int, block: int = 1):
        texts = numbers_of_texts(cu_seqlens, batch, length)
        most = cu_seqlens.numel() + batch
        begins = torch.searchsorted(texts, torch.arange(most + 1, device=texts.device))
        gap = rounded_up(gap, block)
        rooms = (begins.diff() + block - 1) // block * block + gap
        moves = rooms.cumsum(0) - rooms - begins[:-1]
        self.shape = (batch, length)
        self.places = torch.arange(batch * length, device=texts.device) + moves[texts]
        self.rows = batch * length + (gap + block - 1) * most

    def spread(self, states: Tensor) -> Tensor:
        spread = states.new_zeros(self.rows, *states.shape[2:])
        return spread.index_copy_(0, self.places, states.flatten(0, 1)).unsqueeze(0)

    def gather(self, spread: Tensor) -> Tensor:
        return spread.squeeze(0).index_select(0, self.places).unflatten(0, self.shape)
