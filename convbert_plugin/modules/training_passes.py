"""How a stack is run while it trains: as it is, compiled, recomputed."""

import functools
import time
from typing import Callable, Iterable, Optional

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from convbert_plugin.errors import UserError

BACKEND = "inductor"
"""What compiles the layers."""

COMPILERS = {"cpu": "a C++ compiler (g++, or the one that CXX names)", "cuda": "triton and gcc"}
"""What it needs beside torch, by devices."""

RunLayer = Callable[[nn.Module, Tensor, Optional[Tensor]], Tensor]


def run_layer(layer: nn.Module, hidden: Tensor, padding: Optional[Tensor]) -> Tensor:
    """Hidden states [B, T, C] after a layer."""
    return layer(hidden, padding)


@functools.cache
def compiled_layer(backend: str) -> RunLayer:
    """One compiled function for all layers: those of equal sizes share its code.

    Nothing of it stands in the modules, so that names, copies and pickles of them stay as they are.
    """
    return torch.compile(run_layer, backend=backend, dynamic=True)


def check_compiler(device: str) -> None:
    """Compile something that was never compiled before.

    Raises:
        UserError: there is nothing to compile with, and what to do.
    """
    number = time.time_ns()

    def add_a_number(tensor: Tensor) -> Tensor:
        return tensor.sin() + number

    try:
        torch.compile(add_a_number, backend=BACKEND)(torch.ones(2, device=device))
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line and not line.endswith("raised:")]
        reason = lines[0] if lines else type(error).__name__
        raise UserError(
            f"--compile: torch cannot compile here ({reason}): "
            f"install {COMPILERS[device]}, or leave --compile out"
        ) from None


class TrainingPass:
    """Runs a stack of layers for a backward pass that comes.

    ``is_compiled``: by ``torch.compile``, layer by layer. ``is_recomputed``: of each layer, only
    its input waits for the backward pass, which runs it once more with the same random numbers.
    """

    def __init__(self, is_compiled: bool, is_recomputed: bool):
        self.is_compiled, self.is_recomputed = is_compiled, is_recomputed

    def __call__(
        self, layers: Iterable[nn.Module], hidden: Tensor, padding: Optional[Tensor]
    ) -> Tensor:
        """Hidden states [B, T, C] of the last level, from those of the first."""
        run: RunLayer = run_layer
        if self.is_compiled:
            run = compiled_layer(BACKEND)
            # The compiler follows a view to what it is a view of, and would compile the first layer
            # for itself: what the other layers take is none.
            hidden = hidden.clone() if hidden._is_view() else hidden
        for layer in layers:
            if self.is_recomputed:
                hidden = checkpoint(run, layer, hidden, padding, use_reentrant=False)
            else:
                hidden = run(layer, hidden, padding)
        return hidden
