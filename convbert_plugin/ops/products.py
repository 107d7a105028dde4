"""Matrix products of states and weights, by the one of torch's two libraries that is faster.

Of fp32 torch lets MKL make them, whose best code is for processors of its maker. oneDNN, which
torch uses for other types, needs 10 to 20% less time for them on AMD's (family 25, model 17).
"""

import functools
from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import register_flop_formula

from convbert_plugin.files.host import processor_maker

MADE_BY = ("AuthenticAMD",)
# Below so many products of two numbers, oneDNN's 15 microseconds a call are more than it saves.
WORTH_A_CALL = 1 << 22


def product(states: Tensor, weight: Tensor, bias: Optional[Tensor] = None) -> Tensor:
    """States times a dense layer's weight: [..., I], [O, I] and [O] (or None) -> [..., O]."""
    if torch.is_grad_enabled() and _by_onednn(states, weight):
        return _Product.apply(states, weight, bias)
    return product_alone(states, weight, bias)


def product_alone(states: Tensor, weight: Tensor, bias: Optional[Tensor] = None) -> Tensor:
    """:func:`product` where no gradient is asked for, as within a backward pass."""
    if not _by_onednn(states, weight):
        return F.linear(states, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")


def weight_gradients(grad: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """Of weight and bias of a product. Shapes: [..., O], [..., I] -> [O, I], [O]."""
    grad = grad.flatten(0, -2)
    return grad.t() @ states.flatten(0, -2), grad.sum(dim=0)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
        ctx.save_for_backward(states, weight)
        return product_alone(states, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        states, weight = ctx.saved_tensors
        of_states, of_weight, of_bias = ctx.needs_input_grad
        grad_states = product_alone(grad, weight.t()) if of_states else None
        if not (of_weight or of_bias):
            return grad_states, None, None
        grad_weight, grad_bias = weight_gradients(grad, states)
        return grad_states, grad_weight, grad_bias if of_bias else None


@functools.cache
def _is_faster_by_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and processor_maker() in MADE_BY


def _by_onednn(states: Tensor, weight: Tensor) -> bool:
    # First of all: a compiler would make its code for numbers as large as those that it has seen.
    return (
        not torch.compiler.is_compiling()
        and states.dtype == weight.dtype == torch.float32
        and states.device.type == "cpu"
        and states.numel() * weight.size(0) >= WORTH_A_CALL
        and _is_faster_by_onednn()
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_autocast_enabled("cpu")
    )


def _flops(states: Any, weight: Any, *inputs: Any, **others: Any) -> int:
    count = 1
    for size in states:
        count *= size
    return 2 * count * weight[0]


# Not every torch has it.
if torch.backends.mkldnn.is_available():
    register_flop_formula(torch.ops.mkldnn._linear_pointwise)(_flops)
