"""The loss of replaced-token detection."""

import torch.nn.functional as F
from torch import Tensor


def replaced_token_loss(logits: Tensor, replaced: Tensor, real: Tensor) -> Tensor:
    """Binary cross-entropy [], summed over the real tokens.

    Shapes: logits, and which tokens are replaced or real, all [B, T].
    """
    losses = F.binary_cross_entropy_with_logits(logits, replaced.to(logits.dtype), reduction="none")
    return losses.masked_fill(~real, 0).sum()
