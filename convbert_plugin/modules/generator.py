"""The generator of replaced-token detection: a small ConvBERT with a masked-LM head."""

from typing import Optional

from torch import Tensor, nn

from convbert_plugin.modules.heads import MaskedLMHead
from convbert_plugin.modules.layer import ConvBertStack
from convbert_plugin.modules.shape import StackShape


class Generator(nn.Module):
    """Guesses the masked tokens; embeddings and softmax matrix are the discriminator's.

    Shapes: embedded [B, T, E], padding [B, T] or None, positions [M] into the flattened batch ->
    hidden [M, C], for its head. Only the masked positions go through the vocabulary.
    """

    def __init__(self, shape: StackShape, vocabulary_size: int):
        super().__init__()
        self.shape = shape
        self.stack = ConvBertStack(shape)
        self.head = MaskedLMHead(shape.hidden, shape.embedding_dim, vocabulary_size)

    def forward(self, embedded: Tensor, padding: Optional[Tensor], positions: Tensor) -> Tensor:
        return self.stack(embedded, padding).flatten(0, 1)[positions]
