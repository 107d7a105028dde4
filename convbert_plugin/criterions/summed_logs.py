"""Logs as sums: what is shown is derived from them when it is shown.

Nothing here waits for the device. Derived values are tensors on the device of the sums, and
become Python floats where they are printed or kept.
"""

import math
from typing import Any, Callable, Mapping, Sequence, Union

import torch
from fairseq.logging import metrics
from torch import Tensor, distributed

DECIMALS = 4
LOSS = "loss"
# Before the name of a score, that of its exact value, which fairseq does not print.
EXACT = "_exact_"

Meters = Mapping[str, Any]
"""The meters of fairseq, by the names of what they have summed."""


class Counts(Tensor):
    """A tensor of counts that says its size where fairseq-validate prints a logging output.

    What is computed from it are plain tensors. fairseq sums the logs of several workers in one
    buffer with other numbers that it saves, and a checkpoint is loaded without foreign classes.
    """

    # As torch says to switch it off.
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    # What fairseq-validate calls to print it.
    def tolist(self) -> str:  # type: ignore[override]
        return f"[{self.numel()} counts]"


class OfRows(str):
    """Values of some rows of a set [n, ...], which add up to those of all its ``rows``.

    fairseq-validate keeps the logs of all batches to the end: with a place for every row in each
    they would grow with the square of the set. It prints them too, as JSON if asked to: this is
    the text that it prints.
    """

    values: Tensor
    places: Tensor
    rows: int

    def __new__(cls, values: Tensor, index: Tensor, rows: int) -> "OfRows":
        of_rows = super().__new__(cls, f"[{len(values)} of {rows} rows]")
        of_rows.values, of_rows.places, of_rows.rows = values, index, rows
        return of_rows

    # What sum() begins with is the number 0; all that is added to then is made here.
    def __radd__(self, total: Any) -> Tensor:
        if not torch.is_tensor(total):
            total = self.values.new_zeros(self.rows, *self.values.shape[1:])
        return total.index_add_(0, self.places, self.values)


def of_all_rows(values: Tensor, index: Tensor, rows: int) -> Union[Tensor, OfRows]:
    """What to log of values [n, ...] of the examples ``index`` [n] of a set of so many.

    The sum over batches and workers is [rows, ...], with 0 for what was in none of them.
    """
    of_rows = OfRows(values, index, rows)
    # Workers add up tensors of one shape alone.
    has_workers = distributed.is_initialized() and distributed.get_world_size() > 1
    return (0 + of_rows).as_subclass(Counts) if has_workers else of_rows


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

    def ratio(total: Tensor, count: Union[Tensor, float]) -> Tensor:
        return total.double() / torch.as_tensor(count).clamp(min=1)

    log_score(name, ratio, (numerator, denominator), priority)


def log_score(
    name: str, function: Callable[..., Tensor], keys: Sequence[str], priority: int
) -> None:
    """Log what a function makes of several sums, and its every digit under a hidden name."""

    def rounded(*sums: Tensor) -> Tensor:
        return function(*sums).round(decimals=DECIMALS)

    log_exact_score(name, rounded, keys, priority)
    log_exact_score(EXACT + name, function, keys, priority)


def log_exact_score(
    name: str,
    function: Callable[..., Union[Tensor, float]],
    keys: Sequence[str],
    priority: int,
) -> None:
    """Log what a function makes of several sums, to the last digit."""

    def value(meters: Meters) -> Union[Tensor, float]:
        if name != LOSS and _is_passing(meters):
            return math.nan
        sums = [meters[f"_{key}"].sum for key in keys]
        # A meter that has seen nothing since it was made or reset holds the number 0.
        return function(*sums) if torch.is_tensor(sums[0]) else math.nan

    metrics.log_derived(name, value, priority=priority)


def _is_passing(meters: Meters) -> bool:
    """Whether these are of one batch alone: fairseq asks for their values, and reads none.

    To compute them takes a GPU as many launches as an optimizer step, and scores of texts seconds.
    """
    active = metrics.get_active_aggregators()
    if len(active) == 1 or meters is not active[-1]:
        return False
    of_training = [metrics.get_meters(name) for name in ("train", "train_inner")]
    if any(one is of_training[0] for one in active):
        return not any(meters is one for one in of_training)
    # What a run validates on is kept apart from all else that it logs.
    return not any(one is metrics.get_meters("default") for one in active)
