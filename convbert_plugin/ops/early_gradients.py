"""Gradients of a loss before the backward pass, for what need not wait for it."""

from itertools import pairwise
from typing import Any, Callable, Optional, Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

POSITIONS_AT_ONCE = {"cpu": 2048}
"""So many positions of a batch go through a network before the next ones do, by devices.

On a GPU, whose memory is large and whose launches are dear, all do at once.
"""

Losses = tuple[Tensor, ...]
"""A loss [], and tensors that are not differentiable."""


def with_early_gradients(function: Callable[[], Losses], parameters: Sequence[Tensor]) -> Losses:
    """What a function gives, whose loss depends on the parameters alone.

    Their gradients are computed at once: they wait for the backward pass, which scales them by its
    own, and not what the function has kept for it. Not in float16, where gradients that no loss
    scaling has enlarged would vanish.
    """
    learning = _learning(parameters)
    if not learning:
        return function()
    return _EarlyGradients.apply([function], *learning)


def in_pieces(
    function: Callable[[slice, Tensor], Losses], states: Tensor, parameters: Sequence[Tensor]
) -> Losses:
    """What a function of rows [n, T, C] of the states [B, T, C] gives for all of them.

    That is the sum of the losses, and of the other tensors [n, ...] the whole. Where there are
    many rows, some go forward and backward after the others, in the memory that these have left.
    """
    count, length = states.shape[:2]
    at_once = POSITIONS_AT_ONCE.get(states.device.type, count * length) // max(1, length)
    learning = _learning([states, *parameters])
    if count <= max(1, at_once) or not (learning and states.requires_grad):
        return function(slice(0, count), states)
    number = -(-count // max(1, at_once))
    bounds = [count * piece // number for piece in range(number + 1)]
    rows = [slice(*pair) for pair in pairwise(bounds)]
    pieces = states.split([each.stop - each.start for each in rows])
    functions = [
        lambda rows=each, piece=piece: function(rows, piece)
        for each, piece in zip(rows, pieces, strict=True)
    ]
    return _EarlyGradients.apply(functions, *pieces, *learning[1:])


def _learning(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Those whose gradients are to come early."""
    learning = [tensor for tensor in tensors if tensor.requires_grad]
    if not (torch.is_grad_enabled() and learning):
        return []
    device = learning[0].device.type
    is_autocast = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if is_autocast else learning[0].dtype
    return [] if dtype == torch.float16 else learning


class _EarlyGradients(torch.autograd.Function):
    """Functions one after the other; each is forgotten before the next is called."""

    @staticmethod
    def forward(ctx: Any, functions: list[Callable[[], Losses]], *sources: Tensor) -> Losses:
        results: list[Losses] = []
        totals: dict[int, Tensor] = {}
        for function in functions:
            with torch.enable_grad():
                loss, *others = function()
            # As after the forward pass, which is where a backward pass usually runs.
            with torch.autocast(loss.device.type, enabled=False):
                gradients = torch.autograd.grad(loss, sources, allow_unused=True)
            _add(totals, {place: one for place, one in enumerate(gradients) if one is not None})
            results.append((loss.detach(), *(other.detach() for other in others)))
            del loss, others, gradients
        ctx.totals, ctx.places = totals, len(sources)
        result = results[0] if len(results) == 1 else _whole(results)
        ctx.mark_non_differentiable(*result[1:])
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_loss: Tensor, *by_others: Any) -> tuple[Optional[Tensor], ...]:
        scaled = torch._foreach_mul(list(ctx.totals.values()), by_loss)
        by_place = dict(zip(ctx.totals, scaled, strict=True))
        return None, *(by_place.get(place) for place in range(ctx.places))


def _add(totals: dict[int, Tensor], gradients: dict[int, Tensor]) -> None:
    """Not in place: a gradient may share its memory with another."""
    again = [place for place in gradients if place in totals]
    if again:
        pairs = ([each[place] for place in again] for each in (totals, gradients))
        gradients.update(zip(again, torch._foreach_add(*pairs), strict=True))
    totals.update(gradients)


def _whole(results: list[Losses]) -> Losses:
    losses, *others = zip(*results, strict=True)
    return torch.stack(losses).sum(), *(torch.cat(parts) for parts in others)
