"""Span-based dynamic convolution from hidden states to its output (paper section 3.2) in one."""

from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from convbert_plugin.ops.convolution_backends import kernels_for
from convbert_plugin.ops.products import product_alone, weight_gradients


class SpanWeights(NamedTuple):
    """Of the span key, then of the layer that makes kernels of it.

    Shapes: depthwise [C, 1, K], pointwise [W, C] and [W], kernel [H * K, W] and [H * K].
    """

    depthwise: Tensor
    pointwise: Tensor
    pointwise_bias: Tensor
    kernel: Tensor
    kernel_bias: Tensor


def goes_in_one(hidden: Tensor) -> bool:
    """Whether :func:`span_based_convolution` takes such states.

    Elsewhere the steps are made one by one: on a GPU what they cost hides behind its work,
    compilers fuse for themselves, autocast chooses a precision for each, and who watches torch's
    operations, as its counter of FLOPs does, is to see them.
    """
    return (
        hidden.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not is_in_torch_dispatch_mode()
    )


def span_based_convolution(
    hidden: Tensor, query: Tensor, value: Tensor, weights: SpanWeights, backend: str
) -> Tensor:
    """The value, convolved with kernels from each query and the span around its token.

    Shapes: hidden [B, T, C], query and value [B, T, W] -> [B, T, W]; all of one dtype. It is what
    the steps of ``modules/convolution.py`` compute: for small models these cost as much as their
    work, so here they are one node of the backward pass. Source: the released modeling.py:931-985.
    """
    return _InOne.apply(hidden, query, value, backend, *weights)


class _InOne(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, query: Tensor, value: Tensor, backend: str, *tensors: Tensor
    ) -> Tensor:
        weights, kernels = SpanWeights(*tensors), kernels_for(backend, hidden)
        spans = kernels.depthwise_forward(hidden, weights.depthwise, None)
        key = product_alone(spans, weights.pointwise, weights.pointwise_bias)
        weighed = key * query
        logits = product_alone(weighed, weights.kernel, weights.kernel_bias)
        logits = logits.unflatten(-1, (-1, weights.depthwise.size(2)))
        ctx.kernels = kernels
        ctx.save_for_backward(hidden, query, value, spans, key, weighed, logits, *weights)
        return kernels.span_convolution_forward(value, logits, None)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        # A backward pass within autocast computes in the precision of the forward pass.
        with torch.autocast("cpu", enabled=False):
            return _InOne._gradients(ctx, grad)

    @staticmethod
    def _gradients(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        hidden, query, value, spans, key, weighed, logits, *tensors = ctx.saved_tensors
        weights, kernels = SpanWeights(*tensors), ctx.kernels
        grad_value, grad_logits = kernels.span_convolution_backward(grad, value, logits, None)
        grad_logits = grad_logits.flatten(2)
        of_kernel = weight_gradients(grad_logits, weighed)
        grad_weighed = product_alone(grad_logits, weights.kernel.t())
        grad_query = grad_weighed * key
        grad_key = grad_weighed.mul_(query)
        of_pointwise = weight_gradients(grad_key, spans)
        grad_spans = product_alone(grad_key, weights.pointwise.t())
        grad_hidden, of_depthwise = kernels.depthwise_backward(
            grad_spans, hidden, weights.depthwise, None
        )
        of_weights = of_depthwise, *of_pointwise, *of_kernel
        return grad_hidden, grad_query, grad_value, None, *of_weights
