"""The two heads of pretraining."""

import torch
import torch.nn.functional as F
from torch import nn

from convbert_plugin.modules.initialization import glorot_linear, linear
from convbert_plugin.modules.layer import layer_norm


class MaskedLMHead(nn.Module):
    """Scores every token of the vocabulary; the softmax matrix is the token embedding table.

    Shapes: hidden [M, C], token table [V, E] -> logits [M, V]. Source: the released
    run_pretraining.py:129-175.
    """

    def __init__(self, hidden: int, embedding_dim: int, vocabulary_size: int):
        super().__init__()
        self.dense = linear(hidden, embedding_dim)
        self.layer_norm = layer_norm(embedding_dim)
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))

    def forward(self, hidden: torch.Tensor, token_table: torch.Tensor) -> torch.Tensor:
        transformed = self.layer_norm(F.gelu(self.dense(hidden)))
        return F.linear(transformed, token_table, self.bias)


class ReplacedTokenHead(nn.Module):
    """Scores each token for having been replaced.

    Shapes: hidden [B, T, C] -> logits [B, T]. Source: the released run_pretraining.py:177-202.
    """

    def __init__(self, hidden: int):
        super().__init__()
        self.dense = linear(hidden, hidden)
        self.output = glorot_linear(hidden, 1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.output(F.gelu(self.dense(hidden))).squeeze(-1)
