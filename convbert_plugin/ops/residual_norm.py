"""A bias, dropout, the residual connection and LayerNorm in one."""

from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from convbert_plugin.ops import cpu_rows
from convbert_plugin.ops.dropout import is_cheap, kept, random_bits, scale_of_kept


def dropout_add_norm(
    states: Tensor,
    states_bias: Optional[Tensor],
    residual: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    rate: float,
) -> Tensor:
    """LayerNorm of the residual and what dropout leaves of the biased states, at that rate.

    Shapes: states and residual [..., C], states_bias (or None), weight and bias [C] -> [..., C].
    """
    if cpu_rows.computes(states) and cpu_rows.computes(residual):
        if states_bias is None:
            states_bias = torch.zeros_like(bias)
        states, residual = _of_one_dtype(states, residual)
        return _InOnePass.apply(states, states_bias, residual, weight, bias, eps, rate)
    if states_bias is not None:
        states = states + states_bias.to(states.dtype)
    if is_cheap(states, rate):
        states, residual = _of_one_dtype(states, residual)
        return _WithBits.apply(states, residual, weight, bias, eps, rate)
    dropped = F.dropout(states, rate) if rate else states
    return F.layer_norm(residual + dropped, weight.shape, weight, bias, eps)


def _of_one_dtype(states: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(states.dtype, residual.dtype)
    return states.to(dtype), residual.to(dtype)


class _InOnePass(torch.autograd.Function):
    """By C++: keeps the sum, and of dropout nothing but a seed."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        states_bias: Tensor,
        residual: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        rate: float,
    ) -> Tensor:
        ctx.rate, ctx.seed = rate, cpu_rows.new_seed(rate)
        ctx.dtypes = [vector.dtype for vector in (weight, bias, states_bias)]
        states, residual = states.contiguous(), residual.contiguous()
        states_bias, weight, bias = cpu_rows.sums_dtype(states, states_bias, weight, bias)
        output, summed, moments = cpu_rows.residual_norm_forward(
            states, states_bias, residual, weight, bias, eps, rate, ctx.seed
        )
        ctx.save_for_backward(summed, moments, weight)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        summed, moments, weight = ctx.saved_tensors
        grad_states, grad_residual, vectors = cpu_rows.residual_norm_backward(
            grad.contiguous(), summed, moments, weight, ctx.rate, ctx.seed
        )
        grad_weight, grad_bias, grad_states_bias = map(Tensor.to, vectors, ctx.dtypes)
        return grad_states, grad_states_bias, grad_residual, grad_weight, grad_bias, None, None


class _WithBits(torch.autograd.Function):
    """By torch: keeps the sum and 16 random bits a number, where torch itself keeps a float."""

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
        ctx.rate = rate
        bits = random_bits(states.shape)
        ones = kept(bits, rate, states.dtype)
        summed = torch.addcmul(residual, states, ones, value=scale_of_kept(rate))
        output, mean, deviation = torch.native_layer_norm(summed, weight.shape, weight, bias, eps)
        ctx.save_for_backward(summed, bits, mean, deviation, weight, bias)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        summed, bits, mean, deviation, weight, bias = ctx.saved_tensors
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
        return grad_states, grad_summed, grad_weight, grad_bias, None, None
