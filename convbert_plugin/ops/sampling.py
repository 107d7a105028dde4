"""Draw the generator's replacement tokens."""

import torch
from torch import Tensor


def sample_by_inverse(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Draw one token a row through the inverse of the row's distribution function.

    Shapes: probabilities [M, V], uniforms [M] in [0, 1) -> token ids [M]. The same uniform number
    gives the same token, whatever else is in the batch, and a token of probability 0 is never
    drawn: both to the rounding of the device's cumulative sum.
    """
    cumulative = probabilities.cumsum(dim=-1)
    # The sum differs from 1 by rounding: scaled by it, a uniform number never falls beyond the end.
    targets = uniforms.to(cumulative.dtype).unsqueeze(1) * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, targets, right=True).squeeze(1)
    return drawn.clamp_(max=probabilities.size(1) - 1)


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
