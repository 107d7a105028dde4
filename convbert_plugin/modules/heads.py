"""What stands above a network: the heads of pretraining and those of fine-tuning."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convbert_plugin.modules.initialization import glorot_linear, linear
from convbert_plugin.modules.layer import layer_norm
from convbert_plugin.ops.vocabulary_loss import VocabularyLoss, vocabulary_loss


class MaskedLMHead(nn.Module):
    """Scores every token of the vocabulary; the softmax matrix is the token embedding table.

    Shapes: hidden [M, C], token table [V, E] -> logits [M, V], which :meth:`loss` never makes.
    Source: the released run_pretraining.py:129-175.
    """

    def __init__(self, hidden: int, embedding_dim: int, vocabulary_size: int):
        super().__init__()
        self.dense = linear(hidden, embedding_dim)
        self.layer_norm = layer_norm(embedding_dim)
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))

    def forward(self, hidden: Tensor, token_table: Tensor) -> Tensor:
        return F.linear(self._transformed(hidden), token_table, self.bias)

    def loss(
        self, hidden: Tensor, token_table: Tensor, targets: Tensor, uniforms: Tensor
    ) -> VocabularyLoss:
        """The loss against the targets [M], guesses, and what the uniforms [M] draw."""
        return vocabulary_loss(self._transformed(hidden), token_table, self.bias, targets, uniforms)

    def _transformed(self, hidden: Tensor) -> Tensor:
        return self.layer_norm(F.gelu(self.dense(hidden)))


class ReplacedTokenHead(nn.Module):
    """Scores each token for having been replaced.

    Shapes: hidden [B, T, C] -> logits [B, T]. Source: the released run_pretraining.py:177-202.
    """

    def __init__(self, hidden: int):
        super().__init__()
        self.dense = linear(hidden, hidden)
        self.output = glorot_linear(hidden, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.output(F.gelu(self.dense(hidden))).squeeze(-1)


class ReleasedClassificationHead(nn.Module):
    """Dropout and one linear layer on [CLS].

    Shapes: hidden [B, T, C] -> logits [B, classes]. Source: the released
    classification_tasks.py:267-290.
    """

    def __init__(self, hidden: int, classes: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.output = glorot_linear(hidden, classes)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.output(self.dropout(hidden[:, 0]))


class TransformersClassificationHead(nn.Module):
    """The head of transformers' ForSequenceClassification: one more dense layer, with GELU.

    Shapes: hidden [B, T, C] -> logits [B, classes].
    """

    def __init__(self, hidden: int, classes: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.dense = linear(hidden, hidden)
        self.output = linear(hidden, classes)

    def forward(self, hidden: Tensor) -> Tensor:
        transformed = F.gelu(self.dense(self.dropout(hidden[:, 0])))
        return self.output(self.dropout(transformed))


CLASSIFICATION_HEADS = {
    "released": ReleasedClassificationHead,
    "transformers": TransformersClassificationHead,
}
