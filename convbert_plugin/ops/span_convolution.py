"""Convolution with a kernel of its own at every position: the core of ConvBERT."""

from typing import Any, Optional

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from convbert_plugin.ops.convolution_backends import kernels_for
from convbert_plugin.ops.registration import op
from convbert_plugin.ops.texts import check_offsets


def span_convolution(
    value: Tensor, logits: Tensor, cu_seqlens: Optional[Tensor] = None, backend: str = "auto"
) -> Tensor:
    """Convolve the channels of each head with the softmax of their own position's logits.

    Shapes: value [B, T, C], logits [B, T, H, K] (K odd, H divides C) -> [B, T, C]. The channels of
    a head are contiguous; tap j reads position t + j - K // 2; outside the row stand zeros. Sums
    are in fp32 at least, the output has the dtype of the value. Nothing but the inputs is kept for
    the backward. ``cu_seqlens``: see :mod:`convbert_plugin.ops.texts`.
    Source: the released modeling.py:971-985, or fairseq's DynamicConv1dTBC with padding K // 2.
    """
    check_offsets(cu_seqlens)
    return torch.ops.convbert.span_convolution(value, logits, cu_seqlens, backend)


@op("span_convolution")
def _forward(
    value: Tensor, logits: Tensor, cu_seqlens: Optional[Tensor] = None, backend: str = "auto"
) -> Tensor:
    return kernels_for(backend, value).span_convolution_forward(value, logits, cu_seqlens)


@op("span_convolution_backward")
def _backward(
    grad: Tensor,
    value: Tensor,
    logits: Tensor,
    cu_seqlens: Optional[Tensor] = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    kernels = kernels_for(backend, value)
    return kernels.span_convolution_backward(grad, value, logits, cu_seqlens)


@_forward.register_fake
def _(
    value: Tensor, logits: Tensor, cu_seqlens: Optional[Tensor] = None, backend: str = "auto"
) -> Tensor:
    return value.new_empty(value.shape)


@_backward.register_fake
def _(
    grad: Tensor,
    value: Tensor,
    logits: Tensor,
    cu_seqlens: Optional[Tensor] = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    return value.new_empty(value.shape), logits.new_empty(logits.shape)


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    value, logits, cu_seqlens, ctx.backend = inputs
    ctx.save_for_backward(value, logits, cu_seqlens)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
    gradients = torch.ops.convbert.span_convolution_backward(grad, *ctx.saved_tensors, ctx.backend)
    return *gradients, None, None


_forward.register_autograd(_gradients, setup_context=_keep_inputs)


@register_flop_formula(torch.ops.convbert.span_convolution)
def _forward_flops(value: Any, logits: Any, *args: Any, **kwargs: Any) -> int:
    """A product and a sum for each channel and tap; the softmax is not counted, as elsewhere."""
    batch, length, channels = value
    return 2 * batch * length * channels * logits[3]


@register_flop_formula(torch.ops.convbert.span_convolution_backward)
def _backward_flops(grad: Any, value: Any, logits: Any, *args: Any, **kwargs: Any) -> int:
    return 2 * _forward_flops(value, logits)
