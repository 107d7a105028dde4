"""Fine-tuning runs on disk: found and read, one by one."""

import json
import os
from pathlib import Path
from typing import Any, Iterable, NamedTuple, Optional, Sequence

from convbert_plugin.errors import UserError
from convbert_plugin.files.records import (
    CLASSIFICATION_HEAD,
    DATA,
    EARLY_ENDS,
    ENVIRONMENT,
    QUESTION_ANSWERING_HEAD,
    RECORD_FILE,
    SETTINGS,
    TASK,
    read_record,
    start_in_words,
)

RECORDED = "recorded"
# Of a start: the digest of its checkpoint.
WEIGHTS = "weights"
# Of a digest.
SHOWN_LETTERS = 8


class Kind(NamedTuple):
    """Runs of one kind: a score times ``percent`` is one of 0 to 100; each has files of answers."""

    percent: float
    has_answers: bool = False


# By what the record calls the head that answers; earlier versions had the first alone.
KINDS = {CLASSIFICATION_HEAD: Kind(100.0), QUESTION_ANSWERING_HEAD: Kind(1.0, has_answers=True)}


class Origin(NamedTuple):
    """The pretraining run that a run began from: its group's label and place, its folder and seed.

    ``updates``: those of the checkpoint, None of the last.
    """

    label: str
    place: int
    folder: str
    seed: int
    updates: Optional[int]


class Run(NamedTuple):
    """What a run left in its folder, the validations in the order of updates.

    ``origin``: where the pretraining run that it began from is told of too.
    """

    folder: str
    task: str
    metrics: list[str]
    seed: int
    start: dict
    model: dict
    head_name: str
    head: Optional[str]
    settings: dict
    data: dict
    majority: dict[str, dict[str, float]]
    validations: list[dict]
    environment: dict
    origin: Optional[Origin] = None

    @property
    def kind(self) -> Kind:
        return KINDS[self.head_name]

    @property
    def start_words(self) -> str:
        if self.origin is None:
            return start_in_words(self.start)
        at = "" if self.origin.updates is None else f", after {self.origin.updates:,} updates"
        return self.origin.label + at

    @property
    def told_start(self) -> dict:
        """Where it began, less the digest of a checkpoint whose training is told beside it.

        That is of the whole file, in which stands how long the training took.
        """
        left_out = () if self.origin is None else (WEIGHTS,)
        return {name: value for name, value in self.start.items() if name not in left_out}

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of its own, and of the pretraining run that it began from."""
        return (self.seed,) if self.origin is None else (self.seed, self.origin.seed)

    @property
    def model_words(self) -> str:
        return f"{self.model.get('arch') or 'a model'}, {self.model.get('layers', '?')} layers"

    @property
    def making(self) -> str:
        """All that makes the run but its seed."""
        # Of a pretraining that was run with several seeds, each has a checkpoint of its own.
        start: Any = self.start
        if self.origin is not None:
            start = [self.origin.label, self.origin.updates]
        making = [self.task, start, self.model, self.head, self.settings, self.data]
        return json.dumps(making, sort_keys=True)

    def basics(self) -> dict[str, Any]:
        """What every version recorded, and whether there is more."""
        recorded = "" if self.settings else "settings not recorded"
        return {"model": self.model_words, "head": self.head, RECORDED: recorded}

    def implied(self) -> dict[str, Any]:
        """What differs with the start and the model, and is told where these are alike."""
        digests = {
            WEIGHTS: None if self.origin else self.start.get(WEIGHTS),
            "vocabulary": self.data.get("vocabulary"),
            **{
                f"{name} data": digest for name, digest in self.data.items() if name != "vocabulary"
            },
        }
        shown = {name: str(digest)[:SHOWN_LETTERS] for name, digest in digests.items()}
        return {**self.model, **shown}

    @property
    def updates(self) -> int:
        """Those before the last validation."""
        return self.validations[-1]["updates"]

    @property
    def ends(self) -> dict[str, int]:
        """The updates before the last validation on each set."""
        return {entry["subset"]: entry["updates"] for entry in self.validations}

    @property
    def early_ends(self) -> dict[str, float]:
        """The settings by which it may have ended itself, at another update than other seeds."""
        values = {name: self.settings.get(name) or 0 for name in EARLY_ENDS}
        return {name: value for name, value in values.items() if value > 0}

    @property
    def asked(self) -> int:
        """The updates that its settings ask for; 0 where they, or the record, do not say."""
        may_end = self.early_ends or self.settings.get("max_epoch")
        return 0 if may_end else self.settings.get("max_update") or 0

    @property
    def is_short(self) -> bool:
        return min(self.ends.values()) < self.asked

    @property
    def reached(self) -> list[int]:
        """The updates that other seeds have to reach too."""
        return [] if self.early_ends else sorted(set(self.ends.values()))

    @property
    def end_words(self) -> str:
        """The updates reached, of those asked for where these are more."""
        asked = f" of {self.asked:,}" if self.is_short else ""
        sets = [f"{subset} after {updates:,}" for subset, updates in self.ends.items()]
        words = f"{self.updates:,}" if len(set(self.ends.values())) == 1 else ", ".join(sets)
        return f"{words}{asked} updates"

    def curve(self, subset: str, metric: str) -> list[tuple[int, float]]:
        """Updates and score of each validation on a set."""
        return [
            (entry["updates"], entry[metric])
            for entry in self.validations
            if entry["subset"] == subset and metric in entry
        ]


def find_records(place: Path, name: str = RECORD_FILE) -> list[Path]:
    """Every file of a name in or below a folder, in alphabetical order."""
    if not place.exists():
        raise UserError(f"{place}: no such folder")
    if not place.is_dir():
        raise UserError(f"{place}: not a folder: name the folder of a run")

    def fail(error: OSError) -> None:
        raise error

    folders = (Path(folder) for folder, _, _ in os.walk(place, onerror=fail))
    records = (folder / name for folder in folders)
    # Also what is no file: it is named where it is read.
    return sorted(record for record in records if os.path.lexists(record))


def different_files(found: Iterable[Sequence[Path]]) -> list[Path]:
    """The paths of files, each file once: a folder and one that holds it may both be named."""
    return list({os.path.realpath(path): path for paths in found for path in paths}.values())


def read_run(path: Path) -> Run:
    """Read the ``scores.json`` of a run. Raises UserError: a damaged one."""
    record = read_record(path)
    head_name = next((name for name in KINDS if name in record), CLASSIFICATION_HEAD)
    return Run(
        folder=str(path.parent),
        task=record[TASK],
        metrics=record["metrics"],
        seed=record["seed"],
        start=record["start"],
        model=record.get("model", {}),
        head_name=head_name,
        head=record.get(head_name),
        settings=record.get(SETTINGS, {}),
        data=record.get(DATA, {}),
        majority=record.get("majority", {}),
        validations=sorted(record["validations"], key=lambda entry: entry["updates"]),
        environment=record.get(ENVIRONMENT, {}),
    )
