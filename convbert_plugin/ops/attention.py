"""Self-attention, and a fast way through it where a CPU trains with dropout."""

import math
from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from convbert_plugin.ops import cpu_rows
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


class _SoftmaxOfRows:
    """By C++: a seed decides what is kept, and then the sign of each probability says it."""

    def __init__(self, rate: float):
        self.rate, self.seed = rate, cpu_rows.new_seed(rate)
        # The weights that remain are scaled already.
        self.scale = 1.0

    def random_bits(self, shape: torch.Size) -> Optional[Tensor]:
        return None

    def forward(self, head: int, scores: Tensor, padding: Optional[Tensor], bits: None) -> Tensor:
        first = head * scores.size(0) * scores.size(1)
        return cpu_rows.dropped_softmax_forward(scores, padding, self.rate, self.seed, first)

    def backward(
        self, head: int, probabilities: Tensor, grad: Tensor, padding: Optional[Tensor], bits: None
    ) -> tuple[Tensor, Tensor]:
        return cpu_rows.dropped_softmax_backward(probabilities, grad, self.rate), grad


class _SoftmaxOfTorch:
    """By torch: 16 random bits decide."""

    def __init__(self, rate: float):
        self.rate, self.scale = rate, scale_of_kept(rate)

    def random_bits(self, shape: torch.Size) -> Optional[Tensor]:
        return random_bits(shape)

    def forward(self, head: int, scores: Tensor, padding: Optional[Tensor], bits: Tensor) -> Tensor:
        """The weights that remain; scores become their probabilities."""
        if padding is not None:
            lowest = torch.finfo(scores.dtype).min
            scores += padding.unsqueeze(1).to(scores.dtype) * lowest
        torch.softmax(scores, -1, out=scores)
        return self._kept(bits[head], padding, scores).mul_(scores)

    def backward(
        self,
        head: int,
        probabilities: Tensor,
        grad: Tensor,
        padding: Optional[Tensor],
        bits: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The weights once more, and from their gradient that of the scores."""
        weights = self._kept(bits[head], padding, probabilities)
        grad *= weights
        dtype = probabilities.dtype
        grad = torch.ops.aten._softmax_backward_data(grad, probabilities, -1, dtype)
        return weights.mul_(probabilities), grad

    def _kept(self, bits: Tensor, padding: Optional[Tensor], like: Tensor) -> Tensor:
        ones = kept(bits, self.rate, like.dtype)
        if padding is not None:
            # The keys of a text of pads alone share the softmax among them: none is kept.
            ones *= padding.logical_not().unsqueeze(1).to(like.dtype)
        return ones


class _DropoutAttention(torch.autograd.Function):
    """Head by head, so that no states are copied; keeps the probabilities once.

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
        padding = None if padding is None else padding.contiguous()
        softmax: Any = (_SoftmaxOfRows if cpu_rows.computes(query) else _SoftmaxOfTorch)(rate)
        bits = softmax.random_bits(probabilities.shape)
        context = query.new_empty(query.shape)
        of_head = query.new_empty(batch, length, size)
        for head, scores in enumerate(probabilities):
            _product(scores, query[:, :, head], key[:, :, head].mT, 1 / math.sqrt(size))
            weights = softmax.forward(head, scores, padding, bits)
            _product(of_head, weights, value[:, :, head], softmax.scale)
            context[:, :, head] = of_head
        ctx.softmax = softmax
        ctx.save_for_backward(query, key, value, padding, probabilities, bits)
        return context

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        query, key, value, padding, probabilities, bits = ctx.saved_tensors
        softmax = ctx.softmax
        batch, length, _, size = query.shape
        scale = 1 / math.sqrt(size)
        grads = [query.new_empty(query.shape) for _ in range(3)]
        of_head = query.new_empty(batch, length, size)
        for head, of_keys in enumerate(probabilities):
            grad_context = grad[:, :, head]
            grad_weights = torch.empty_like(of_keys)
            _product(grad_weights, grad_context, value[:, :, head].mT, softmax.scale)
            weights, grad_scores = softmax.backward(head, of_keys, grad_weights, padding, bits)
            of_inputs = (
                (grad_scores, key[:, :, head], scale),
                (grad_scores.mT, query[:, :, head], scale),
                (weights.mT, grad_context, softmax.scale),
            )
            for grad_input, factors in zip(grads, of_inputs, strict=True):
                _product(of_head, *factors)
                grad_input[:, :, head] = of_head
        return *grads, None, None


def _product(result: Tensor, left: Tensor, right: Tensor, scale: float) -> None:
    """Write a scaled product; in place, because autocast would not leave it in this precision."""
    result.baddbmm_(left, right, beta=0, alpha=scale)
