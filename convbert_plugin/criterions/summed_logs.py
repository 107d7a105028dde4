"""Logs as sums: what is shown is derived from them when it is shown.

Nothing here waits for the device. Derived values are tensors on the device of the sums, and
become Python floats where they are printed or kept.
"""

import math

import torch
from fairseq.logging import metrics

DECIMALS = 4


class Counts(torch.Tensor):
    """A tensor of counts that says its size where fairseq-validate prints a logging output.

    What is computed from it are plain tensors. fairseq sums the logs of several workers in one
    buffer with other numbers that it saves, and a checkpoint is loaded without foreign classes.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self):
        return f"[{self.numel()} counts]"


def log_sums(logging_outputs) -> dict:
    """Add the outputs up, log the sums under hidden names, and return them."""
    sums = {}
    for key in logging_outputs[0] if logging_outputs else ():
        total = sum(output[key] for output in logging_outputs)
        metrics.log_scalar_sum(f"_{key}", total)
        sums[key] = total
    return sums


def log_ratio(name: str, numerator: str, denominator: str, priority: int):
    """Log one sum divided by another."""

    def ratio(meters):
        total = meters[f"_{numerator}"].sum.double()
        return total / torch.as_tensor(meters[f"_{denominator}"].sum).clamp(min=1)

    _log_derived(name, ratio, numerator, priority)


def log_score(name: str, function, key: str, priority: int):
    """Log what a function makes of a sum."""
    _log_derived(name, lambda meters: function(meters[f"_{key}"].sum), key, priority)


def log_exact_score(name: str, function, keys, priority: int):
    """Log what a function makes of several sums, to the last digit."""

    def value(meters):
        sums = [meters[f"_{key}"].sum for key in keys]
        return function(*sums) if torch.is_tensor(sums[0]) else math.nan

    metrics.log_derived(name, value, priority=priority)


def _log_derived(name, function, key, priority):
    def value(meters):
        # A meter that has seen nothing since it was made or reset holds the number 0.
        if not torch.is_tensor(meters[f"_{key}"].sum):
            return math.nan
        return function(meters).round(decimals=DECIMALS)

    metrics.log_derived(name, value, priority=priority)
