"""Self-attention, and a fast way through it where a CPU trains with dropout."""

import math
from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from convbert_plugin.ops.dropout import is_cheap, kept, random_bits, scale_of_kept
from convbert_plugin.ops.precision import at_least_fp32


def attention(
    query: Tensor, key: Tensor, value: Tensor, padding: Optional[Tensor], rate: float
) -> Tensor:
    """The values, weighed by what dropout at that rate leaves of the probabilities.

    Shapes: query, key and value [B, T, H, D], padding [B, T] (true where a pad stands, which no
    query looks at) or None -> [B, T, H, D].
    """
    if not is_cheap(query, rate):
        return attention_of_torch(query, key, value, padding, rate)
    dtype = at_least_fp32(query.dtype)
    states = [states.to(dtype) for states in (query, key, value)]
    return _DropoutAttention.apply(*states, padding, rate).to(query.dtype)


def attention_of_torch(
    query: Tensor, key: Tensor, value: Tensor, padding: Optional[Tensor], rate: float
) -> Tensor:
    """As :func:`attention`, by torch, whose kernels on a CPU know no dropout."""
    mask = None if padding is None else padding.logical_not()[:, None, None, :]
    query, key, value = (states.transpose(1, 2) for states in (query, key, value))
    context = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=rate)
    return context.transpose(1, 2)


class _DropoutAttention(torch.autograd.Function):
    """Head by head, so that no states are copied; keeps the probabilities and 16 bits for each.

    torch keeps the probabilities before and after dropout and a float for each.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        padding: Optional[Tensor],
        rate: float,
    ) -> Tensor:
        batch, length, heads, size = query.shape
        probabilities = query.new_empty(heads, batch, length, length)
        bits = random_bits(probabilities.shape)
        context = query.new_empty(query.shape)
        of_head = query.new_empty(batch, length, size)
        is_real = None if padding is None else padding.logical_not().to(query.dtype).unsqueeze(1)
        for head, of_keys in enumerate(probabilities):
            _product(of_keys, query[:, :, head], key[:, :, head].mT, 1 / math.sqrt(size))
            if is_real is not None:
                of_keys += (is_real - 1) * torch.finfo(query.dtype).max
            torch.softmax(of_keys, -1, out=of_keys)
            weights = _kept(bits[head], is_real, rate, of_keys).mul_(of_keys)
            _product(of_head, weights, value[:, :, head], scale_of_kept(rate))
            context[:, :, head] = of_head
        ctx.rate = rate
        ctx.save_for_backward(query, key, value, is_real, probabilities, bits)
        return context

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        query, key, value, is_real, probabilities, bits = ctx.saved_tensors
        batch, length, _, size = query.shape
        scale, of_kept = 1 / math.sqrt(size), scale_of_kept(ctx.rate)
        grads = [query.new_empty(query.shape) for _ in range(3)]
        of_head = query.new_empty(batch, length, size)
        grad_weights = torch.empty_like(probabilities[0])
        for head, of_keys in enumerate(probabilities):
            grad_context = grad[:, :, head]
            weights = _kept(bits[head], is_real, ctx.rate, of_keys)
            _product(grad_weights, grad_context, value[:, :, head].mT, of_kept)
            grad_weights *= weights
            weights *= of_keys
            grad_scores = torch.ops.aten._softmax_backward_data(
                grad_weights, of_keys, -1, of_keys.dtype
            )
            of_inputs = (
                (grad_scores, key[:, :, head], scale),
                (grad_scores.mT, query[:, :, head], scale),
                (weights.mT, grad_context, of_kept),
            )
            for grad_input, factors in zip(grads, of_inputs, strict=True):
                _product(of_head, *factors)
                grad_input[:, :, head] = of_head
        return *grads, None, None


def _product(result: Tensor, left: Tensor, right: Tensor, scale: float) -> None:
    """Write a scaled product; in place, because autocast would not leave it in this precision."""
    result.baddbmm_(left, right, beta=0, alpha=scale)


def _kept(bits: Tensor, is_real: Optional[Tensor], rate: float, like: Tensor) -> Tensor:
    """What dropout keeps; of the keys of pads nothing, for a text of pads alone too."""
    ones = kept(bits, rate, like.dtype)
    return ones if is_real is None else ones.mul_(is_real)
