"""Mixed attention: self-attention heads beside convolution heads (paper section 3.2)."""

import math
from typing import NamedTuple, Optional, Sequence

import torch
from torch import Tensor, nn

from convbert_plugin.errors import UserError
from convbert_plugin.modules.convolution import CONV_BRANCHES, ConvBranch
from convbert_plugin.modules.grouped_linear import without_bias
from convbert_plugin.modules.initialization import linear
from convbert_plugin.modules.shape import StackShape
from convbert_plugin.ops.attention import attention
from convbert_plugin.ops.precision import at_least_fp32
from convbert_plugin.ops.products import product


class AttentionMaps(NamedTuple):
    """What the heads look at, in at least fp32.

    Shapes: attention probabilities [B, H, T, T] of queries over keys, kernels of the dynamic
    convolution [B, H, T, K] or None where there is none.
    """

    attention: Tensor
    kernels: Optional[Tensor]


class MixedAttention(nn.Module):
    """Attention heads and convolution heads over one bottleneck, joined by one output layer.

    Shapes: hidden [B, T, C], padding [B, T] (true where a pad stands) or None -> [B, T, C]. The
    attention heads come first in the input of the output layer, which is twice the bottleneck
    wide. Source: the released modeling.py:892-1061.

    Unless pads are visible, they enter the span key and the convolution as zeros, so that the
    amount of padding never changes the output of a real token; as released they do enter.
    """

    def __init__(self, shape: StackShape):
        super().__init__()
        if shape.conv_type not in CONV_BRANCHES:
            known = ", ".join(CONV_BRANCHES)
            raise UserError(f"--conv-type {shape.conv_type}: choose one of {known}")
        heads = shape.mixed_heads
        self.head_size = heads.size
        self.attention_dropout = shape.attention_dropout
        self.pads_visible = shape.pads_visible
        self.query = linear(shape.hidden, heads.width)
        self.key = linear(shape.hidden, heads.width)
        self.value = linear(shape.hidden, heads.width)
        build_branch = CONV_BRANCHES[shape.conv_type]
        self.conv_branch: Optional[ConvBranch] = None
        if build_branch is not None:
            # The paper's Figure 4 shares the value with attention; the released weights do not.
            self.conv_value = linear(shape.hidden, heads.width)
            self.conv_branch = build_branch(
                shape.hidden, heads.width, shape.conv_kernel_size, heads.number, shape.conv_backend
            )
        branches = 1 if self.conv_branch is None else 2
        self.output = linear(branches * heads.width, shape.hidden)

    def forward(self, hidden: Tensor, padding: Optional[Tensor], is_biased: bool = True) -> Tensor:
        """``is_biased``: whether the bias of the output layer is added here."""
        query, key, value, *conv_value = self._projections(hidden)
        context = self._attend(query, key, value, padding)
        if self.conv_branch is not None:
            value = self._hide_pads(conv_value[0], padding)
            convolved = self.conv_branch(value, query, self._hide_pads(hidden, padding))
            context = torch.cat([context, convolved], dim=-1)
        return self.output(context) if is_biased else without_bias(self.output, context)

    def maps(self, hidden: Tensor, padding: Optional[Tensor]) -> AttentionMaps:
        """The probabilities and kernels that :meth:`forward` weighs its values with.

        Dropout never acts on them. A pad has the probability 0, for a text of pads alone too.
        """
        query = self.query(hidden)
        attention = self._probabilities(query, self.key(hidden), padding)
        if self.conv_branch is None:
            return AttentionMaps(attention, None)
        kernels = self.conv_branch.kernels(query, self._hide_pads(hidden, padding))
        return AttentionMaps(attention, None if kernels is None else kernels.transpose(1, 2))

    def _projections(self, hidden: Tensor) -> Sequence[Tensor]:
        """Query, key, value and, beside a convolution, its value: each [B, T, width].

        Where a backward pass follows, they are one product: its gradient is added up inside the
        product, not over four full tensors. The weights that are joined for it are as many
        numbers as four tokens' share of the product where hidden states have thousands; without a
        backward pass, and for few tokens, the copy is not repaid.
        """
        layers = [self.query, self.key, self.value]
        if self.conv_branch is not None:
            layers.append(self.conv_value)
        if not torch.is_grad_enabled():
            return [layer(hidden) for layer in layers]
        weight = torch.cat([layer.weight for layer in layers])
        bias = torch.cat([layer.bias for layer in layers])
        return product(hidden, weight, bias).chunk(len(layers), dim=-1)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, padding: Optional[Tensor]
    ) -> Tensor:
        heads = (-1, self.head_size)
        query, key, value = (states.unflatten(-1, heads) for states in (query, key, value))
        rate = self.attention_dropout if self.training else 0.0
        return attention(query, key, value, padding, rate).flatten(2)

    def _probabilities(self, query: Tensor, key: Tensor, padding: Optional[Tensor]) -> Tensor:
        dtype = at_least_fp32(query.dtype)
        query, key = (self._split_heads(states).to(dtype) for states in (query, key))
        scores = query @ key.transpose(2, 3) / math.sqrt(self.head_size)
        if padding is None:
            return scores.softmax(dim=-1, dtype=dtype)
        pads = _as_keys(padding)
        scores = scores.masked_fill(pads, torch.finfo(scores.dtype).min)
        # Filled once more for a text of pads alone, which share the softmax among them.
        return scores.softmax(dim=-1, dtype=dtype).masked_fill(pads, 0)

    def _split_heads(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (-1, self.head_size)).transpose(1, 2)

    def _hide_pads(self, states: Tensor, padding: Optional[Tensor]) -> Tensor:
        if padding is None or self.pads_visible:
            return states
        # Several times as fast as masked_fill, which is not vectorized where the mask is broadcast.
        return states * padding.logical_not().unsqueeze(-1).to(states.dtype)


def _as_keys(padding: Tensor) -> Tensor:
    return padding[:, None, None, :]
