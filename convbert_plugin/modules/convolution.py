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
from convbert_plugin.ops.dynamic_convolution import dynamic_convolution
from convbert_plugin.ops.precision import at_least_fp32


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

    def __init__(self, in_features: int, out_features: int, kernel_size: int):
        super().__init__()
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
        spans = self.depthwise(hidden.transpose(1, 2)).transpose(1, 2)
        return self.pointwise(spans)


class SpanDynamicConv(DynamicConv1dTBC):
    """fairseq's dynamic convolution with a choice of backends for the same function.

    Shapes: x and query [T, B, C] -> [T, B, C], as in the parent. Backends: ``torch``, the op of
    this project, and ``fairseq``, the parent's own code.
    """

    def __init__(self, channels: int, kernel_size: int, heads: int, backend: str = "torch"):
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

    def kernel(self, query: Tensor) -> Tensor:
        """Kernels [..., H, K] that sum to one over their taps, for queries [..., C]."""
        logits = self.weight_linear(query).unflatten(-1, (self.num_heads, self.kernel_size))
        return logits.softmax(dim=-1, dtype=at_least_fp32(logits.dtype))

    def forward(self, x: Tensor, query: Tensor) -> Tensor:
        return CONV_BACKENDS[self.backend](self, x, query)


def _torch_backend(conv: SpanDynamicConv, x: Tensor, query: Tensor) -> Tensor:
    kernel = conv.kernel(query.transpose(0, 1))
    return dynamic_convolution(x.transpose(0, 1), kernel).transpose(0, 1)


def _fairseq_backend(conv: SpanDynamicConv, x: Tensor, query: Tensor) -> Tensor:
    return DynamicConv1dTBC.forward(conv, x.contiguous(), query=query.contiguous())


CONV_BACKENDS = {"torch": _torch_backend, "fairseq": _fairseq_backend}


class SpanDynamicBranch(nn.Module):
    """Kernels from the query and the span around it (paper section 3.2)."""

    def __init__(self, hidden: int, channels: int, kernel_size: int, heads: int, backend: str):
        super().__init__()
        self.span_key = SpanKey(hidden, channels, kernel_size)
        self.conv = SpanDynamicConv(channels, kernel_size, heads, backend)

    def forward(self, value: Tensor, query: Tensor, hidden: Tensor) -> Tensor:
        kernel_query = self._kernel_query(query, hidden)
        return self.conv(value.transpose(0, 1), kernel_query.transpose(0, 1)).transpose(0, 1)

    def kernels(self, query: Tensor, hidden: Tensor) -> Tensor:
        return self.conv.kernel(self._kernel_query(query, hidden))

    def _kernel_query(self, query: Tensor, hidden: Tensor) -> Tensor:
        return self.span_key(hidden) * query


class DynamicBranch(nn.Module):
    """Kernels from the query alone (Wu et al. 2019), for comparison."""

    def __init__(self, hidden: int, channels: int, kernel_size: int, heads: int, backend: str):
        super().__init__()
        self.conv = SpanDynamicConv(channels, kernel_size, heads, backend)

    def forward(self, value: Tensor, query: Tensor, hidden: Tensor) -> Tensor:
        return self.conv(value.transpose(0, 1), query.transpose(0, 1)).transpose(0, 1)

    def kernels(self, query: Tensor, hidden: Tensor) -> Tensor:
        return self.conv.kernel(query)


class LightBranch(nn.Module):
    """One learned kernel a head, the same at every position (Wu et al. 2019), for comparison."""

    def __init__(self, hidden: int, channels: int, kernel_size: int, heads: int, backend: str):
        super().__init__()
        self.kernel_logits = nn.Parameter(truncated_normal_(torch.empty(heads, kernel_size)))

    def forward(self, value: Tensor, query: Tensor, hidden: Tensor) -> Tensor:
        return dynamic_convolution(value, self.kernels(query, hidden))

    def kernels(self, query: Tensor, hidden: Tensor) -> Tensor:
        kernel = self.kernel_logits.softmax(dim=-1, dtype=at_least_fp32(self.kernel_logits.dtype))
        return kernel.expand(*query.shape[:2], *kernel.shape)


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
