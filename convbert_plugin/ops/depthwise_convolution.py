"""Convolution of each channel with a kernel of its own, channels last: of the span key."""

from typing import Any, Optional

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from convbert_plugin.ops.convolution_backends import kernels_for
from convbert_plugin.ops.registration import op
from convbert_plugin.ops.texts import check_offsets


def depthwise_convolution(
    hidden: Tensor, weight: Tensor, cu_seqlens: Optional[Tensor] = None, backend: str = "auto"
) -> Tensor:
    """Convolve every channel over time.

    Shapes: hidden [B, T, C], weight [C, 1, K] as nn.Conv1d has it (K odd) -> [B, T, C]. Tap j reads
    position t + j - K // 2; outside the row stand zeros. Sums are in fp32 at least, and in an order
    that depends on the shapes alone; the output has the dtype of the hidden states.
    ``cu_seqlens``: see :mod:`convbert_plugin.ops.texts`.
    """
    check_offsets(cu_seqlens)
    return torch.ops.convbert.depthwise_convolution(hidden, weight, cu_seqlens, backend)


@op("depthwise_convolution")
def _forward(
    hidden: Tensor, weight: Tensor, cu_seqlens: Optional[Tensor] = None, backend: str = "auto"
) -> Tensor:
    return kernels_for(backend, hidden).depthwise_forward(hidden, weight, cu_seqlens)


@op("depthwise_convolution_backward")
def _backward(
    grad: Tensor,
    hidden: Tensor,
    weight: Tensor,
    cu_seqlens: Optional[Tensor] = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    return kernels_for(backend, hidden).depthwise_backward(grad, hidden, weight, cu_seqlens)


@_forward.register_fake
def _(
    hidden: Tensor, weight: Tensor, cu_seqlens: Optional[Tensor] = None, backend: str = "auto"
) -> Tensor:
    return hidden.new_empty(hidden.shape)


@_backward.register_fake
def _(
    grad: Tensor,
    hidden: Tensor,
    weight: Tensor,
    cu_seqlens: Optional[Tensor] = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    return hidden.new_empty(hidden.shape), weight.new_empty(weight.shape)


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    hidden, weight, cu_seqlens, ctx.backend = inputs
    ctx.save_for_backward(hidden, weight, cu_seqlens)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
    backward = torch.ops.convbert.depthwise_convolution_backward
    return *backward(grad, *ctx.saved_tensors, ctx.backend), None, None


_forward.register_autograd(_gradients, setup_context=_keep_inputs)


@register_flop_formula(torch.ops.convbert.depthwise_convolution)
def _forward_flops(hidden: Any, weight: Any, *args: Any, **kwargs: Any) -> int:
    batch, length, channels = hidden
    return 2 * batch * length * channels * weight[2]


@register_flop_formula(torch.ops.convbert.depthwise_convolution_backward)
def _backward_flops(grad: Any, hidden: Any, weight: Any, *args: Any, **kwargs: Any) -> int:
    return 2 * _forward_flops(hidden, weight)
