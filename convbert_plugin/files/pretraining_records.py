"""What a pretraining run leaves of itself in its folder: all that makes it, and how it went."""

import math
import time
from pathlib import Path
from typing import Any, Optional

from convbert_plugin.files.json_files import typed
from convbert_plugin.files.records import (
    BUDGET,
    DATA,
    ENVIRONMENT,
    SETTINGS,
    SHARDS,
    TEXT,
    VALIDATIONS,
    RunRecord,
    check_making,
    check_place,
    read_checked,
)
from convbert_plugin.files.text_files import PathLike

PRETRAINING_FILE = "pretraining.json"
FORMAT = 1
FORMAT_NAME, OBJECTIVE, POINTS, ENDED = "format", "objective", "points", "ended"
# Updates from which on tokens are counted: more than 0 where an earlier version made those before.
COUNTED_FROM = "counted_from"
# How a run ended; one that was cut off, or lasts, has None.
MAX_UPDATE, MAX_EPOCH, DIVERGED = "max_update", "max_epoch", "divergence"
STOP_TIME, STOP_RATE, PATIENCE = "stop_time_hours", "stop_min_lr", "patience"
BUDGET_SPENT = "budget"
# Of a point or a validation, what differs between two runs that are equal.
TIMES = ("seconds", "wps", "ups", "train_wall", "gb_free")
# What records of fine-tuning may lack, if an earlier version wrote them.
PARTS = {"model", SETTINGS, DATA, ENVIRONMENT}
SECONDS_BETWEEN = 10.0
# Of the time of a long run, that which writing its record may take.
MOST_TIME = 0.01


class PretrainingRecord(RunRecord):
    """The ``pretraining.json`` of a run, written anew as it goes.

    ``updates``: those after which a run that is resumed goes on; what was recorded beyond them is
    taken back.
    """

    file_name = PRETRAINING_FILE
    rows = (POINTS, VALIDATIONS)

    def __init__(self, folder: PathLike, description: dict, is_resumed: bool, updates: int):
        self.updates = updates
        super().__init__(folder, {FORMAT_NAME: FORMAT, **description}, is_resumed)
        self.values.setdefault(POINTS, [])
        self.values[VALIDATIONS] = self.values.pop(VALIDATIONS)
        self.values[ENDED] = None
        self.due = 0.0
        # Where the run stands: updates, tokens, seconds.
        self.place: dict[str, Any] = {}

    @staticmethod
    def read(path: Path) -> dict:
        return read_pretraining_record(path)

    def go_on(self, earlier: dict) -> None:
        super().go_on(earlier)
        for part in (POINTS, VALIDATIONS):
            self.values[part] = [one for one in earlier[part] if one["updates"] <= self.updates]
        ours, theirs = self.values[DATA], earlier[DATA]
        if SHARDS in ours and _files_of(ours) == _files_of(theirs):
            self.count_text(theirs[SHARDS])

    def count_text(self, shards: list[Optional[list[int]]]) -> None:
        """Say what the data hold: of each shard its tokens, those in examples, its examples.

        None stands for one that is not read yet.
        """
        known = self.values[DATA].get(SHARDS, shards)
        pairs = zip(shards, known, strict=True)
        self.values[DATA] |= text_of([shard or before for shard, before in pairs])

    def add_point(self, numbers: dict[str, Any]) -> None:
        """Keep what is logged where the run stands, and write it if the last time was a while ago.

        ``numbers``: how many slots it has seen, and finite ones by name.
        """
        self.values[POINTS].append({**self.place, **numbers})
        self.is_written = False
        if time.monotonic() >= self.due:
            self.write()

    def add_validation(self, subset: str, scores: dict[str, float]) -> None:
        """Keep the scores of one subset where the run stands, those that are finite."""
        numbers = {name: score for name, score in scores.items() if math.isfinite(score)}
        others = {name: value for name, value in self.place.items() if name != "updates"}
        self.add(subset, self.place["updates"], {**others, **numbers})

    def end(self, reason: str) -> None:
        """Keep how the run ended."""
        self.values[ENDED] = reason
        self.write()

    def write(self) -> None:
        begin = time.monotonic()
        try:
            super().write()
        finally:
            end = time.monotonic()
            self.due = end + max(SECONDS_BETWEEN, (end - begin) / MOST_TIME)


def _files_of(data: dict) -> dict:
    """What a record says of the data that shows before they are read."""
    return {name: value for name, value in data.items() if name not in TEXT}


def text_of(shards: list[Optional[list[int]]]) -> dict[str, Any]:
    """What a record says of the text in shards, of which it knows what ``count_text`` takes."""
    known = [shard for shard in shards if shard]
    tokens, used, examples = map(sum, zip(*known, strict=True)) if known else (0, 0, 0)
    counts = {
        "train_tokens": tokens,
        "used_share": used / max(tokens, 1),
        "train_examples": examples,
    }
    return {**counts, SHARDS: shards} if len(shards) > 1 else counts


def read_pretraining_record(path: Path) -> dict:
    """Read a ``pretraining.json``.

    Raises:
        UserError: a damaged one, one of another format, or one that cannot be read.
    """
    return read_checked(path, _check, f"the record of a pretraining run (format {FORMAT})")


def _check(record: dict) -> None:
    check_making(record)
    if not record.keys() >= PARTS:
        raise ValueError
    typed(str, record[OBJECTIVE])
    typed(tuple[Optional[float], Optional[str]], [record[BUDGET], record[ENDED]])
    if typed(int, record[FORMAT_NAME]) != FORMAT or typed(int, record[COUNTED_FROM]) < 0:
        raise ValueError
    data = record[DATA]
    typed(tuple[int, float, int], [data[name] for name in TEXT if name != SHARDS])
    for shard in data.get(SHARDS, ()):
        typed(Optional[tuple[int, int, int]], shard)
    for entry in record[VALIDATIONS]:
        check_place(entry)
        _check_numbers({name: value for name, value in entry.items() if name != "subset"})
    updates = [point["updates"] for point in record[POINTS]]
    for point in record[POINTS]:
        typed(int, point["slots"])
        _check_numbers(point)
    if updates != sorted(set(updates)):
        raise ValueError


def _check_numbers(entry: dict) -> None:
    typed(tuple[int, int, float], [entry[name] for name in ("updates", "tokens", "seconds")])
    if not all(map(math.isfinite, typed(dict[str, float], entry).values())):
        raise ValueError
