"""Token, segment and position embeddings, which discriminator and generator share."""

from torch import Tensor, nn

from convbert_plugin.errors import UserError
from convbert_plugin.modules.initialization import embedding
from convbert_plugin.modules.layer import layer_norm
from convbert_plugin.ops.dropout import dropout

SEGMENTS = 2


class Embeddings(nn.Module):
    """Sum of three tables, then LayerNorm and dropout.

    Shapes: tokens and segments [B, T] -> [B, T, E]. Positions count from 0 at the first token,
    pads included, and the pad has an ordinary row. Source: the released modeling.py:638-731.

    Raises:
        UserError: a sequence longer than the position table.
    """

    def __init__(self, vocabulary_size: int, max_positions: int, width: int, dropout: float):
        super().__init__()
        if max_positions < 1:
            raise UserError(f"--max-positions {max_positions}: choose a number of at least 1")
        self.tokens = embedding(vocabulary_size, width)
        self.positions = embedding(max_positions, width)
        self.segments = embedding(SEGMENTS, width)
        self.layer_norm = layer_norm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, segments: Tensor) -> Tensor:
        length, positions = tokens.size(1), self.positions.weight
        if length > positions.size(0):
            raise UserError(
                f"a sequence of {length} tokens is longer than the model's {positions.size(0)} "
                "positions: shorten it, or build the model with a larger --max-positions"
            )
        summed = self.tokens(tokens) + self.segments(segments) + positions[:length]
        return dropout(self.layer_norm(summed), self.dropout.p if self.training else 0.0)
