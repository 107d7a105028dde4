"""What a fine-tuning run leaves of itself in its folder: where it began, and every score."""

import json
from pathlib import Path
from typing import Optional

from convbert_plugin.errors import UserError
from convbert_plugin.files.json_files import write_json
from convbert_plugin.files.text_files import PathLike

RECORD_FILE = "scores.json"
# While GLUE was all there was, records and checkpoints had another name for the task.
TASK, EARLIER_TASK = "task", "glue_task"
RANDOM_WEIGHTS = {"kind": "random weights"}
TRAINED_HERE, CONVERTED = "trained here", "converted"


class RunRecord:
    """The ``scores.json`` of a run, written anew after each validation.

    A run that is resumed goes on with it: validations beyond the update at which it is resumed
    are taken back.
    """

    def __init__(self, folder: PathLike, description: dict, is_resumed: bool):
        self.path = Path(folder) / RECORD_FILE
        self.values = {**description, "validations": []}
        if is_resumed and self.path.is_file():
            earlier = read_record(self.path)
            self.values["start"] = earlier["start"]
            self.values["validations"] = earlier["validations"]

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
        write_json(self.path, self.values)


def read_record(path: Path) -> dict:
    """Read a ``scores.json``, of an earlier version too.

    Raises:
        UserError: a damaged one.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        entries = record["validations"]
        if not all({"subset", "updates"} <= entry.keys() for entry in entries):
            raise ValueError
        task = record.pop(EARLIER_TASK, None)
        record.setdefault(TASK, task)
        record["start"]["kind"], record["seed"], record["metrics"]
        if not isinstance(record[TASK], str):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise damaged(path) from None
    return record


def damaged(path: PathLike) -> UserError:
    """The error for a ``scores.json`` that is none."""
    return UserError(f"{path}: damaged, or not the scores of a run: remove it")


def start_from(checkpoint: PathLike, objective: Optional[str], updates: int) -> dict:
    """A start from a checkpoint, and what it was trained on; a conversion leaves no updates."""
    return {
        "kind": TRAINED_HERE if updates else CONVERTED,
        "checkpoint": str(checkpoint),
        "objective": objective,
        "updates": updates,
    }


def start_in_words(start: dict) -> str:
    """Where a run began, for people to read."""
    if start["kind"] == RANDOM_WEIGHTS["kind"]:
        return start["kind"]
    if start["kind"] == CONVERTED:
        return f"converted: {start['checkpoint']}"
    return f"from {start['checkpoint']}, {start['updates']:,} updates of {start['objective']}"
