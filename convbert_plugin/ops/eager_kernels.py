"""The convolutions as operations of torch, on any device."""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from convbert_plugin.ops.precision import at_least_fp32
from convbert_plugin.ops.texts import Gaps


def span_convolution_forward(value: Tensor, logits: Tensor, cu_seqlens: Optional[Tensor]) -> Tensor:
    gaps = _gaps(value, logits.size(3), cu_seqlens)
    states, kernel = _prepared(gaps, value, logits)
    taps, length = kernel.shape[2:]
    padded = F.pad(states, (taps // 2, taps // 2))
    output = padded[..., :length] * kernel[:, :, :1]
    for tap in range(1, taps):
        output.addcmul_(padded[..., tap : tap + length], kernel[:, :, tap : tap + 1])
    return _channels_last(gaps, output).flatten(2).to(value.dtype)


def span_convolution_backward(
    grad: Tensor, value: Tensor, logits: Tensor, cu_seqlens: Optional[Tensor]
) -> tuple[Tensor, Tensor]:
    gaps = _gaps(value, logits.size(3), cu_seqlens)
    states, kernel = _prepared(gaps, value, logits)
    grad_output = _time_last(gaps, grad.unflatten(2, (logits.size(2), -1)), kernel.dtype)
    taps, length = kernel.shape[2:]
    padded = F.pad(states, (taps // 2, taps // 2))
    grad_padded = torch.zeros_like(padded)
    grad_kernel = torch.empty_like(kernel)
    for tap in range(taps):
        window = slice(tap, tap + length)
        grad_padded[..., window].addcmul_(grad_output, kernel[:, :, tap : tap + 1])
        grad_kernel[:, :, tap] = (grad_output * padded[..., window]).sum(2)
    grad_value = grad_padded[..., taps // 2 : taps // 2 + length]
    # The gradient of a softmax: each weight times how far its gradient is above the mean.
    grad_kernel -= (grad_kernel * kernel).sum(2, keepdim=True)
    grad_logits = grad_kernel.mul_(kernel)
    return (
        _channels_last(gaps, grad_value).flatten(2).to(value.dtype),
        _channels_last(gaps, grad_logits).to(logits.dtype),
    )


def depthwise_forward(hidden: Tensor, weight: Tensor, cu_seqlens: Optional[Tensor]) -> Tensor:
    gaps = _gaps(hidden, weight.size(2), cu_seqlens)
    states = hidden if gaps is None else gaps.spread(hidden)
    output = F.conv1d(
        states.transpose(1, 2),
        weight.to(hidden.dtype),
        padding=weight.size(2) // 2,
        groups=weight.size(0),
    ).transpose(1, 2)
    return output.contiguous() if gaps is None else gaps.gather(output)


def depthwise_backward(
    grad: Tensor, hidden: Tensor, weight: Tensor, cu_seqlens: Optional[Tensor]
) -> tuple[Tensor, Tensor]:
    channels, _, taps = weight.shape
    gaps = _gaps(hidden, taps, cu_seqlens)
    if gaps is not None:
        grad, hidden = gaps.spread(grad), gaps.spread(hidden)
    grad_hidden, grad_weight, _ = torch.ops.aten.convolution_backward(
        *(grad.transpose(1, 2), hidden.transpose(1, 2), weight.to(hidden.dtype), None),
        *([1], [taps // 2], [1], False, [0], channels, [True, True, False]),
    )
    grad_hidden = grad_hidden.transpose(1, 2)
    return (
        grad_hidden.contiguous() if gaps is None else gaps.gather(grad_hidden),
        grad_weight.to(weight.dtype),
    )


def _gaps(states: Tensor, taps: int, cu_seqlens: Optional[Tensor]) -> Optional[Gaps]:
    if cu_seqlens is None:
        return None
    return Gaps(cu_seqlens, states.size(0), states.size(1), taps // 2)


def _prepared(gaps: Optional[Gaps], value: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Value [B, H, R, T] and kernel [B, H, K, T] in the dtype of the sums.

    With time last, the kernel is broadcast over the channels and not along the innermost axis:
    measured ten times the speed of the unfolded product on a CPU.
    """
    dtype = at_least_fp32(value.dtype)
    kernel = logits.softmax(dim=-1, dtype=dtype)
    states = value.unflatten(2, (logits.size(2), -1))
    return _time_last(gaps, states, dtype), _time_last(gaps, kernel, dtype)


def _time_last(gaps: Optional[Gaps], states: Tensor, dtype: torch.dtype) -> Tensor:
    states = states.to(dtype) if gaps is None else gaps.spread(states.to(dtype))
    return states.permute(0, 2, 3, 1).contiguous()


def _channels_last(gaps: Optional[Gaps], states: Tensor) -> Tensor:
    states = states.permute(0, 3, 1, 2)
    return states.contiguous() if gaps is None else gaps.gather(states)
