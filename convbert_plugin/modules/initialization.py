"""The released initializations."""

from torch import Tensor, nn

STANDARD_DEVIATION = 0.02


def truncated_normal_(tensor: Tensor, std: float = STANDARD_DEVIATION) -> Tensor:
    """Fill with a normal distribution cut at two standard deviations, as TensorFlow does."""
    return nn.init.trunc_normal_(tensor, std=std, a=-2 * std, b=2 * std)


def linear(in_features: int, out_features: int) -> nn.Linear:
    """A dense layer with truncated normal weights and zero biases."""
    layer = nn.Linear(in_features, out_features)
    truncated_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def glorot_linear(in_features: int, out_features: int) -> nn.Linear:
    """A dense layer where the released code names no initializer: TensorFlow's Glorot-uniform."""
    layer = nn.Linear(in_features, out_features)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def embedding(rows: int, width: int) -> nn.Embedding:
    """An embedding table with truncated normal rows, the row of the pad included."""
    table = nn.Embedding(rows, width)
    truncated_normal_(table.weight)
    return table
