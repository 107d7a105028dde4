"""Values of fairseq's own options that it takes, and on which it fails later or does nothing."""

import ast
import math
import sys
from typing import Any, Mapping, NamedTuple, Optional

from convbert_plugin.errors import UserError, readable, shown
from convbert_plugin.files.whole_output import check_place


class Limits(NamedTuple):
    """The least and the largest value of an option, or of each in its list."""

    lowest: float = -sys.float_info.max
    highest: float = sys.float_info.max


LIMITS = {
    "seed": Limits(0, (1 << 32) - 1),
    **dict.fromkeys(("num_workers", "lr"), Limits(0)),
    **dict.fromkeys(
        (
            *("batch_size", "batch_size_valid", "max_tokens", "max_tokens_valid", "update_freq"),
            *("log_interval", "workers", "num_shards", "distributed_world_size"),
        ),
        Limits(1),
    ),
    "clip_norm": Limits(),
}
# What they ask for the models here have not; the value that does not ask.
NOT_HERE = {"model_parallel_size": 1, "pipeline_model_parallel": False}
SHARDED = "fully_sharded"
# Where a run writes besides its folder.
PLACES = ("log_file", "tensorboard_logdir")


def check_values(options: Mapping[str, Any]) -> None:
    """See the options of a command, as far as they are known already.

    Raises:
        UserError: a number outside its limits, an option that is not for the models here, a file
            that cannot be written.
    """
    for name, limits in LIMITS.items():
        _check_number(name, options.get(name), limits)
    for name, usual in NOT_HERE.items():
        if options.get(name, usual) not in (None, usual):
            raise UserError(f"{_flag(name)}: not for the models here: leave it out")
    if options.get("ddp_backend") == SHARDED:
        raise UserError(f"--ddp-backend {SHARDED}: not for the models here: leave it out")
    for name in filter(options.get, PLACES):
        try:
            check_place(options[name])
        except UserError as error:
            raise UserError(f"{_flag(name)} {error}") from None


def check_overrides(words: Optional[str]) -> None:
    """Raise UserError unless what fairseq evaluates as Python is a table of plain values."""
    try:
        is_table = isinstance(ast.literal_eval(words or "{}"), dict)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        is_table = False
    if not is_table:
        raise UserError(
            f"--model-overrides {shown(words)}: give a table in Python's words, such as "
            "\"{'dropout': 0.0}\""
        )


def _check_number(name: str, given: Any, limits: Limits) -> None:
    if given is None:
        return
    # What follows another option until it is given comes as text.
    values = [given] if isinstance(given, (int, float, str)) else list(given)
    if not values:
        raise UserError(f"{_flag(name)}: an empty list: give at least one number")
    for value in values:
        if limits.lowest <= (number := _number(value)) <= limits.highest:
            continue
        if limits.lowest < 0 or not math.isfinite(number):
            wanted = "a finite number"
        elif limits.highest < sys.float_info.max:
            wanted = f"a number from {limits.lowest} to {limits.highest:,}"
        else:
            wanted = f"a number of at least {limits.lowest}"
        words = readable(value) if isinstance(value, str) else shown(value)
        raise UserError(f"{_flag(name)} {words}: choose {wanted}")


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value > 0 or -1)
    except ValueError:
        return math.nan


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
