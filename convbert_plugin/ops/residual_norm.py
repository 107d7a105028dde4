"""Dropout, the residual connection and LayerNorm in one."""

from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from convbert_plugin.ops.dropout import is_cheap, kept, random_bits, scale_of_kept


def dropout_add_norm(
    states: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, rate: float
) -> Tensor:
    """LayerNorm of the residual and what dropout leaves of the states, at that rate.

    Shapes: states and residual [..., C], weight and bias [C] -> [..., C].
    """
    if is_cheap(states, rate):
        return _DropoutAddNorm.apply(states, residual, weight, bias, eps, rate)
    return dropout_add_norm_reference(states, residual, weight, bias, eps, rate)


def dropout_add_norm_reference(
    states: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, rate: float
) -> Tensor:
    """The definition of :func:`dropout_add_norm`."""
    dropped = F.dropout(states, rate) if rate else states
    return F.layer_norm(residual + dropped, weight.shape, weight, bias, eps)


class _DropoutAddNorm(torch.autograd.Function):
    """Keeps the sum and 16 random bits a number, where torch keeps the sum and a float."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        residual: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        rate: float,
    ) -> Tensor:
        dtype = torch.promote_types(states.dtype, residual.dtype)
        ctx.dtypes, ctx.rate = (states.dtype, residual.dtype), rate
        bits = random_bits(states.shape)
        summed = torch.addcmul(
            residual.to(dtype),
            states.to(dtype),
            kept(bits, rate, dtype),
            value=scale_of_kept(rate),
        )
        output, mean, deviation = torch.native_layer_norm(summed, weight.shape, weight, bias, eps)
        ctx.save_for_backward(summed, bits, mean, deviation, weight, bias)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        summed, bits, mean, deviation, weight, bias = ctx.saved_tensors
        of_states, of_residual = ctx.dtypes
        grad_summed, grad_weight, grad_bias = torch.ops.aten.native_layer_norm_backward(
            grad.contiguous(),
            summed,
            weight.shape,
            mean,
            deviation,
            weight,
            bias,
            [True, *ctx.needs_input_grad[2:4]],
        )
        grad_states = kept(bits, ctx.rate, grad_summed.dtype)
        grad_states.mul_(grad_summed).mul_(scale_of_kept(ctx.rate))
        gradients = grad_states.to(of_states), grad_summed.to(of_residual)
        return *gradients, grad_weight, grad_bias, None, None
