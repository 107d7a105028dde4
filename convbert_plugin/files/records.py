"""What a fine-tuning run leaves of itself in its folder: where it began, and every score."""

import json
import math
import os
from pathlib import Path
from typing import Any, Optional, TypeGuard, Union

from convbert_plugin.errors import UserError
from convbert_plugin.files.json_files import typed, write_json
from convbert_plugin.files.text_files import PathLike, read_file

RECORD_FILE = "scores.json"
# What a run last answered on a set, where it answers questions.
ANSWERS_FILE = "answers_{subset}.json"
# While GLUE was all there was, records and checkpoints had another name for the task.
TASK, EARLIER_TASK = "task", "glue_task"
START = "start"
SETTINGS, DATA = "settings", "data"
# What a record calls the head that answers.
CLASSIFICATION_HEAD, QUESTION_ANSWERING_HEAD = "classification_head", "question_answering_head"
HEADS = (CLASSIFICATION_HEAD, QUESTION_ANSWERING_HEAD)
# Settings with which a run was trained before it was resumed with others.
BEFORE = "before"
# A run may go on elsewhere, and longer where the rate does not follow its length.
PLACE, LENGTH = ("device", "torch", "fairseq"), ("max_update", "max_epoch")
# Settings above 0 by which one seed may rightly end before another.
EARLY_ENDS = ("patience", "stop_time_hours", "stop_min_lr")
RANDOM_WEIGHTS = {"kind": "random weights"}
TRAINED_HERE, CONVERTED = "trained here", "converted"


class RunRecord:
    """The ``scores.json`` of a run, written anew after each validation.

    A run that is resumed goes on with it: validations beyond the update at which it is resumed
    are taken back, and what had other settings before is told.
    """

    def __init__(self, folder: PathLike, description: dict, is_resumed: bool):
        self.path = Path(folder) / RECORD_FILE
        self.values = {**description, "validations": []}
        self.is_written = True
        if is_resumed and os.path.lexists(self.path):
            earlier = read_record(self.path)
            self.values[START] = earlier[START]
            self.values["validations"] = earlier["validations"]
            if SETTINGS in self.values:
                self._keep_changes(earlier)

    def _keep_changes(self, earlier: dict) -> None:
        then, now = (
            {**record.get(SETTINGS, {}), **record.get(DATA, {})}
            for record in (earlier, self.values)
        )
        before = then.pop(BEFORE, [])
        may_change = (*PLACE, *(LENGTH if now.get("total_num_update") else ()))
        changed = {
            name: value
            for name, value in then.items()
            if name not in may_change and value != now.get(name)
        }
        if changed or before:
            self.values[SETTINGS][BEFORE] = [*before, *([changed] if changed else [])]

    def add(self, subset: str, updates: int, scores: dict) -> None:
        """Keep the scores of one subset after so many updates."""
        entry = {"subset": subset, "updates": updates, **scores}
        kept = [
            before
            for before in self.values["validations"]
            if before["updates"] < updates
            or (before["updates"] == updates and before["subset"] != subset)
        ]
        self.values["validations"] = [*kept, entry]
        self.write()

    def write(self) -> None:
        """Write it; errors as ``write_json``, after which ``is_written`` is false."""
        self.is_written = False
        write_json(self.path, self.values)
        self.is_written = True


def read_record(path: Path) -> dict:
    """Read a ``scores.json``, of an earlier version too.

    Raises:
        UserError: a damaged one, or one that cannot be read.
    """
    try:
        record = json.loads(read_file(path).decode())
        task = record.pop(EARLIER_TASK, None)
        record.setdefault(TASK, task)
        _check(record)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise UserError(f"{path}: damaged, or not the scores of a run: remove it") from None
    return record


def _check(record: dict) -> None:
    typed(str, record[TASK])
    typed(int, record["seed"])
    start_in_words(record[START])
    typed(tuple[Optional[str], ...], [record.get(head) for head in HEADS])
    for part in ("model", SETTINGS, DATA):
        record.get(part, {}).keys()
    settings = record.get(SETTINGS, {})
    typed(dict[str, Optional[int]], {name: settings.get(name) for name in LENGTH})
    typed(dict[str, Optional[float]], {name: settings.get(name) for name in EARLY_ENDS})
    typed(dict[str, dict[str, float]], record.get("majority", {}))
    metrics = typed(tuple[str, ...], record["metrics"])
    for entry in record["validations"]:
        typed(str, entry["subset"])
        typed(int, entry["updates"])
        scores = typed(dict[str, float], {metric: entry[metric] for metric in metrics})
        if not all(map(math.isfinite, scores.values())):
            raise ValueError


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
