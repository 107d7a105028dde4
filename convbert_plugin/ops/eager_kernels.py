"""The convolutions as operations of torch, on any device."""

import itertools
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from convbert_plugin.ops.banded_convolution import BLOCK, BandedConvolution, turned_over
from convbert_plugin.ops.precision import at_least_fp32
from convbert_plugin.ops.texts import Gaps

POSITIONS = 128


def span_convolution_forward(value: Tensor, logits: Tensor, cu_seqlens: Optional[Tensor]) -> Tensor:
    gaps = _gaps(value, logits.size(3), cu_seqlens, BLOCK)
    states = _of_heads(gaps, value, logits)
    kernel = _kernel(gaps, logits, at_least_fp32(value.dtype))
    output = value.new_empty(states.shape)
    banded = BandedConvolution(states, logits.size(3))
    for head in range(states.size(2)):
        banded.see(states[:, :, head])
        output[:, :, head] = banded.convolved(kernel[:, head])
    return _taken_out(gaps, output).flatten(2)


def span_convolution_backward(
    grad: Tensor, value: Tensor, logits: Tensor, cu_seqlens: Optional[Tensor]
) -> tuple[Tensor, Tensor]:
    gaps = _gaps(value, logits.size(3), cu_seqlens, BLOCK)
    states, grads = (_of_heads(gaps, each, logits) for each in (value, grad))
    kernel = _kernel(gaps, logits, at_least_fp32(value.dtype))
    turned = turned_over(kernel)
    grad_states, grad_kernel = value.new_empty(states.shape), torch.empty_like(kernel)
    of_states, of_grads = (BandedConvolution(states, logits.size(3)) for _ in range(2))
    for head in range(states.size(2)):
        of_states.see(states[:, :, head])
        of_grads.see(grads[:, :, head])
        grad_states[:, :, head] = of_grads.convolved(turned[:, head])
        grad_kernel[:, head] = of_states.products(of_grads)
    # The gradient of a softmax: each weight times how far its gradient is above the mean.
    grad_kernel -= (grad_kernel * kernel).sum(2, keepdim=True)
    grad_logits = grad_kernel.mul_(kernel).permute(0, 3, 1, 2)
    return (
        _taken_out(gaps, grad_states).flatten(2),
        _taken_out(gaps, grad_logits).to(logits.dtype),
    )


def depthwise_forward(hidden: Tensor, weight: Tensor, cu_seqlens: Optional[Tensor]) -> Tensor:
    gaps = _gaps(hidden, weight.size(2), cu_seqlens)
    output = _depthwise(_widened(gaps, hidden), weight)
    return (output if gaps is None else gaps.gather(output)).to(hidden.dtype)


def depthwise_backward(
    grad: Tensor, hidden: Tensor, weight: Tensor, cu_seqlens: Optional[Tensor]
) -> tuple[Tensor, Tensor]:
    taps = weight.size(2)
    gaps = _gaps(hidden, taps, cu_seqlens)
    states, grads = (_widened(gaps, each) for each in (hidden, grad))
    grad_states = _depthwise(grads, weight.flip(2))
    grad_weight = _weight_gradient(grads, _padded(states, taps), taps)
    return (
        (grad_states if gaps is None else gaps.gather(grad_states)).to(hidden.dtype),
        grad_weight.t().unsqueeze(1).to(weight.dtype).contiguous(),
    )


def _depthwise(states: Tensor, weight: Tensor) -> Tensor:
    taps, length = weight.size(2), states.size(1)
    padded = _padded(states, taps)
    of_taps = weight[:, 0].t().to(states.dtype).contiguous()
    output = padded[:, :length] * of_taps[0]
    for tap in range(1, taps):
        output.addcmul_(padded[:, tap : tap + length], of_taps[tap])
    return output


def _weight_gradient(grads: Tensor, padded: Tensor, taps: int) -> Tensor:
    """Sums of products over all positions [K, C]."""
    batch, length, channels = grads.shape
    if grads.device.type != "cpu":
        windows = (padded[:, tap : tap + length] for tap in range(taps))
        return torch.stack([(grads * window).sum((0, 1)) for window in windows])
    # Sums of a few positions stay in the caches, and need no memory for products.
    sums = grads.new_zeros(taps, min(length, POSITIONS), channels)
    for row, begin in itertools.product(range(batch), range(0, length, POSITIONS)):
        part = grads[row, begin : begin + POSITIONS]
        for tap in range(taps):
            window = padded[row, begin + tap : begin + tap + len(part)]
            sums[tap, : len(part)].addcmul_(part, window)
    return sums.sum(1)


def _gaps(
    states: Tensor, taps: int, cu_seqlens: Optional[Tensor], block: int = 1
) -> Optional[Gaps]:
    if cu_seqlens is None:
        return None
    return Gaps(cu_seqlens, states.size(0), states.size(1), taps // 2, block)


def _widened(gaps: Optional[Gaps], states: Tensor) -> Tensor:
    states = states.to(at_least_fp32(states.dtype))
    return states.contiguous() if gaps is None else gaps.spread(states)


def _padded(states: Tensor, taps: int) -> Tensor:
    return F.pad(states, (0, 0, taps // 2, taps // 2))


def _of_heads(gaps: Optional[Gaps], states: Tensor, logits: Tensor) -> Tensor:
    spread = states if gaps is None else gaps.spread(states)
    return spread.unflatten(2, (logits.size(2), -1))


def _kernel(gaps: Optional[Gaps], logits: Tensor, dtype: torch.dtype) -> Tensor:
    """[B, H, K, T]: with time last, a softmax takes a tenth of the time on a CPU."""
    return _widened(gaps, logits.to(dtype)).permute(0, 2, 3, 1).contiguous().softmax(dim=2)


def _taken_out(gaps: Optional[Gaps], states: Tensor) -> Tensor:
    return states.contiguous() if gaps is None else gaps.gather(states)
