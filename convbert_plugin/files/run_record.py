"""What a fine-tuning run leaves of itself in its folder: where it began, and every score."""

import json
from pathlib import Path

from convbert_plugin.errors import UserError
from convbert_plugin.files.text_files import replace_when_done

RECORD_FILE = "scores.json"
RANDOM_WEIGHTS = {"kind": "random weights"}


class RunRecord:
    """The ``scores.json`` of a run, written anew after each validation.

    A run that is resumed goes on with it: validations beyond the update at which it is resumed
    are taken back.
    """

    def __init__(self, folder, description: dict, is_resumed: bool):
        self.path = Path(folder) / RECORD_FILE
        self.values = {**description, "validations": []}
        if is_resumed and self.path.is_file():
            earlier = read_record(self.path)
            self.values["start"] = earlier["start"]
            self.values["validations"] = earlier["validations"]

    def add(self, subset: str, updates: int, scores: dict):
        """Keep the scores of one subset after so many updates."""
        entry = {"subset": subset, "updates": updates, **scores}
        kept = [
            before
            for before in self.values["validations"]
            if before["updates"] < updates
            or (before["updates"] == updates and before["subset"] != subset)
        ]
        self.values["validations"] = [*kept, entry]
        with replace_when_done(self.path) as file:
            file.write((json.dumps(self.values, indent=1) + "\n").encode())


def read_record(path: Path) -> dict:
    """Read a ``scores.json``.

    Raises:
        UserError: a damaged one.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        entries = record["validations"]
        if not all({"subset", "updates"} <= entry.keys() for entry in entries):
            raise ValueError
        record["start"]["kind"], record["glue_task"], record["seed"], record["metrics"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path}: damaged, or not the scores of a run: remove it") from None
    return record
