"""What a run leaves of itself in its folder: all that makes it, where it began, every score."""

import json
import math
import os
from pathlib import Path
from typing import Any, Callable, Collection, Optional, TypeGuard, Union

from convbert_plugin.errors import UserError
from convbert_plugin.files.json_files import typed, write_json
from convbert_plugin.files.text_files import PathLike, read_file

RECORD_FILE = "scores.json"
# What a run last answered on a set, where it answers questions.
ANSWERS_FILE = "answers_{subset}.json"
# While GLUE was all there was, records and checkpoints had another name for the task.
TASK, EARLIER_TASK = "task", "glue_task"
START = "start"
SETTINGS, DATA, ENVIRONMENT = "settings", "data", "environment"
VALIDATIONS = "validations"
# What a record calls the head that answers.
CLASSIFICATION_HEAD, QUESTION_ANSWERING_HEAD = "classification_head", "question_answering_head"
HEADS = (CLASSIFICATION_HEAD, QUESTION_ANSWERING_HEAD)
# Settings with which a run was trained before it was resumed with others.
BEFORE = "before"
# A run may go on elsewhere, and longer where the rate does not follow its length.
PLACE, LENGTH = ("device", "torch", "fairseq"), ("max_update", "max_epoch")
# Of the data, what shows as they are read; SHARDS where there are several, as far as they were.
SHARDS = "shards"
TEXT = ("train_tokens", "used_share", "train_examples", SHARDS)
# Settings above 0 by which one seed may rightly end before another.
BUDGET = "budget_minutes"
EARLY_ENDS = ("patience", "stop_time_hours", "stop_min_lr", BUDGET)
RANDOM_WEIGHTS = {"kind": "random weights"}
TRAINED_HERE, CONVERTED = "trained here", "converted"


class RunRecord:
    """The ``scores.json`` of a run, written anew after each validation.

    A run that is resumed goes on with it: validations beyond the update at which it is resumed
    are taken back, and what had other settings, or ran elsewhere, before is told.
    """

    file_name = RECORD_FILE
    # Lists of which each item gets a line in the file.
    rows: Collection[str] = ()

    def __init__(self, folder: PathLike, description: dict, is_resumed: bool):
        self.path = Path(folder) / self.file_name
        self.values = {**description, VALIDATIONS: []}
        self.is_written = True
        if is_resumed and os.path.lexists(self.path):
            self.go_on(self.read(self.path))

    @staticmethod
    def read(path: Path) -> dict:
        """What a record of this kind holds; errors as ``read_record``."""
        return read_record(path)

    def go_on(self, earlier: dict) -> None:
        """Go on with what is recorded already."""
        self.values[START] = earlier[START]
        self.values[VALIDATIONS] = earlier[VALIDATIONS]
        if SETTINGS in self.values:
            now = {**self.values[SETTINGS], **self.values.get(DATA, {})}
            has_length = now.get("total_num_update") or now.get(BUDGET)
            may_change = (*PLACE, *TEXT, *(LENGTH if has_length else ()))
            then = {**earlier.get(SETTINGS, {}), **earlier.get(DATA, {})}
            _keep_changes(self.values[SETTINGS], now, then, may_change)
        if ENVIRONMENT in self.values:
            now = self.values[ENVIRONMENT]
            _keep_changes(now, now, earlier.get(ENVIRONMENT, {}))

    def add(self, subset: str, updates: int, scores: dict) -> None:
        """Keep the scores of one subset after so many updates."""
        entry = {"subset": subset, "updates": updates, **scores}
        kept = [
            before
            for before in self.values[VALIDATIONS]
            if before["updates"] < updates
            or (before["updates"] == updates and before["subset"] != subset)
        ]
        self.values[VALIDATIONS] = [*kept, entry]
        self.write()

    def write(self) -> None:
        """Write it; errors as ``write_json``, after which ``is_written`` is false."""
        self.is_written = False
        write_json(self.path, self.values, self.rows)
        self.is_written = True


def _keep_changes(
    place: dict, now: dict, then: dict, may_change: Collection[str] = frozenset()
) -> None:
    """Put what was otherwise then, beside what had been before, into a part of a record."""
    before = then.pop(BEFORE, [])
    changed = {
        name: value
        for name, value in then.items()
        if name not in may_change and value != now.get(name)
    }
    if changed or before:
        place[BEFORE] = [*before, *([changed] if changed else [])]


def read_record(path: Path) -> dict:
    """Read a ``scores.json``, of an earlier version too.

    Raises:
        UserError: a damaged one, or one that cannot be read.
    """
    return read_checked(path, _check, "the scores of a run")


def read_checked(path: Path, check: Callable[[dict], None], words: str) -> dict:
    """Read a record that ``check`` finds nothing wrong with; ``words`` say what it is of."""
    try:
        record = json.loads(read_file(path).decode())
        check(record)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise UserError(f"{path}: damaged, or not {words}: remove it") from None
    return record


def _check(record: dict) -> None:
    task = record.pop(EARLIER_TASK, None)
    record.setdefault(TASK, task)
    check_making(record)
    typed(tuple[Optional[str], ...], [record.get(head) for head in HEADS])
    typed(dict[str, dict[str, float]], record.get("majority", {}))
    metrics = typed(tuple[str, ...], record["metrics"])
    for entry in record[VALIDATIONS]:
        check_place(entry)
        scores = typed(dict[str, float], {metric: entry[metric] for metric in metrics})
        if not all(map(math.isfinite, scores.values())):
            raise ValueError


def check_making(record: dict) -> None:
    """Raise an error of Python's unless that which makes a run is of the right kinds."""
    typed(str, record[TASK])
    typed(int, record["seed"])
    start_in_words(record[START])
    for part in ("model", SETTINGS, DATA, ENVIRONMENT):
        record.get(part, {}).keys()
    settings = record.get(SETTINGS, {})
    typed(dict[str, Optional[int]], {name: settings.get(name) for name in LENGTH})
    typed(dict[str, Optional[float]], {name: settings.get(name) for name in EARLY_ENDS})


def check_place(entry: dict) -> None:
    """Likewise of the place of a validation."""
    typed(str, entry["subset"])
    typed(int, entry["updates"])


def start_from(checkpoint: PathLike, objective: Optional[str], updates: int) -> dict:
    """A start from a checkpoint, and what it was trained on; a conversion leaves no updates."""
    return {
        "kind": TRAINED_HERE if updates else CONVERTED,
        "checkpoint": str(checkpoint),
        "objective": objective,
        "updates": updates,
    }


def is_start(value: Any) -> TypeGuard[dict]:
    """Whether a value is what ``start_from`` gives, or ``RANDOM_WEIGHTS``."""
    try:
        typed(dict[str, Union[str, int, None]], value)
        return bool(start_in_words(value))
    except (LookupError, TypeError, ValueError):
        return False


def start_in_words(start: dict) -> str:
    """Where a run began, for people to read."""
    if start["kind"] == RANDOM_WEIGHTS["kind"]:
        return start["kind"]
    if start["kind"] == CONVERTED:
        return f"converted: {start['checkpoint']}"
    return f"from {start['checkpoint']}, {start['updates']:,} updates of {start['objective']}"
