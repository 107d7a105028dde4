"""What a model computes while it pretrains."""

from typing import NamedTuple, Optional

from torch import Tensor


class PretrainingOutput(NamedTuple):
    """What the losses of pretraining need.

    Shapes: masked-LM loss [], summed over the masked tokens, and the likeliest tokens [M]; under
    replaced-token detection also the sampled tokens [M], the corrupted tokens [B, T], which of them
    are replaced and which are no pads [B, T], the discriminator's logits [B, T], and its loss [],
    summed over what is no pad. Of many texts the logits are not differentiable, the losses are.
    """

    masked_lm_loss: Tensor
    guessed: Tensor
    sampled: Optional[Tensor] = None
    corrupted: Optional[Tensor] = None
    replaced: Optional[Tensor] = None
    real: Optional[Tensor] = None
    replaced_logits: Optional[Tensor] = None
    replaced_loss: Optional[Tensor] = None
