"""Draw the generator's replacement tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 128
"""Tokens that are summed before the sums are searched: a search through them all takes longer."""


def sample_by_inverse(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Draw one token a row through the inverse of the row's distribution function.

    Shapes: probabilities [M, V], uniforms [M] in [0, 1) -> token ids [M]. The same uniform number
    gives the same token, whatever else is in the batch, to the rounding of the device's sums; a
    token of probability 0 is never drawn. The block is drawn first, then the token in it. Rows
    that are whole blocks long are not copied.
    """
    blocks = in_blocks(probabilities)
    ends = blocks.sum(dim=-1).cumsum(dim=-1)
    # The sum differs from 1 by rounding: scaled by it, a uniform number never falls beyond the end.
    targets = uniforms.to(ends.dtype).unsqueeze(1) * ends[:, -1:]
    block = _first_above(ends, targets)
    rest = targets - F.pad(ends, (1, 0)).gather(1, block)
    within = _first_above(block_of(blocks, block).cumsum(dim=-1), rest)
    return (block * BLOCK + within).squeeze(1).clamp_(max=probabilities.size(1) - 1)


def in_blocks(rows: Tensor, filler: float = 0.0) -> Tensor:
    """Shapes: [M, V] -> [M, blocks, BLOCK], filled at the end of each row."""
    missing = -rows.size(1) % BLOCK
    filled = F.pad(rows, (0, missing), value=filler) if missing else rows
    return filled.unflatten(1, (-1, BLOCK))


def block_of(blocks: Tensor, block: Tensor) -> Tensor:
    """Shapes: [M, blocks, BLOCK], one number a row [M, 1] -> that block [M, BLOCK]."""
    return blocks.take_along_dim(block.unsqueeze(2), dim=1).squeeze(1)


def _first_above(ends: Tensor, targets: Tensor) -> Tensor:
    """Index [M, 1] of the first of the growing numbers [M, N] above the target [M, 1].

    There is always one, whatever the rounding, since the target is held below the last. Where
    that is no number, neither is the loss, and the index stays in range.
    """
    last = ends[:, -1:]
    below_last = torch.nextafter(last, torch.zeros_like(last))
    first = torch.searchsorted(ends, torch.minimum(targets, below_last), right=True)
    return first.clamp_(max=ends.size(1) - 1)


def sample_by_gumbel(logits: Tensor, generator: torch.Generator) -> Tensor:
    """The released way, and the oracle in distribution of :func:`sample_by_inverse`.

    Shapes: logits [M, V] -> token ids [M]. Source: the released pretrain_helpers.py:190-203.
    """
    uniforms = torch.rand(logits.shape, generator=generator, dtype=logits.dtype)
    noise = -torch.log(-torch.log(uniforms + 1e-9) + 1e-9)
    return (logits + noise).argmax(dim=-1)


def replace_tokens(tokens: Tensor, positions: Tensor, replacements: Tensor) -> Tensor:
    """Write replacements into a batch of tokens.

    Shapes: tokens [B, T], positions [M] into the flattened batch, replacements [M] -> [B, T]. A
    position that stands twice gets the whole-number mean of its replacements, as released
    (pretrain_helpers.py:87-98).
    """
    flat = tokens.flatten()
    sums = torch.zeros_like(flat).index_add(0, positions, replacements)
    counts = torch.zeros_like(flat).index_add(0, positions, torch.ones_like(positions))
    means = sums // counts.clamp(min=1)
    return torch.where(counts > 0, means, flat).view_as(tokens)
