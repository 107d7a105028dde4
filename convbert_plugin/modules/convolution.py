"""The convolution branch of the mixed attention: one class for each ``conv_type``.

The kernel is softmaxed over its taps and shared by the channels of a head, except in the plain
convolution.
"""

from typing import Callable, Optional, Protocol

import torch
from fairseq.modules.dynamic_convolution import DynamicConv1dTBC
from torch import Tensor, nn

from convbert_plugin.errors import UserError
from convbert_plugin.modules.initialization import linear, truncated_normal_
from convbert_plugin.ops.convolution_backends import CHOICES
from convbert_plugin.ops.depthwise_convolution import depthwise_convolution
from convbert_plugin.ops.precision import as_products, at_least_fp32
from convbert_plugin.ops.span_based_convolution import (
    SpanWeights,
    goes_in_one,
    span_based_convolution,
)
from convbert_plugin.ops.span_convolution import span_convolution

# `fairseq`: its own DynamicConv1dTBC, and torch's own Conv1d beside it.
CONV_BACKENDS = (*CHOICES, "fairseq")


class ConvBranch(Protocol):
    """What every ``conv_type`` is, once it is built.

    Shapes: value and query [B, T, C], hidden [B, T, hidden] -> [B, T, C]; ``kernels``: those that
    the value is convolved with [B, T, H, K], or None for the plain convolution.
    """

    def __call__(self, value: Tensor, query: Tensor, hidden: Tensor) -> Tensor: ...

    def kernels(self, query: Tensor, hidden: Tensor) -> Optional[Tensor]: ...


class SpanKey(nn.Module):
    """Depthwise separable convolution that sums up the span around a token (paper: K_s).

    Shapes: [B, T, in_features] -> [B, T, out_features]. Source: the released modeling.py:931-938.
    """

    def __init__(
        self, in_features: int, out_features: int, kernel_size: int, backend: str = "auto"
    ):
        super().__init__()
        self.backend = backend
        self.depthwise = nn.Conv1d(
            in_features,
            in_features,
            kernel_size,
            padding=kernel_size // 2,
            groups=in_features,
            bias=False,
        )
        self.pointwise = linear(in_features, out_features)
        truncated_normal_(self.depthwise.weight, std=1 / kernel_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.pointwise(self._spans(hidden))

    def _spans(self, hidden: Tensor) -> Tensor:
        if self.backend == "fairseq":
            return self.depthwise(hidden.transpose(1, 2)).transpose(1, 2)
        hidden = as_products(hidden)
        weight = self.depthwise.weight.to(hidden.dtype)
        return depthwise_convolution(hidden, weight, backend=self.backend)


class SpanDynamicConv(DynamicConv1dTBC):
    """fairseq's dynamic convolution with a choice of backends for the same function.

    Shapes: x and query [T, B, C] -> [T, B, C], as in the parent.
    """

    def __init__(self, channels: int, kernel_size: int, heads: int, backend: str = "auto"):
        if backend not in CONV_BACKENDS:
            raise UserError(f"--conv-backend {backend}: choose one of {', '.join(CONV_BACKENDS)}")
        super().__init__(
            channels,
            kernel_size,
            padding_l=kernel_size // 2,
            num_heads=heads,
            weight_softmax=True,
            bias=True,
        )
        self.backend = backend

    def reset_parameters(self) -> None:
        truncated_normal_(self.weight_linear.weight)
        nn.init.zeros_(self.weight_linear.bias)

    def logits(self, query: Tensor) -> Tensor:
        """What the kernels are the softmax of [..., H, K], for queries [..., C]."""
        return self.weight_linear(query).unflatten(-1, (self.num_heads, self.kernel_size))

    def kernel(self, query: Tensor) -> Tensor:
        """Kernels [..., H, K] that sum to one over their taps, for queries [..., C]."""
        logits = self.logits(query)
        return logits.softmax(dim=-1, dtype=at_least_fp32(logits.dtype))

    def forward(self, x: Tensor, query: Tensor) -> Tensor:
        return self.batch_first(x.transpose(0, 1), query.transpose(0, 1)).transpose(0, 1)

    def batch_first(self, value: Tensor, query: Tensor) -> Tensor:
        """The same for value and query [B, T, C] -> [B, T, C]."""
        if self.backend != "fairseq":
            return span_convolution(value, self.logits(query), backend=self.backend)
        x, query = (states.transpose(0, 1).contiguous() for states in (value, query))
        return DynamicConv1dTBC.forward(self, x, query=query).transpose(0, 1)


class SpanDynamicBranch(nn.Module):
    """Kernels from the query and the span around it (paper section 3.2)."""

    def __init__(self, hidden: int, channels: int, kernel_size: int, heads: int, backend: str):
        super().__init__()
        self.span_key = SpanKey(hidden, channels, kernel_size, backend)
        self.conv = SpanDynamicConv(channels, kernel_size, heads, backend)

    def forward(self, value: Tensor, query: Tensor, hidden: Tensor) -> Tensor:
        if self._goes_in_one(hidden):
            weights = self._weights()
            return span_based_convolution(hidden, query, value, weights, self.conv.backend)
        return self.conv.batch_first(value, self._kernel_query(query, hidden))

    def kernels(self, query: Tensor, hidden: Tensor) -> Tensor:
        return self.conv.kernel(self._kernel_query(query, hidden))

    def _kernel_query(self, query: Tensor, hidden: Tensor) -> Tensor:
        return self.span_key(hidden) * query

    def _goes_in_one(self, hidden: Tensor) -> bool:
        """Not past layers that were replaced, as by quantized ones, or that have hooks."""
        key, kernel = self.span_key, self.conv.weight_linear
        layers = {key: SpanKey, key.depthwise: nn.Conv1d, key.pointwise: nn.Linear}
        layers |= {self.conv: SpanDynamicConv, kernel: nn.Linear}
        are_plain = all(
            type(layer) is kind and not (layer._forward_hooks or layer._forward_pre_hooks)
            for layer, kind in layers.items()
        )
        return are_plain and self.conv.backend != "fairseq" and goes_in_one(hidden)

    def _weights(self) -> SpanWeights:
        key, kernel = self.span_key, self.conv.weight_linear
        of_key = key.depthwise.weight, key.pointwise.weight, key.pointwise.bias
        return SpanWeights(*of_key, kernel.weight, kernel.bias)


class DynamicBranch(nn.Module):
    """Kernels from the query alone (Wu et al. 2019), for comparison."""

    def __init__(self, hidden: int, channels: int, kernel_size: int, heads: int, backend: str):
        super().__init__()
        self.conv = SpanDynamicConv(channels, kernel_size, heads, backend)

    def forward(self, value: Tensor, query: Tensor, hidden: Tensor) -> Tensor:
        return self.conv.batch_first(value, query)

    def kernels(self, query: Tensor, hidden: Tensor) -> Tensor:
        return self.conv.kernel(query)


class LightBranch(nn.Module):
    """One learned kernel a head, the same at every position (Wu et al. 2019), for comparison."""

    def __init__(self, hidden: int, channels: int, kernel_size: int, heads: int, backend: str):
        super().__init__()
        self.kernel_logits = nn.Parameter(truncated_normal_(torch.empty(heads, kernel_size)))
        # Its kernel is never computed from a query: fairseq's own code has no such case.
        self.backend = "auto" if backend == "fairseq" else backend

    def forward(self, value: Tensor, query: Tensor, hidden: Tensor) -> Tensor:
        return span_convolution(value, self._at_every_position(query), backend=self.backend)

    def kernels(self, query: Tensor, hidden: Tensor) -> Tensor:
        logits = self._at_every_position(query)
        return logits.softmax(dim=-1, dtype=at_least_fp32(logits.dtype))

    def _at_every_position(self, query: Tensor) -> Tensor:
        return self.kernel_logits.expand(*query.shape[:2], *self.kernel_logits.shape)


class PlainBranch(nn.Module):
    """An ordinary convolution over all channels, for comparison."""

    def __init__(self, hidden: int, channels: int, kernel_size: int, heads: int, backend: str):
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2)
        truncated_normal_(self.conv.weight)
        nn.init.zeros_(self.conv.get_parameter("bias"))

    def forward(self, value: Tensor, query: Tensor, hidden: Tensor) -> Tensor:
        return self.conv(value.transpose(1, 2)).transpose(1, 2)

    def kernels(self, query: Tensor, hidden: Tensor) -> None:
        return None


CONV_BRANCHES: dict[str, Optional[Callable[[int, int, int, int, str], ConvBranch]]] = {
    "span_dynamic": SpanDynamicBranch,
    "dynamic": DynamicBranch,
    "light": LightBranch,
    "conv": PlainBranch,
    "none": None,
}
