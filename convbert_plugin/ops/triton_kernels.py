"""The convolutions by Triton, on GPUs; imported only where Triton is installed.

Sums are in fp32, nothing is added atomically and no launch depends on what tensors hold: results
repeat to the bit, and CUDA graphs can hold the kernels.
"""

import functools
import math
from typing import Any, NamedTuple, Optional

import torch
import triton
from torch import Tensor

from convbert_plugin.ops import eager_kernels
from convbert_plugin.ops.texts import numbers_of_texts
from convbert_plugin.ops.triton_depthwise import (
    depthwise_strips,
    depthwise_strips_backward,
    sum_partial,
)
from convbert_plugin.ops.triton_span import span_runs, span_runs_backward


class Runs(NamedTuple):
    """How the span convolution is cut: positions that a program reads, warps.

    Forward it writes half of them, backward all but those at its edges. ``precision`` is that of
    products in fp32.
    """

    read: int
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


# By bytes of an element. SPAN_BACKWARD in half precision and DEPTHWISE were the fastest of several
# on an H200, for [256, 128, 384] with 6 heads and 9 taps; the others have the fewest instructions.
# In fp32 three products of the matrix units are as good as one of fp32.
SPAN = {2: Runs(32, 2), 4: Runs(32, 2, "tf32x3")}
SPAN_BACKWARD = {2: Runs(16, 1), 4: Runs(16, 1, "tf32x3")}
DEPTHWISE = Strips(8, 4)
DEPTHWISE_BACKWARD = Strips(8, 1, width=8, channels=128)
# A program adds up what its strips make of the weight's gradient, several strips in turn: as many
# as leave every multiprocessor some ten programs.
SUMMING_PROGRAMS, FEWEST_STEPS = 1024, 2
# Of channels in a head: a program holds all of them.
LARGEST_HEAD = 256
# Rows and columns of partial sums that a program adds up at a time.
SUM_ROWS, SUM_COLUMNS = 256, 16


def try_on(device: torch.device) -> None:
    """Raises what Triton raises where it cannot compute."""
    _add_up(torch.empty(1, 1, 1, device=device), torch.ones(1, 1, 1, device=device))


def span_convolution_forward(
    value: Tensor, logits: Tensor, cu_seqlens: Optional[Tensor], cut: Optional[Runs] = None
) -> Tensor:
    if value.size(2) > LARGEST_HEAD * logits.size(2):
        return eager_kernels.span_convolution_forward(value, logits, cu_seqlens)
    output = value.new_empty(value.shape)
    runs, programs, constants = _runs(cut or SPAN[value.element_size()], value, logits)
    if output.numel():
        (value, of_value), (logits, of_logits) = _rows_together(value), _rows_together(logits)
        with torch.cuda.device_of(value):
            span_runs[(programs,)](
                *(output, value, logits, _texts(value, cu_seqlens), value.size(1), runs),
                VALUE_STRIDE=of_value,
                LOGITS_STRIDE=of_logits,
                **constants,
            )
    return output


def span_convolution_backward(
    grad: Tensor,
    value: Tensor,
    logits: Tensor,
    cu_seqlens: Optional[Tensor],
    cut: Optional[Runs] = None,
) -> tuple[Tensor, Tensor]:
    if value.size(2) > LARGEST_HEAD * logits.size(2):
        return eager_kernels.span_convolution_backward(grad, value, logits, cu_seqlens)
    grad_value = value.new_empty(value.shape)
    grad_logits = logits.new_empty(logits.shape)
    cut = cut or SPAN_BACKWARD[value.element_size()]
    runs, programs, constants = _runs(cut, value, logits, backward=True)
    if grad_value.numel():
        (value, of_value), (logits, of_logits) = _rows_together(value), _rows_together(logits)
        grad, of_grad = _rows_together(grad)
        with torch.cuda.device_of(value):
            span_runs_backward[(programs,)](
                *(grad_value, grad_logits, grad, value, logits, _texts(value, cu_seqlens)),
                *(value.size(1), runs),
                GRAD_STRIDE=of_grad,
                VALUE_STRIDE=of_value,
                LOGITS_STRIDE=of_logits,
                **constants,
            )
    return grad_value, grad_logits


def depthwise_forward(
    hidden: Tensor, weight: Tensor, cu_seqlens: Optional[Tensor], cut: Strips = DEPTHWISE
) -> Tensor:
    hidden = _channels_together(hidden)
    output = hidden.new_empty(hidden.shape)
    runs, strips, programs, constants = _strips(cut, hidden, weight)
    if output.numel():
        with torch.cuda.device_of(hidden):
            depthwise_strips[(programs * _share(hidden.size(2), cut.channels),)](
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
    grad_hidden = hidden.new_empty(hidden.shape)
    grad_weight = weight.new_empty(weight.shape)
    if not grad_hidden.numel():
        return grad_hidden, grad_weight.zero_()
    runs, strips, programs, constants = _strips(cut, hidden, weight)
    blocks = _share(hidden.size(2), cut.channels)
    steps = max(FEWEST_STEPS, programs * blocks // SUMMING_PROGRAMS)
    programs = _share(programs, steps)
    channels, _, taps = weight.shape
    partial = grad.new_empty((programs, taps, channels), dtype=torch.float32)
    with torch.cuda.device_of(hidden):
        depthwise_strips_backward[(programs * blocks,)](
            *(grad_hidden, partial, grad, hidden, weight.contiguous()),
            *(_texts(hidden, cu_seqlens), hidden.size(1), runs, strips, steps),
            *(grad.stride(0), grad.stride(1), hidden.stride(0), hidden.stride(1)),
            **constants,
        )
    _add_up(grad_weight, partial)
    return grad_hidden, grad_weight


def _add_up(output: Tensor, partial: Tensor) -> None:
    """Sums [N, K, C] into [C, 1, K]."""
    parts, taps, channels = partial.shape
    with torch.cuda.device_of(partial):
        sum_partial[(_share(taps * channels, SUM_COLUMNS),)](
            *(output, partial, parts),
            CHANNELS=channels,
            TAPS=taps,
            COLUMNS=SUM_COLUMNS,
            ROWS=SUM_ROWS,
            num_warps=8,
        )


def _runs(
    cut: Runs, value: Tensor, logits: Tensor, backward: bool = False
) -> tuple[int, int, dict[str, Any]]:
    """Runs a row, programs, and what a kernel is compiled for."""
    batch, length, heads, taps = logits.shape
    constants = _of_runs(cut, heads, taps, value.size(2) // heads, backward)
    runs = _share(length, constants["RUN"])
    return runs, batch * heads * runs, constants


# Kept: all that is computed before a launch delays it.
@functools.cache
def _of_runs(cut: Runs, heads: int, taps: int, size: int, backward: bool) -> dict[str, Any]:
    read = max(cut.read, triton.next_power_of_2(2 * taps - 2))
    return {
        "HEADS": heads,
        "TAPS": taps,
        "PADDED": triton.next_power_of_2(taps),
        "SIZE": size,
        # A product on matrix units has 16 columns and more.
        "BLOCK": max(16, triton.next_power_of_2(size)),
        "RUN": read - taps + 1 if backward else read // 2,
        "READ": read,
        "PRECISION": cut.precision,
        "num_warps": max(cut.warps, triton.next_power_of_2(size) // 64),
    }


def _strips(cut: Strips, hidden: Tensor, weight: Tensor) -> tuple[int, int, int, dict[str, Any]]:
    """Strips a row, strips, programs a block of channels, and what a kernel is compiled for."""
    batch, length, channels = hidden.shape
    constants = _of_strips(cut, hidden.element_size(), channels, weight.size(2))
    runs = _share(length, cut.run)
    return runs, batch * runs, _share(batch * runs, constants["STRIPS"]), constants


@functools.cache
def _of_strips(cut: Strips, itemsize: int, channels: int, taps: int) -> dict[str, Any]:
    return {
        "CHANNELS": channels,
        "TAPS": taps,
        "PADDED": triton.next_power_of_2(taps),
        "BLOCK": cut.channels,
        "STRIPS": max(1, cut.warps * 32 * (cut.width // itemsize) // cut.channels),
        "RUN": cut.run,
        "num_warps": cut.warps,
    }


def _share(whole: int, parts: int) -> int:
    return -(-whole // parts)


def _rows_together(states: Tensor) -> tuple[Tensor, int]:
    """The same with its positions at one distance throughout the batch, and that distance.

    A part of the channels of a larger tensor is so too. Kernels are compiled for the distance:
    what depends on the size of the batch is copied.
    """
    batch, length = states.shape[:2]
    distance = states.stride(1)
    together = states.stride(-1) == 1 and states.stride(2) == math.prod(states.shape[3:])
    if length > 1 and together and (batch == 1 or states.stride(0) == length * distance):
        return states, distance
    return states.contiguous(), math.prod(states.shape[2:])


def _channels_together(states: Tensor) -> Tensor:
    return states if states.stride(-1) == 1 else states.contiguous()


def _texts(states: Tensor, cu_seqlens: Optional[Tensor]) -> Optional[Tensor]:
    """The number of the text at every position [B * T], where rows have several."""
    if cu_seqlens is None:
        return None
    return numbers_of_texts(cu_seqlens, states.size(0), states.size(1))
