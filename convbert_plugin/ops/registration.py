"""Ops of torch that do not import its compiler, which takes a second, until one compiles."""

import functools
import sys
from typing import Any, Callable

import torch

NAMESPACE = "convbert"
# Where torch's own registration stands between an op and its function, it imports the compiler.
_KERNELS = torch.library.Library(NAMESPACE, "FRAGMENT")
_DEVICES = ("CPU", "CUDA")


def op(name: str) -> Callable[[Callable], torch.library.CustomOpDef]:
    """Register a function that changes none of its inputs, as ``torch.library.custom_op`` does."""

    def register(function: Callable) -> torch.library.CustomOpDef:
        definition = torch.library.custom_op(f"{NAMESPACE}::{name}", function, mutates_args=())
        for device in _DEVICES:
            _KERNELS.impl(name, _never_compiled(function), device)
        return definition

    return register


def _never_compiled(function: Callable) -> Callable:
    """What calls the function so that a compiler, if there is one by then, does not trace it."""
    disabled = functools.cache(lambda: torch.compiler.disable(function))

    def call(*inputs: Any) -> Any:
        return (disabled() if "torch._dynamo" in sys.modules else function)(*inputs)

    return call
