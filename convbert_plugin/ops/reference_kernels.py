"""The definition of the convolutions, as loops."""

from typing import Iterator, NamedTuple, Optional

import torch
from torch import Tensor

from convbert_plugin.ops.precision import at_least_fp32


class Product(NamedTuple):
    """Where a product of a convolution finds its factors: (row, time) twice, and the tap."""

    here: tuple[int, int]
    source: tuple[int, int]
    tap: int


def span_convolution_forward(value: Tensor, logits: Tensor, cu_seqlens: Optional[Tensor]) -> Tensor:
    states, kernel = _widened(value, logits)
    output = torch.zeros_like(states)
    for here, source, tap in _products(value, kernel.size(3), cu_seqlens):
        output[here] += kernel[here][:, tap, None] * states[source]
    return output.flatten(2).to(value.dtype)


def span_convolution_backward(
    grad: Tensor, value: Tensor, logits: Tensor, cu_seqlens: Optional[Tensor]
) -> tuple[Tensor, Tensor]:
    states, kernel = _widened(value, logits)
    grads = grad.to(states.dtype).unflatten(2, states.shape[2:])
    grad_states, grad_kernel = torch.zeros_like(states), torch.zeros_like(kernel)
    for here, source, tap in _products(value, kernel.size(3), cu_seqlens):
        grad_states[source] += kernel[here][:, tap, None] * grads[here]
        grad_kernel[here][:, tap] += (states[source] * grads[here]).sum(-1)
    mean = (kernel * grad_kernel).sum(-1, keepdim=True)
    grad_logits = kernel * (grad_kernel - mean)
    return grad_states.flatten(2).to(value.dtype), grad_logits.to(logits.dtype)


def depthwise_forward(hidden: Tensor, weight: Tensor, cu_seqlens: Optional[Tensor]) -> Tensor:
    states, kernel = hidden.to(at_least_fp32(hidden.dtype)).contiguous(), weight[:, 0]
    output = torch.zeros_like(states)
    for here, source, tap in _products(hidden, weight.size(2), cu_seqlens):
        output[here] += kernel[:, tap] * states[source]
    return output.to(hidden.dtype)


def depthwise_backward(
    grad: Tensor, hidden: Tensor, weight: Tensor, cu_seqlens: Optional[Tensor]
) -> tuple[Tensor, Tensor]:
    dtype = at_least_fp32(hidden.dtype)
    states, grads, kernel = (each.to(dtype).contiguous() for each in (hidden, grad, weight[:, 0]))
    grad_states, grad_kernel = torch.zeros_like(states), torch.zeros_like(kernel)
    for here, source, tap in _products(hidden, weight.size(2), cu_seqlens):
        grad_states[source] += kernel[:, tap] * grads[here]
        grad_kernel[:, tap] += states[source] * grads[here]
    return grad_states.to(hidden.dtype), grad_kernel.unsqueeze(1).to(weight.dtype)


def _widened(value: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Value [B, T, H, R] and kernel [B, T, H, K] in the dtype of the sums."""
    dtype = at_least_fp32(value.dtype)
    states = value.to(dtype).contiguous().unflatten(2, (logits.size(2), -1))
    return states, logits.softmax(dim=-1, dtype=dtype).contiguous()


def _products(states: Tensor, taps: int, cu_seqlens: Optional[Tensor]) -> Iterator[Product]:
    batch, length = states.shape[:2]
    offsets = set(() if cu_seqlens is None else cu_seqlens.tolist())
    for row in range(batch):
        texts, text = [], 0
        for time in range(length):
            text += row * length + time in offsets
            texts.append(text)
        for time in range(length):
            for tap in range(taps):
                source = time + tap - taps // 2
                if 0 <= source < length and texts[source] == texts[time]:
                    yield Product((row, time), (row, source), tap)
