"""What a language model must beat."""

from typing import Sequence, Union

import torch
from torch import Tensor

Counts = Union[Tensor, Sequence[float]]


def unigram_cross_entropy(train_counts: Counts, heldout_counts: Counts) -> float:
    """Return the cross-entropy, in nats a token, of held-out tokens under training frequencies.

    ``train_counts`` [V] and ``heldout_counts`` [V] say how often each word of the vocabulary
    occurs. Add-one smoothing: every word has one occurrence more than counted, so that none is
    impossible. Raises ValueError if the shapes differ or nothing is held out.
    """
    train = torch.as_tensor(train_counts, dtype=torch.float64)
    heldout = torch.as_tensor(heldout_counts, dtype=torch.float64)
    if train.shape != heldout.shape or train.dim() != 1:
        raise ValueError(f"counts of one vocabulary expected, got {train.shape}, {heldout.shape}")
    if heldout.sum() == 0:
        raise ValueError("no held-out token to score")
    log_probabilities = torch.log((train + 1) / (train.sum() + train.numel()))
    return -float((heldout * log_probabilities).sum() / heldout.sum())
