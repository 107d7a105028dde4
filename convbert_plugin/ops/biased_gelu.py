"""A bias and the exact GELU in one."""

from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from convbert_plugin.ops import cpu_rows


def biased_gelu(states: Tensor, bias: Tensor) -> Tensor:
    """GELU of the biased states. Shapes: [..., C], [C] -> [..., C]."""
    if cpu_rows.computes(states):
        return _InOnePass.apply(states, bias)
    return F.gelu(states + bias.to(states.dtype))


class _InOnePass(torch.autograd.Function):
    """By C++: the bias's gradient is summed up where that of the states is made."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, bias: Tensor) -> Tensor:
        ctx.dtype, states = bias.dtype, states.contiguous()
        (bias,) = cpu_rows.sums_dtype(states, bias)
        ctx.save_for_backward(states, bias)
        return cpu_rows.gelu_forward(states, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], Optional[Tensor]]:
        grad_states, grad_bias = cpu_rows.gelu_backward(grad.contiguous(), *ctx.saved_tensors)
        return grad_states, grad_bias.to(ctx.dtype)
