"""Gradients of a loss before the backward pass, for what need not wait for it."""

from typing import Any, Callable, Optional, Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def with_early_gradients(
    function: Callable[[], tuple[Tensor, ...]], parameters: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """What a function gives: a loss [] first, and tensors that are not differentiable.

    The loss is a function of the parameters alone, whose gradients are computed at once: they wait
    for the backward pass, which scales them by its own, and not what the function has kept for it.
    Not in float16, where gradients that no loss scaling has enlarged would vanish.
    """
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    if not (torch.is_grad_enabled() and learning) or _dtype_of(learning[0]) == torch.float16:
        return function()
    return _EarlyGradients.apply(function, *learning)


def _dtype_of(parameter: Tensor) -> torch.dtype:
    device = parameter.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return parameter.dtype


class _EarlyGradients(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, function: Callable[[], tuple[Tensor, ...]], *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            loss, *others = function()
        # As after the forward pass, which is where a backward pass usually runs.
        with torch.autocast(loss.device.type, enabled=False):
            ctx.gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        ctx.mark_non_differentiable(*others)
        return loss.detach(), *others

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_loss: Tensor, *by_others: Any) -> tuple[Optional[Tensor], ...]:
        known = [gradient for gradient in ctx.gradients if gradient is not None]
        scaled = iter(torch._foreach_mul(known, by_loss))
        return None, *(None if each is None else next(scaled) for each in ctx.gradients)
