"""Fine-tuning runs on disk: found, read, grouped by where they began, summed up over seeds."""

import json
import os
import statistics
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, NamedTuple, Optional, Sequence, TypeVar

from convbert_plugin.data.glue.glue_tasks import SECOND_VALID, TASKS, VALID
from convbert_plugin.errors import UserError
from convbert_plugin.files.records import (
    DATA,
    EARLY_ENDS,
    RANDOM_WEIGHTS,
    RECORD_FILE,
    SETTINGS,
    TASK,
    read_record,
    start_in_words,
)

Value = TypeVar("Value")

RECORDED = "recorded"
# Words for what runs differ in, where it is not the name of an option and its value.
FACT_WORDS = {"model": "{}", "head": "{} head", RECORDED: "{}"}
# Of a digest.
SHOWN_LETTERS = 8
# Words for sets beside the usual one.
SET_WORDS = {("mnli", SECOND_VALID): "mismatched"}


class Run(NamedTuple):
    """What a run left in its folder, the validations in the order of updates."""

    folder: str
    task: str
    metrics: list[str]
    seed: int
    start: dict
    model: dict
    head: Optional[str]
    settings: dict
    data: dict
    majority: dict[str, dict[str, float]]
    validations: list[dict]

    @property
    def start_words(self) -> str:
        return start_in_words(self.start)

    @property
    def model_words(self) -> str:
        return f"{self.model.get('arch') or 'a model'}, {self.model.get('layers', '?')} layers"

    @property
    def making(self) -> str:
        """All that makes the run but its seed."""
        making = [self.task, self.start, self.model, self.head, self.settings, self.data]
        return json.dumps(making, sort_keys=True)

    def basics(self) -> dict[str, Any]:
        """What every version recorded, and whether there is more."""
        recorded = "" if self.settings else "settings not recorded"
        return {"model": self.model_words, "head": self.head, RECORDED: recorded}

    def implied(self) -> dict[str, Any]:
        """What differs with the start and the model, and is told where these are alike."""
        digests = {
            "weights": self.start.get("weights"),
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


class Group(NamedTuple):
    """Runs that differ in their seed alone; ``label``: where they began, and how, in words."""

    label: str
    runs: list[Run]

    @property
    def task(self) -> str:
        return self.runs[0].task

    @property
    def title(self) -> str:
        return f"{self.task}, {self.label}"


class SeedScore(NamedTuple):
    """The score of the last validation of a run."""

    seed: int
    folder: str
    updates: int
    score: float


class Row(NamedTuple):
    """The scores of a group in one metric on one set, by seed.

    ``majority``: what the most frequent class scores there; None for scores instead of classes,
    and where the runs of the group do not agree on it.
    """

    group: Group
    subset: str
    metric: str
    scores: list[SeedScore]
    majority: Optional[float]

    @property
    def name(self) -> str:
        """The task, and the set where it is not the usual one."""
        task, subset = self.group.task, self.subset
        return task if subset == VALID else f"{task} ({SET_WORDS.get((task, subset), subset)})"

    @property
    def values(self) -> list[float]:
        return [score.score for score in self.scores]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def statistics(self) -> dict[str, Optional[float]]:
        """By name; std: the sample standard deviation, None of a single seed."""
        return {
            "median": self.median,
            "best": max(self.values),
            "mean": statistics.fmean(self.values),
            "std": statistics.stdev(self.values) if len(self.values) > 1 else None,
            "majority": self.majority,
        }


Panel = list[Row]
"""The rows of one task, set and metric: a group each."""


class Summary(NamedTuple):
    """All that a report tells: groups, runs that have no score yet, and what to know of them."""

    groups: list[Group]
    unfinished: list[Run]
    notes: list[str]

    def panels(self) -> list[Panel]:
        """The rows to compare with each other, task by task."""
        rows = (row for group in self.groups for row in rows_of(group))
        return list(grouped(rows, lambda row: (row.group.task, row.subset, row.metric)).values())


def summarize(places: Sequence[Path]) -> Summary:
    """Read and group every run in or below the folders ``places``.

    Raises:
        UserError: a folder that is missing; no run at all, or none whose record can be read.
    """
    found = {place: find_records(place) for place in places}
    # A folder and one that holds it may both be named.
    paths = {os.path.realpath(path): path for records in found.values() for path in records}
    if not paths:
        raise UserError(
            f"{', '.join(map(str, places))}: no {RECORD_FILE} there or below: name folders of "
            "runs of fine-tuning"
        )
    runs, unreadable = [], []
    for path in paths.values():
        try:
            runs.append(read_run(path))
        except UserError as error:
            unreadable.append(error)
    if not runs:
        raise unreadable[0]
    groups = group_runs([run for run in runs if run.validations])
    empty = [f"{place}: holds no {RECORD_FILE}" for place, records in found.items() if not records]
    return Summary(
        groups=groups,
        unfinished=[run for run in runs if not run.validations],
        notes=[
            *(f"not counted: {error}" for error in unreadable),
            *empty,
            *(note for group in groups for note in _notes(group)),
        ],
    )


def find_records(place: Path) -> list[Path]:
    """Every ``scores.json`` in or below a folder, in alphabetical order."""
    if not place.exists():
        raise UserError(f"{place}: no such folder")
    if not place.is_dir():
        raise UserError(f"{place}: not a folder: name the folder of a run")

    def fail(error: OSError) -> None:
        raise error

    folders = (Path(folder) for folder, _, _ in os.walk(place, onerror=fail))
    records = (folder / RECORD_FILE for folder in folders)
    # Also what is no file: it is named where it is read.
    return sorted(record for record in records if os.path.lexists(record))


def read_run(path: Path) -> Run:
    """Read the ``scores.json`` of a run. Raises UserError: a damaged one."""
    record = read_record(path)
    return Run(
        folder=str(path.parent),
        task=record[TASK],
        metrics=record["metrics"],
        seed=record["seed"],
        start=record["start"],
        model=record.get("model", {}),
        head=record.get("classification_head"),
        settings=record.get(SETTINGS, {}),
        data=record.get(DATA, {}),
        majority=record.get("majority", {}),
        validations=sorted(record["validations"], key=lambda entry: entry["updates"]),
    )


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Group runs that are equal but for their seed, in the order of the tasks.

    Labels say where the runs began, in what those of a task differ, and where they ended if that
    is too early, or not where others did that were made alike.
    """
    groups = grouped(runs, lambda run: (run.making, *run.reached))
    made_alike = Counter(making for making, *_ in groups)
    recorded = [run for run in runs if run.settings]
    shown = {
        *_differing(runs, Run.basics, lambda run: run.task),
        *_differing(recorded, lambda run: run.settings, lambda run: run.task),
        *_differing(
            recorded, Run.implied, lambda run: (run.task, run.start_words, run.model_words)
        ),
    }
    known = list(TASKS)

    def label(run: Run) -> str:
        facts = {**run.basics(), **run.settings, **run.implied()}
        words = (_fact_words(name, value) for name, value in facts.items() if name in shown)
        is_told = run.is_short or made_alike[run.making] > 1
        ended = run.end_words if is_told else ""
        return ", ".join(filter(None, [run.start_words, *words, ended]))

    def order(group: Group) -> tuple:
        is_random = group.runs[0].start["kind"] == RANDOM_WEIGHTS["kind"]
        # The known tasks first, in their order, then others by name.
        place = known.index(group.task) if group.task in known else len(known)
        return place, group.task, not is_random, group.label

    labelled = (
        Group(label(members[0]), sorted(members, key=lambda run: (run.seed, run.folder)))
        for members in groups.values()
    )
    return sorted(labelled, key=order)


def _differing(
    runs: Sequence[Run], facts: Callable[[Run], dict], alike: Callable[[Run], Any]
) -> Iterator[str]:
    """The facts in which runs that are ``alike`` differ."""
    for same in grouped(runs, alike).values():
        told = [facts(run) for run in same]
        for name in {name for values in told for name in values}:
            if len({json.dumps(values.get(name), sort_keys=True) for values in told}) > 1:
                yield name


def _fact_words(name: str, value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    words = value if isinstance(value, str) else json.dumps(value)
    return FACT_WORDS.get(name, f"{name} {{}}").format(words)


def grouped(values: Iterable[Value], key: Callable[[Value], Any]) -> dict[Any, list[Value]]:
    """The values by their keys, in the order in which these come first."""
    groups: dict[Any, list[Value]] = {}
    for value in values:
        groups.setdefault(key(value), []).append(value)
    return groups


def rows_of(group: Group) -> list[Row]:
    """The scores of a group, set by set and metric by metric."""
    subsets = {entry["subset"]: None for run in group.runs for entry in run.validations}
    metrics = {metric: None for run in group.runs for metric in run.metrics}
    return [
        Row(group, subset, metric, scores, _majority(group, subset, metric))
        for subset in sorted(subsets, key=lambda name: (name != VALID, name))
        for metric in metrics
        if (scores := list(_last_scores(group, subset, metric)))
    ]


def _last_scores(group: Group, subset: str, metric: str) -> Iterator[SeedScore]:
    for run in group.runs:
        if curve := run.curve(subset, metric):
            yield SeedScore(run.seed, run.folder, *curve[-1])


def _majorities(group: Group, subset: str, metric: str) -> set[Optional[float]]:
    return {run.majority.get(subset, {}).get(metric) for run in group.runs}


def _majority(group: Group, subset: str, metric: str) -> Optional[float]:
    values = _majorities(group, subset, metric)
    return values.pop() if len(values) == 1 else None


def _notes(group: Group) -> Iterator[str]:
    for seed, same in grouped(group.runs, lambda run: run.seed).items():
        if len(same) > 1:
            folders = " and ".join(run.folder for run in same)
            yield (
                f"{group.title}: seed {seed} was run more than once ({folders}): each counts as a "
                "run of its own"
            )
    ends = grouped(group.runs, lambda run: run.updates)
    limit = group.runs[0].settings.get("max_update") or 0
    # Where nothing ends them early, their label says it.
    if (early_ends := group.runs[0].early_ends) and (len(ends) > 1 or min(ends) < limit):
        listed = "; ".join(
            f"seed {', '.join(str(run.seed) for run in same)} after {updates:,}"
            for updates, same in sorted(ends.items())
        )
        of_limit = f" of {limit:,} updates" if limit else ""
        settings = ", ".join(f"{name} {value:g}" for name, value in early_ends.items())
        yield (
            f"{group.title}: the last scores are of {listed}{of_limit}: by {settings} runs end "
            "early, but some may have been broken off"
        )
    if any(len(_majorities(group, row.subset, row.metric)) > 1 for row in rows_of(group)):
        yield (
            f"{group.title}: the runs were not scored on the same data, for their majority "
            "classes differ"
        )
