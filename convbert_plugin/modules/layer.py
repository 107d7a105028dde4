"""One layer of ConvBERT, and the stack of them."""

from typing import List, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convbert_plugin.modules.grouped_linear import feed_forward_linear, without_bias
from convbert_plugin.modules.initialization import glorot_linear
from convbert_plugin.modules.mixed_attention import MixedAttention
from convbert_plugin.modules.shape import StackShape
from convbert_plugin.modules.training_passes import TrainingPass
from convbert_plugin.ops import cpu_rows
from convbert_plugin.ops.biased_gelu import biased_gelu
from convbert_plugin.ops.residual_norm import dropout_add_norm

LAYER_NORM_EPS = 1e-12


def layer_norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=LAYER_NORM_EPS)


class FeedForward(nn.Module):
    """Two linear layers, dense or grouped, with the exact GELU between them.

    Shapes: [B, T, C] -> [B, T, C]. Source: the released modeling.py:1192-1222.
    """

    def __init__(self, shape: StackShape):
        super().__init__()
        self.inner = feed_forward_linear(shape.hidden, shape.ffn_hidden, shape.ffn_groups)
        self.outer = feed_forward_linear(shape.ffn_hidden, shape.hidden, shape.ffn_groups)

    def forward(self, hidden: Tensor, is_biased: bool = True) -> Tensor:
        """``is_biased``: whether the bias of the outer layer is added here."""
        if cpu_rows.computes(hidden):
            product = without_bias(self.inner, hidden)
            activated = biased_gelu(product, self.inner.get_parameter("bias"))
        else:
            activated = F.gelu(self.inner(hidden))
        return self.outer(activated) if is_biased else without_bias(self.outer, activated)


class ConvBertLayer(nn.Module):
    """Mixed attention and feed-forward, each with dropout, residual and LayerNorm after it.

    Shapes: hidden [B, T, C], padding [B, T] or None -> [B, T, C].
    """

    def __init__(self, shape: StackShape):
        super().__init__()
        self.attention = MixedAttention(shape)
        self.attention_layer_norm = layer_norm(shape.hidden)
        self.feed_forward = FeedForward(shape)
        self.feed_forward_layer_norm = layer_norm(shape.hidden)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, hidden: Tensor, padding: Optional[Tensor]) -> Tensor:
        # One pass adds the bias, where it is known to be one: else the product adds it for less.
        is_biased = not cpu_rows.computes(hidden)
        attended = self.attention(hidden, padding, is_biased)
        bias = None if is_biased else self.attention.output.bias
        hidden = self._added(attended, bias, hidden, self.attention_layer_norm)
        transformed = self.feed_forward(hidden, is_biased)
        bias = None if is_biased else self.feed_forward.outer.get_parameter("bias")
        return self._added(transformed, bias, hidden, self.feed_forward_layer_norm)

    def _added(
        self, states: Tensor, bias: Optional[Tensor], residual: Tensor, norm: nn.LayerNorm
    ) -> Tensor:
        rate = self.dropout.p if self.training else 0.0
        return dropout_add_norm(states, bias, residual, norm.weight, norm.bias, norm.eps, rate)


class ConvBertStack(nn.Module):
    """The layers above the embeddings, with their own projection of the embeddings.

    Shapes: embedded [B, T, E], padding [B, T] or None -> hidden states [B, T, C] of the last level.
    """

    def __init__(self, shape: StackShape):
        super().__init__()
        width, hidden = shape.embedding_dim, shape.hidden
        is_needed = width != hidden
        self.embedding_projection = glorot_linear(width, hidden) if is_needed else nn.Identity()
        self.layers = nn.ModuleList(ConvBertLayer(shape) for _ in range(shape.layers))
        self.training_pass = TrainingPass(shape.compile, shape.checkpoint_activations)

    def forward(self, embedded: Tensor, padding: Optional[Tensor]) -> Tensor:
        hidden = self.embedding_projection(embedded)
        if self.training and torch.is_grad_enabled():
            return self.training_pass(self.layers, hidden, padding)
        # One level at a time: without gradients, memory holds no other.
        for layer in self.layers:
            hidden = layer(hidden, padding)
        return hidden

    def levels(self, embedded: Tensor, padding: Optional[Tensor]) -> List[Tensor]:
        """Hidden states of every level, (layers + 1) x [B, T, C], the embeddings' first."""
        states = [self.embedding_projection(embedded)]
        for layer in self.layers:
            states.append(layer(states[-1], padding))
        return states
