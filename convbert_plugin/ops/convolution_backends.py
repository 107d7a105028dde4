"""Which code computes the convolutions: one table, chosen in one place.

The code of a backend is a module with ``span_convolution_forward``, ``span_convolution_backward``,
``depthwise_forward`` and ``depthwise_backward``; all compute the same.
"""

import functools
import importlib
import importlib.util
import logging
import os
from types import ModuleType
from typing import Callable, NamedTuple, Optional

import torch
from torch import Tensor

from convbert_plugin.ops.cpu_library import library

# The first whose kernels may hold tuples of tensors.
OLDEST_TRITON = (3, 3)
OF_TRITON = (torch.float32, torch.float16, torch.bfloat16)
OF_CPU = (torch.float32, torch.float64, torch.bfloat16)

logger = logging.getLogger(__name__)


class Backend(NamedTuple):
    """Where its code stands, and what it lacks to compute on such a tensor (None: nothing)."""

    code: str
    lacks: Callable[[Tensor], Optional[str]]


def _triton_lacks(states: Tensor) -> Optional[str]:
    if not states.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        return f"Triton computes on GPUs, not on {states.device.type}"
    if states.dtype not in OF_TRITON:
        return f"its kernels do not compute in {states.dtype}"
    return _triton_lacks_on(states.device)


@functools.cache
def _triton_lacks_on(device: torch.device) -> Optional[str]:
    """Tried, because Triton needs a C compiler, Python's headers and a GPU that it knows."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    try:
        release = importlib.import_module("triton").__version__
        if tuple(map(int, release.split(".")[:2])) < OLDEST_TRITON:
            return f"Triton {release} is too old"
        _code("triton").try_on(device)
    except Exception as error:  # whatever it is that is missing there
        reason = str(error).strip() or type(error).__name__
        return f"Triton does not work here ({reason.splitlines()[0]})"
    return None


def _cpu_lacks(states: Tensor) -> Optional[str]:
    if states.device.type != "cpu":
        return f"it computes on a CPU, not on {states.device.type}"
    if states.dtype not in OF_CPU:
        return f"it does not compute in {states.dtype}"
    return library().lacks


def _nothing(states: Tensor) -> None:
    return None


# The first that lacks nothing is taken by `auto`; the reference, never.
BACKENDS = {
    "triton": Backend("triton_kernels", _triton_lacks),
    "cpu": Backend("cpu_kernels", _cpu_lacks),
    "eager": Backend("eager_kernels", _nothing),
    "reference": Backend("reference_kernels", _nothing),
}
# What checkpoints and records of 0.1.0 say: the choice was this project's code then.
OLD_NAMES = {"torch": "auto"}
CHOICES = ("auto", *BACKENDS, *OLD_NAMES)


def kernels_for(choice: str, states: Tensor) -> ModuleType:
    """The code that computes on such a tensor.

    What was asked for by name and cannot run gives way to what can, and says so once.
    """
    choice = OLD_NAMES.get(choice, choice)
    candidates = list(BACKENDS) if choice == "auto" else [choice, *BACKENDS]
    for name in candidates:
        lacking = BACKENDS[name].lacks(states)
        if lacking is None:
            return _code(name)
        if name == choice:
            _say_once(f"--conv-backend {name}: {lacking}; other code computes the same")
    raise AssertionError("eager lacks nothing")


def available(states: Tensor) -> list[str]:
    """The backends that can compute on such a tensor, the one that ``auto`` takes first."""
    return [name for name, backend in BACKENDS.items() if backend.lacks(states) is None]


@functools.cache
def _code(name: str) -> ModuleType:
    return importlib.import_module(f"convbert_plugin.ops.{BACKENDS[name].code}")


@functools.cache
def _say_once(line: str) -> None:
    logger.warning(line)
