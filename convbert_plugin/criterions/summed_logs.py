"""Logs as sums: what is shown is derived from them when it is shown.

Nothing here waits for the device. Derived values are tensors on the device of the sums, and
become Python floats where they are printed or kept.
"""

import math
from typing import Any, Callable, Mapping, Sequence, Union

import torch
from fairseq.logging import metrics

DECIMALS = 4
LOSS = "loss"
# Before the name of a score, that of its exact value, which fairseq does not print.
EXACT = "_exact_"

Meters = Mapping[str, Any]
"""The meters of fairseq, by the names of what they have summed."""


class Counts(torch.Tensor):
    """A tensor of counts that says its size where fairseq-validate prints a logging output.

    What is computed from it are plain tensors. fairseq sums the logs of several workers in one
    buffer with other numbers that it saves, and a checkpoint is loaded without foreign classes.
    """

    # As torch says to switch it off.
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    # What fairseq-validate calls to print it.
    def tolist(self) -> str:  # type: ignore[override]
        return f"[{self.numel()} counts]"


def log_sums(logging_outputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add the outputs up, log the sums under hidden names, and return them."""
    sums = {}
    for key in logging_outputs[0] if logging_outputs else ():
        total = sum(output[key] for output in logging_outputs)
        metrics.log_scalar_sum(f"_{key}", total)
        sums[key] = total
    return sums


def log_ratio(name: str, numerator: str, denominator: str, priority: int) -> None:
    """Log one sum divided by another."""

    def ratio(total: torch.Tensor, count: Union[torch.Tensor, float]) -> torch.Tensor:
        return total.double() / torch.as_tensor(count).clamp(min=1)

    log_score(name, ratio, (numerator, denominator), priority)


def log_score(
    name: str, function: Callable[..., torch.Tensor], keys: Sequence[str], priority: int
) -> None:
    """Log what a function makes of several sums, and its every digit under a hidden name."""

    def rounded(*sums: torch.Tensor) -> torch.Tensor:
        return function(*sums).round(decimals=DECIMALS)

    log_exact_score(name, rounded, keys, priority)
    log_exact_score(EXACT + name, function, keys, priority)


def log_exact_score(
    name: str,
    function: Callable[..., Union[torch.Tensor, float]],
    keys: Sequence[str],
    priority: int,
) -> None:
    """Log what a function makes of several sums, to the last digit."""

    def value(meters: Meters) -> Union[torch.Tensor, float]:
        if name != LOSS and _is_passing(meters):
            return math.nan
        sums = [meters[f"_{key}"].sum for key in keys]
        # A meter that has seen nothing since it was made or reset holds the number 0.
        return function(*sums) if torch.is_tensor(sums[0]) else math.nan

    metrics.log_derived(name, value, priority=priority)


def _is_passing(meters: Meters) -> bool:
    """Whether these are of one update of a training: fairseq asks for their values, and reads none.

    To compute them takes a GPU as many launches as an optimizer step.
    """
    active = metrics.get_active_aggregators()
    named = [metrics.get_meters(name) for name in ("train", "train_inner")]
    is_training = any(one is named[0] for one in active)
    return is_training and meters is active[-1] and not any(meters is one for one in named)
