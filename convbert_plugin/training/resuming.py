"""What a run goes on from: fairseq takes it as it stands, so it is checked before."""

import itertools
import math
from typing import Any, Callable, Collection, Mapping, NamedTuple, Optional, Sequence

import torch
from fairseq.logging import meters

from convbert_plugin.errors import UserError, counted, readable, shown
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.formats.fairseq_checkpoint import FairseqCheckpoint
from convbert_plugin.formats.safe_loading import PLAIN_TYPES, repeat_themselves, tensor_problem
from convbert_plugin.training.exact_resume import COUNTERS, EARLY_STOPPING, PLATEAU, RATES
from convbert_plugin.training.recording import SEEN, seen_by
from convbert_plugin.training.time_budget import SECONDS_A_MINUTE

# fairseq's options after which it leaves a field alone, and one that left some out.
RESETS = ("reset_optimizer", "reset_lr_scheduler", "reset_meters", "reset_dataloader")
OPTIMIZER, LR_SCHEDULER, METERS, DATALOADER = RESETS
NO_OPTIMIZER_STATE = "no_save_optimizer_state"
# Schedules that keep a rate alone, where the others keep the best score.
OF_A_RATE, SCHEDULES_OF_A_RATE = "schedule_of_a_rate", ("fixed", "manual")
# What stands for the optimizer under --fp16, --bf16 or --amp, and under --use-bmuf.
WRAPPERS = ("FP16Optimizer", "MemoryEfficientFP16Optimizer", "AMPOptimizer")
BLOCKWISE = "FairseqBMUF"
# Options of a group of parameters, what is kept for one of them, aggregators of meters.
MOST_ENTRIES = 100
MOST_GROUPS, MOST_METERS = 1000, 10_000
MOST_PARAMETERS = 100_000
# Of what fairseq asks for more than it does of an average, by name.
WALL = "wall"
METERS_OF_TIME = {
    **dict.fromkeys((WALL, "train_wall"), "StopwatchMeter"),
    **dict.fromkeys(("wps", "ups"), "TimeMeter"),
}
# Begins the names of sums.
SUM = "_"
# What fairseq counts stays far below, and a seed has to.
COUNT_LIMIT = 1 << 31


Test = Callable[[Any], bool]


class Kind(NamedTuple):
    """What a field may be: a test of its value, and the words for it."""

    holds: Test
    words: str


class Field(NamedTuple):
    """A field by the names on the way to it, and the resets that make fairseq leave it alone."""

    path: tuple
    kind: Kind
    unless: Collection[str] = ()
    is_required: bool = True


def is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < COUNT_LIMIT


def is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 1 << 63)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_sound(value: Any) -> bool:
    """Whether a value is a tensor that is what it says."""
    return isinstance(value, torch.Tensor) and tensor_problem(value) is None


def _is_kept(value: Any) -> bool:
    """Whether an optimizer keeps such a value of a parameter."""
    return _is_sound(value) or type(value) in PLAIN_TYPES


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _table_of(is_key: Test, is_entry: Test) -> Test:
    return lambda value: (
        _is_table(value) and all(is_key(key) and is_entry(held) for key, held in value.items())
    )


def _list_of(is_row: Test) -> Test:
    return lambda value: isinstance(value, list) and all(map(is_row, value))


def _are_groups(value: Any) -> bool:
    return (
        _list_of(_is_group)(value)
        and len(value) <= MOST_GROUPS
        and sum(len(group["params"]) for group in value) <= MOST_PARAMETERS
        and all(map(is_count, itertools.chain.from_iterable(group["params"] for group in value)))
    )


def _is_group(value: Any) -> bool:
    return (
        _is_short_table(value)
        and isinstance(value.get("params"), list)
        and all(_is_option(option) for name, option in value.items() if name != "params")
    )


def _is_option(value: Any) -> bool:
    parts = value if isinstance(value, (list, tuple)) else (value,)
    return len(parts) <= MOST_ENTRIES and all(map(_is_kept, parts))


def _is_short_table(value: Any) -> bool:
    return _is_table(value) and len(value) <= MOST_ENTRIES and all(map(_is_text, value))


def _are_states(value: Any) -> bool:
    return (
        _table_of(is_count, _is_short_table)(value)
        and all(map(_is_kept, entries := [v for state in value.values() for v in state.values()]))
        and not repeat_themselves(entries)
    )


def _are_metrics(value: Any) -> bool:
    return (
        _is_short_table(value)
        and all(map(_are_meters, value.values()))
        and any(name == WALL for _, name, *_ in value.get("default", [(0, WALL)]))
    )


def _are_meters(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MOST_METERS
        and all(map(_is_meter, value))
        and len({name for _, name, *_ in value}) == len(value)
    )


def _is_meter(row: Any) -> bool:
    """A row as ``MetersDict.state_dict`` writes it."""
    if not isinstance(row, (list, tuple)) or len(row) != 4:
        return False
    priority, name, class_name, state = row
    if not (is_number(priority) and _is_text(name) and _is_text(class_name) and _is_table(state)):
        return False
    meter = getattr(meters, class_name, None)
    return (
        isinstance(meter, type)
        and issubclass(meter, meters.Meter)
        and _is_asked_for(name, class_name)
        and meter().state_dict().keys() <= state.keys()
        and all(_is_of_meter(*entry) for entry in state.items())
    )


def _is_asked_for(name: str, class_name: str) -> bool:
    """Whether fairseq can go on counting by a meter of that class."""
    if name.startswith(SUM):
        return class_name not in METERS_OF_TIME.values()
    return class_name == METERS_OF_TIME.get(name, meters.AverageMeter.__name__)


def _is_of_meter(name: Any, value: Any) -> bool:
    if name == "round":
        return value is None or is_count(value)
    if value is None:
        return name in ("val", "tensor")
    return is_number(value) or (isinstance(value, torch.Tensor) and _is_sound(value))


def _are_seconds(value: Any) -> bool:
    # Several workers add theirs up in a tensor, which fairseq keeps.
    if isinstance(value, torch.Tensor) and _is_sound(value) and value.numel() == 1:
        value = value.item()
    return is_number(value) and math.isfinite(value)


def _is_plateau(value: Any) -> bool:
    return (
        _is_table(value)
        and value.keys() == {*COUNTERS, RATES}
        and all(is_count(value[name]) for name in COUNTERS)
        and _list_of(is_number)(value[RATES])
    )


def _is_waiting(value: Any) -> bool:
    """As fairseq counts for --patience."""
    return (
        _is_table(value)
        and value.keys() == {"best", "num_runs"}
        and is_number(value["best"])
        and is_count(value["num_runs"])
    )


NOTHING = Kind(lambda value: False, "nothing")
TABLE = Kind(_is_table, "a dictionary")
TEXT = Kind(_is_text, "a name")
COUNT = Kind(is_count, "a whole number from 0 on")
YES_OR_NO = Kind(lambda value: isinstance(value, bool), "True or False")
NUMBER = Kind(is_number, "a number")
SCORE = Kind(lambda value: value is None or is_number(value), "a number or None")
SECONDS = Kind(_are_seconds, "a number of seconds")
GROUPS = Kind(_are_groups, "a list of groups of parameters, with plain options,")
STATES = Kind(_are_states, "a dictionary of sound tensors and numbers for each parameter")
WAITED = Kind(_is_plateau, "what a schedule counts and the rates of the groups")
WAITING = Kind(_is_waiting, "a best score and how many validations had no better one")
METRICS = Kind(_are_metrics, "a dictionary of fairseq's meters, each by its name,")

HISTORY, OPTIMIZER_STATE, EXTRA = "optimizer_history", "last_optimizer_state", "extra_state"
# The epoch of the last update, where the run was left before that was validated and saved as due.
LEFT_IN_EPOCH = "left_in_epoch"
# The trainer goes on from the last entry alone.
LAST = (HISTORY, -1)
SCHEDULE = (*LAST, "lr_scheduler_state")
ITERATOR = (EXTRA, "train_iterator")
OF_OPTIMIZER = (OPTIMIZER, NO_OPTIMIZER_STATE)
OF_LR_SCHEDULER = (*OF_OPTIMIZER, LR_SCHEDULER)
# In the order of the check: what holds a field stands before it. What a checkpoint may lack,
# fairseq does without.
FIELDS = (
    Field((*LAST, "optimizer"), NOTHING, is_required=False),
    Field(SCHEDULE, TABLE),
    Field((*SCHEDULE, "best"), SCORE, (*OF_LR_SCHEDULER, OF_A_RATE)),
    Field((*SCHEDULE, "lr"), NUMBER, OF_LR_SCHEDULER, is_required=False),
    Field((*SCHEDULE, PLATEAU), WAITED, OF_LR_SCHEDULER, is_required=False),
    Field((*LAST, "num_updates"), COUNT, OF_OPTIMIZER, is_required=False),
    Field((*LAST, "criterion_name"), TEXT, OF_OPTIMIZER),
    Field((*LAST, "optimizer_name"), TEXT, OF_OPTIMIZER),
    Field((OPTIMIZER_STATE,), TABLE, OF_OPTIMIZER),
    Field((OPTIMIZER_STATE, "param_groups"), GROUPS, OF_OPTIMIZER),
    Field((OPTIMIZER_STATE, "state"), STATES, OF_OPTIMIZER),
    Field((OPTIMIZER_STATE, "loss_scale"), NUMBER, OF_OPTIMIZER, is_required=False),
    Field(ITERATOR, TABLE, is_required=False),
    Field((*ITERATOR, "epoch"), COUNT),
    Field((*ITERATOR, "version"), COUNT, is_required=False),
    Field((*ITERATOR, "iterations_in_epoch"), COUNT),
    Field((*ITERATOR, "shuffle"), YES_OR_NO, (DATALOADER,), is_required=False),
    Field((EXTRA, LEFT_IN_EPOCH), COUNT, (DATALOADER,), is_required=False),
    # Where there is no train_iterator.
    Field((EXTRA, "epoch"), COUNT, is_required=False),
    Field((EXTRA, "batch_offset"), COUNT, is_required=False),
    Field((EXTRA, "previous_training_time"), SECONDS, is_required=False),
    Field((EXTRA, "metrics"), METRICS, (METERS,), is_required=False),
    Field((EXTRA, "best"), NUMBER, (OPTIMIZER, METERS), is_required=False),
    Field((EXTRA, "val_loss"), SCORE, OF_LR_SCHEDULER, is_required=False),
    Field((EXTRA, EARLY_STOPPING), WAITING, (METERS,), is_required=False),
)


def check_progress(
    checkpoint: FairseqCheckpoint, path: PathLike, task_class: str, resets: Collection[str]
) -> None:
    """See that fairseq can go on from a checkpoint; ``resets``: those that it shall do.

    ``task_class`` is the name of the class under which the task keeps a state of its own.

    Raises:
        UserError: the first field that is of another kind than the trainer writes.
    """
    progress, without = checkpoint.progress, set(resets)
    if progress[OPTIMIZER_STATE] is None:
        without.add(NO_OPTIMIZER_STATE)
    of_task = Field((EXTRA, task_class), TABLE, (DATALOADER,), is_required=False)
    for field in (*FIELDS, of_task):
        if without.isdisjoint(field.unless) and (problem := _problem(progress, field)):
            raise UserError(
                f"{path}: its training state is damaged ({problem}): use another checkpoint, or "
                f"start anew from its weights: {_new_start(field, path)}"
            )


def check_components(
    checkpoint: FairseqCheckpoint, path: PathLike, components: Mapping[str, Sequence[str]]
) -> None:
    """See that a checked state belongs to this run's components: their possible names by its own.

    Raises:
        UserError: a state of another criterion or optimizer, which fairseq would not load.
    """
    if checkpoint.progress[OPTIMIZER_STATE] is None:
        return
    last = checkpoint.progress[HISTORY][-1]
    for component, names in components.items():
        stored = last[component]
        if stored not in names:
            raise UserError(
                f"{path}: was trained with {readable(stored)}, and this run has {names[0]}: begin "
                "from its weights by --finetune-from-model, or add --reset-optimizer"
            )


def reached_limit(
    checkpoint: FairseqCheckpoint, resets: Collection[str], limits: Any, budget: Optional[float]
) -> str:
    """Which of its limits a run that goes on from a checked state has reached, in words; else "".

    ``limits`` are fairseq's options ``max_update`` and ``max_epoch``; ``budget``: minutes.
    """
    progress = checkpoint.progress
    counts = {}
    if OPTIMIZER not in resets and progress[OPTIMIZER_STATE] is not None:
        counts["update"] = progress[HISTORY][-1].get("num_updates", 0)
    if DATALOADER not in resets:
        counts["epoch"] = progress[EXTRA].get("train_iterator", {}).get("epoch", 1) - 1
    for thing, count in counts.items():
        limit = limits[f"max_{thing}"]
        if 0 < limit <= count:
            return f"{count:,} of {counted(limit, thing)}"
    minutes = _minutes(progress, counts.get("update", 0))
    return f"{minutes:.4g} of {budget:g} minutes" if budget and minutes >= budget else ""


def _minutes(progress: Mapping, updates: int) -> float:
    """How long a run has trained for so many updates."""
    if not updates:
        return 0.0
    extra = progress[EXTRA]
    before = seen_by(extra.get(SEEN), updates).seconds_before
    return (float(extra.get("previous_training_time", 0)) - before) / SECONDS_A_MINUTE


def _problem(progress: Mapping, field: Field) -> Optional[str]:
    """What is wrong with a field, in words; None where nothing is."""
    *way, name = field.path
    holder: Any = progress
    for step in way:
        if isinstance(holder, dict) and step not in holder:
            return None
        holder = holder[step]
    if name not in holder:
        return f"{_in_words(field.path)} is missing" if field.is_required else None
    value = holder[name]
    if field.kind.holds(value):
        return None
    found = (
        shown(value) if isinstance(value, PLAIN_TYPES) else f"of the type {type(value).__name__}"
    )
    return f"{_in_words(field.path)} is {found}, where {field.kind.words} is expected"


def _in_words(path: tuple) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).lstrip(".")


def _new_start(field: Field, path: PathLike) -> str:
    # fairseq reads where a run stood even then.
    if not field.unless:
        return f"convbert convert --from fairseq --to fairseq {path} FOLDER"
    return f"--finetune-from-model {path} and another --save-dir"
