"""The convolutions on a CPU, in C++ that is built where it runs (:mod:`cpu_library`)."""

import ctypes
from typing import Optional

import torch
from torch import Tensor

from convbert_plugin.ops.cpu_library import library
from convbert_plugin.ops.precision import at_least_fp32

TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}


class _Shape(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "length", "channels", "heads", "taps")),
        ("ends", ctypes.c_void_p),
        ("texts", ctypes.c_int64),
        ("threads", ctypes.c_int),
    )


def span_convolution_forward(value: Tensor, logits: Tensor, cu_seqlens: Optional[Tensor]) -> Tensor:
    wanted, (value, logits) = value.dtype, _of_one_type(value, logits)
    output = value.new_empty(value.shape)
    _call(
        "convbert_span_forward",
        *(value, *logits.shape[2:], cu_seqlens),
        *(*_read(value), logits.data_ptr(), output.data_ptr()),
    )
    return output.to(wanted)


def span_convolution_backward(
    grad: Tensor, value: Tensor, logits: Tensor, cu_seqlens: Optional[Tensor]
) -> tuple[Tensor, Tensor]:
    wanted = value.dtype, logits.dtype
    value, logits = _of_one_type(value, logits)
    grad = _channels_contiguous(grad.to(value.dtype))
    grad_value, grad_logits = value.new_empty(value.shape), logits.new_empty(logits.shape)
    _call(
        "convbert_span_backward",
        *(value, *logits.shape[2:], cu_seqlens),
        *(*_read(grad), *_read(value), logits.data_ptr()),
        *(grad_value.data_ptr(), grad_logits.data_ptr()),
    )
    return grad_value.to(wanted[0]), grad_logits.to(wanted[1])


def depthwise_forward(hidden: Tensor, weight: Tensor, cu_seqlens: Optional[Tensor]) -> Tensor:
    hidden, weights = _channels_contiguous(hidden), _taps_first(weight, hidden)
    output = hidden.new_empty(hidden.shape)
    _call(
        "convbert_depthwise_forward",
        *(hidden, 1, weight.size(2), cu_seqlens),
        *(*_read(hidden), weights.data_ptr(), output.data_ptr()),
    )
    return output


def depthwise_backward(
    grad: Tensor, hidden: Tensor, weight: Tensor, cu_seqlens: Optional[Tensor]
) -> tuple[Tensor, Tensor]:
    grad = _channels_contiguous(grad.to(hidden.dtype))
    hidden = _channels_contiguous(hidden)
    weights = _taps_first(weight, hidden)
    grad_hidden, grad_weights = hidden.new_empty(hidden.shape), torch.empty_like(weights)
    _call(
        "convbert_depthwise_backward",
        *(hidden, 1, weight.size(2), cu_seqlens),
        *(*_read(grad), *_read(hidden), weights.data_ptr()),
        *(grad_hidden.data_ptr(), grad_weights.data_ptr()),
    )
    return grad_hidden, grad_weights.t().unsqueeze(1).to(weight.dtype).contiguous()


def _call(
    function: str,
    states: Tensor,
    heads: int,
    taps: int,
    cu_seqlens: Optional[Tensor],
    *pointers: object,
) -> None:
    batch, length, channels = states.shape
    ends = None if cu_seqlens is None else _ends(cu_seqlens, batch, length)
    texts, place = (0, None) if ends is None else (ends.numel() - 1, ends.data_ptr())
    threads = torch.get_num_threads()
    shape = _Shape(batch, length, channels, heads, taps, place, texts, threads)
    getattr(library().functions, function)(ctypes.byref(shape), TYPES[states.dtype], *pointers)


def _ends(cu_seqlens: Tensor, batch: int, length: int) -> Tensor:
    """Where texts end, rows among them: what lies outside of the batch is brought into it."""
    of_rows = torch.arange(0, batch * length + 1, length)
    return torch.cat([cu_seqlens.clamp(0, batch * length), of_rows]).sort().values


def _channels_contiguous(states: Tensor) -> Tensor:
    return states if states.stride(2) == 1 else states.contiguous()


def _read(states: Tensor) -> tuple[int, ctypes.Array[ctypes.c_int64]]:
    return states.data_ptr(), (ctypes.c_int64 * 2)(*states.stride()[:2])


def _of_one_type(value: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(value.dtype, logits.dtype)
    return _channels_contiguous(value.to(dtype)), logits.to(dtype).contiguous()


def _taps_first(weight: Tensor, hidden: Tensor) -> Tensor:
    return weight[:, 0].t().to(at_least_fp32(hidden.dtype)).contiguous()
