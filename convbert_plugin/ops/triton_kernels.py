"""The convolutions by Triton, on GPUs; imported only where Triton is installed.

Sums are in fp32, nothing is added atomically and no launch depends on what tensors hold: results
repeat to the bit, and CUDA graphs can hold the kernels.
"""

from typing import NamedTuple, Optional

import torch
import triton
from torch import Tensor

from convbert_plugin.ops.texts import numbers_of_texts
from convbert_plugin.ops.triton_depthwise import (
    depthwise_strips,
    depthwise_strips_backward,
    sum_partial,
)
from convbert_plugin.ops.triton_span import span_windows, span_windows_backward


class Windows(NamedTuple):
    """How the span convolution is cut: places a window, warps a program, how fp32 is multiplied."""

    places: int
    warps: int
    precision: str = "ieee"


class Strips(NamedTuple):
    """How the depthwise convolution is cut: positions a strip, warps, channels a program.

    ``width``: of how many channels a thread loads, in bytes.
    """

    run: int
    warps: int
    width: int = 16
    channels: int = 64


# By bytes of an element: what was fastest on an H200, for [32, 128, 384] and [256, 128, 384] with
# 6 heads and 9 taps. In fp32 three products of the matrix units are as good as one of fp32.
SPAN = {2: Windows(16, 1), 4: Windows(32, 4)}
SPAN_BACKWARD = {2: Windows(16, 1), 4: Windows(16, 1, "tf32x3")}
DEPTHWISE = Strips(8, 4)
DEPTHWISE_BACKWARD = Strips(16, 4, width=8)
# Rows and columns of partial sums that a program adds up at a time.
SUM_ROWS, SUM_COLUMNS = 64, 32


def try_on(device: torch.device) -> None:
    """Raises what Triton raises where it cannot compute."""
    _add_up(torch.empty(1, 1, 1, device=device), torch.ones(1, 1, 1, device=device))


def span_convolution_forward(
    value: Tensor, logits: Tensor, cu_seqlens: Optional[Tensor], cut: Optional[Windows] = None
) -> Tensor:
    value, logits = _channels_together(value), _channels_together(logits)
    output = torch.empty(value.shape, dtype=value.dtype, device=value.device)
    cut = cut or SPAN[value.element_size()]
    windows, constants = _windows(cut, value, logits)
    if output.numel():
        with torch.cuda.device_of(value):
            span_windows[(value.size(0) * logits.size(2) * windows,)](
                *(output, value, logits, _texts(value, cu_seqlens)),
                *(value.size(1), windows, logits.size(2)),
                *(value.stride(0), value.stride(1), *logits.stride()[:3]),
                **constants,
            )
    return output


def span_convolution_backward(
    grad: Tensor,
    value: Tensor,
    logits: Tensor,
    cu_seqlens: Optional[Tensor],
    cut: Optional[Windows] = None,
) -> tuple[Tensor, Tensor]:
    grad, value, logits = (_channels_together(each) for each in (grad, value, logits))
    grad_value = torch.empty(value.shape, dtype=value.dtype, device=value.device)
    grad_logits = torch.empty(logits.shape, dtype=logits.dtype, device=value.device)
    cut = cut or SPAN_BACKWARD[value.element_size()]
    windows, constants = _windows(cut, value, logits)
    if grad_value.numel():
        with torch.cuda.device_of(value):
            span_windows_backward[(value.size(0) * logits.size(2) * windows,)](
                *(grad_value, grad_logits, grad, value, logits, _texts(value, cu_seqlens)),
                *(value.size(1), windows, logits.size(2)),
                *(grad.stride(0), grad.stride(1), value.stride(0), value.stride(1)),
                *logits.stride()[:3],
                **constants,
            )
    return grad_value, grad_logits


def depthwise_forward(
    hidden: Tensor, weight: Tensor, cu_seqlens: Optional[Tensor], cut: Strips = DEPTHWISE
) -> Tensor:
    hidden = _channels_together(hidden)
    output = torch.empty(hidden.shape, dtype=hidden.dtype, device=hidden.device)
    runs, strips, programs, constants = _strips(cut, hidden, weight)
    if output.numel():
        with torch.cuda.device_of(hidden):
            depthwise_strips[(programs * triton.cdiv(hidden.size(2), cut.channels),)](
                *(output, hidden, weight.contiguous(), _texts(hidden, cu_seqlens)),
                *(hidden.size(1), runs, strips, hidden.stride(0), hidden.stride(1)),
                **constants,
            )
    return output


def depthwise_backward(
    grad: Tensor,
    hidden: Tensor,
    weight: Tensor,
    cu_seqlens: Optional[Tensor],
    cut: Strips = DEPTHWISE_BACKWARD,
) -> tuple[Tensor, Tensor]:
    """The gradient of the weight is added up from a partial sum a program, in their order."""
    grad, hidden = _channels_together(grad), _channels_together(hidden)
    grad_hidden = torch.empty(hidden.shape, dtype=hidden.dtype, device=hidden.device)
    grad_weight = torch.empty(weight.shape, dtype=weight.dtype, device=weight.device)
    runs, strips, programs, constants = _strips(cut, hidden, weight)
    if not grad_hidden.numel():
        return grad_hidden, grad_weight.zero_()
    channels, _, taps = weight.shape
    partial = torch.empty((programs, taps, channels), dtype=torch.float32, device=hidden.device)
    with torch.cuda.device_of(hidden):
        depthwise_strips_backward[(programs * triton.cdiv(channels, cut.channels),)](
            *(grad_hidden, partial, grad, hidden, weight.contiguous()),
            *(_texts(hidden, cu_seqlens), hidden.size(1), runs, strips),
            *(grad.stride(0), grad.stride(1), hidden.stride(0), hidden.stride(1)),
            **constants,
        )
    _add_up(grad_weight, partial)
    return grad_hidden, grad_weight


def _add_up(output: Tensor, partial: Tensor) -> None:
    """Sums [N, K, C] into [C, 1, K]."""
    parts, taps, channels = partial.shape
    with torch.cuda.device_of(partial):
        sum_partial[(triton.cdiv(taps * channels, SUM_COLUMNS),)](
            *(output, partial, parts),
            CHANNELS=channels,
            TAPS=taps,
            COLUMNS=SUM_COLUMNS,
            ROWS=SUM_ROWS,
        )


def _windows(cut: Windows, value: Tensor, logits: Tensor) -> tuple[int, dict[str, object]]:
    """Windows a row, and what a kernel is compiled for."""
    heads, taps = logits.shape[2:]
    size = value.size(2) // heads
    # At least half of a window is written. A product on matrix units has 16 columns and more.
    places = max(cut.places, triton.next_power_of_2(2 * taps - 2))
    return triton.cdiv(value.size(1), places - taps + 1), {
        "TAPS": taps,
        "PADDED": triton.next_power_of_2(taps),
        "SIZE": size,
        "BLOCK": max(16, triton.next_power_of_2(size)),
        "PLACES": places,
        "PRECISION": cut.precision,
        "num_warps": max(cut.warps, min(8, triton.next_power_of_2(size) // 64)),
    }


def _strips(cut: Strips, hidden: Tensor, weight: Tensor) -> tuple[int, int, int, dict[str, object]]:
    """Strips a row, strips, programs a block of channels, and what a kernel is compiled for."""
    batch, length, channels = hidden.shape
    of_program = max(1, cut.warps * 32 * (cut.width // hidden.element_size()) // cut.channels)
    runs = triton.cdiv(length, cut.run)
    return (
        runs,
        batch * runs,
        triton.cdiv(batch * runs, of_program),
        {
            "CHANNELS": channels,
            "TAPS": weight.size(2),
            "PADDED": triton.next_power_of_2(weight.size(2)),
            "BLOCK": cut.channels,
            "STRIPS": of_program,
            "RUN": cut.run,
            "num_warps": cut.warps,
        },
    )


def _channels_together(states: Tensor) -> Tensor:
    return states if states.stride(-1) == 1 else states.contiguous()


def _texts(states: Tensor, cu_seqlens: Optional[Tensor]) -> Optional[Tensor]:
    """The number of the text at every position [B * T], where rows have several."""
    if cu_seqlens is None:
        return None
    return numbers_of_texts(cu_seqlens, states.size(0), states.size(1))
