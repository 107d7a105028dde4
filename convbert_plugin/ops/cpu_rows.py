"""What a CPU computes row by row, in C++ (native/rows.h), for the ops that call it."""

import ctypes
from typing import Optional

import torch
from torch import Tensor

from convbert_plugin.ops.cpu_library import library
from convbert_plugin.ops.dropout import dropped_levels, scale_of_kept
from convbert_plugin.ops.precision import at_least_fp32

TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}


def computes(states: Tensor) -> bool:
    """Whether such tensors are computed here; compilers fuse for themselves."""
    return (
        not torch.compiler.is_compiling()
        and states.device.type == "cpu"
        and states.dtype in TYPES
        and library().functions is not None
    )


class Rows(ctypes.Structure):
    """The rows of a call, and what decides which of their numbers are dropped."""

    _fields_ = (
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("seed", ctypes.c_uint64),
        ("first", ctypes.c_int64),
        ("dropped", ctypes.c_int64),
        ("scale", ctypes.c_double),
        ("eps", ctypes.c_double),
        ("threads", ctypes.c_int),
    )


def new_seed(rate: float) -> int:
    """63 random bits of torch's generator, where there is something to drop."""
    return int(torch.empty((), dtype=torch.int64).random_()) if rate else 0


def residual_norm_forward(
    states: Tensor,
    states_bias: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    rate: float,
    seed: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output and sum, and the mean and inverse standard deviation of every row [rows, 2]."""
    output, summed = torch.empty_like(states), torch.empty_like(states)
    moments = _vector(states, states.numel() // states.size(-1), 2)
    rows = _rows(states, rate, seed, eps=eps)
    tensors = (states, states_bias, residual, weight, bias, output, summed, moments)
    _call("convbert_residual_norm_forward", rows, *tensors)
    return output, summed, moments


def residual_norm_backward(
    grad: Tensor, summed: Tensor, moments: Tensor, weight: Tensor, rate: float, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of states and residual, and [3, C] of the weight, its bias and that of states."""
    grad_states, grad_residual = torch.empty_like(grad), torch.empty_like(grad)
    grad_vectors = _vector(grad, 3, grad.size(-1))
    tensors = (grad, summed, moments, weight, grad_states, grad_residual, grad_vectors)
    _call("convbert_residual_norm_backward", _rows(grad, rate, seed), *tensors)
    return grad_states, grad_residual, grad_vectors


def gelu_forward(states: Tensor, bias: Tensor) -> Tensor:
    output = torch.empty_like(states)
    _call("convbert_gelu_forward", _rows(states), states, bias, output)
    return output


def gelu_backward(grad: Tensor, states: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    grad_states, grad_bias = torch.empty_like(states), torch.empty_like(bias)
    _call("convbert_gelu_backward", _rows(states), grad, states, bias, grad_states, grad_bias)
    return grad_states, grad_bias


def dropped_softmax_forward(
    scores: Tensor, padding: Optional[Tensor], rate: float, seed: int, first: int
) -> Tensor:
    """The weights that remain [B, T, T]; scores become their probabilities, negative if dropped.

    ``first``: the number of the first query among all that are dropped from by this seed.
    """
    weights = torch.empty_like(scores)
    rows = _rows(scores, rate, seed, first)
    _call("convbert_dropped_softmax_forward", rows, padding, scores, weights)
    return weights


def dropped_softmax_backward(probabilities: Tensor, grad: Tensor, rate: float) -> Tensor:
    """The weights once more [B, T, T]; their gradient becomes that of the scores."""
    weights = torch.empty_like(grad)
    rows = _rows(grad, rate)
    _call("convbert_dropped_softmax_backward", rows, probabilities, grad, weights)
    return weights


def sums_dtype(states: Tensor, *vectors: Tensor) -> list[Tensor]:
    """Vectors in the precision that sums over such states have."""
    dtype = at_least_fp32(states.dtype)
    return [vector.to(dtype).contiguous() for vector in vectors]


def _vector(states: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=at_least_fp32(states.dtype))


def _rows(
    states: Tensor, rate: float = 0.0, seed: int = 0, first: int = 0, eps: float = 0.0
) -> tuple[Rows, int]:
    columns = states.size(-1)
    count = states.numel() // max(columns, 1)
    levels, scale = dropped_levels(rate), scale_of_kept(rate)
    threads = torch.get_num_threads()
    return Rows(count, columns, seed, first, levels, scale, eps, threads), TYPES[states.dtype]


def _call(function: str, described: tuple[Rows, int], *tensors: Optional[Tensor]) -> None:
    rows, type_of_numbers = described
    pointers = (None if tensor is None else tensor.data_ptr() for tensor in tensors)
    getattr(library().functions, function)(ctypes.byref(rows), type_of_numbers, *pointers)
