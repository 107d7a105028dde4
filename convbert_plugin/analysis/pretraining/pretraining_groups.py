"""Pretraining runs grouped by how they were made, over seeds."""

import os
from collections import Counter
from pathlib import Path
from typing import Iterator, Mapping, NamedTuple, Sequence

from convbert_plugin.analysis.grouping import differing, grouped, value_words
from convbert_plugin.analysis.pretraining.pretraining_runs import PretrainingRun

# Of what differs, so much stands in a name; a table tells it all.
MOST_NAMED = 4
# Of a digest.
SHOWN_LETTERS = 8


class PretrainingGroup(NamedTuple):
    """Runs that differ in their seed alone; ``label``: no other group of a report has it."""

    label: str
    runs: list[PretrainingRun]

    @property
    def finished(self) -> list[PretrainingRun]:
        return [run for run in self.runs if run.is_finished]

    @property
    def objective(self) -> str:
        return self.runs[0].objective

    @property
    def model(self) -> dict:
        return self.runs[0].model

    @property
    def settings(self) -> dict:
        return self.runs[0].settings

    @property
    def data(self) -> dict:
        return self.runs[0].data


def group_pretraining(
    runs: Sequence[PretrainingRun], row_names: Mapping[str, str]
) -> list[PretrainingGroup]:
    """Group runs: those of a row of a grid, and others by all but their seed.

    ``row_names``: the label for each folder of a row in which runs lie, in the order of the
    rows, which come first.
    """
    by_row = grouped(runs, lambda run: row_folder(run) if row_folder(run) in row_names else None)
    others = list(grouped(by_row.pop(None, []), lambda run: run.making).values())
    named = [(row_names[folder], by_row[folder]) for folder in row_names if folder in by_row]
    labels = _unique(_labels(others), others, {label for label, _ in named})
    return [
        PretrainingGroup(label, sorted(members, key=lambda run: (run.seed, run.folder)))
        for label, members in (*named, *sorted(zip(labels, others, strict=True), key=_first))
    ]


def row_folder(run: PretrainingRun) -> str:
    """Where the runs of a row lie, one a seed: wherever links lead."""
    return str(Path(os.path.realpath(run.folder)).parent)


def _first(labelled: tuple[str, list[PretrainingRun]]) -> str:
    return labelled[0]


def _labels(groups: Sequence[Sequence[PretrainingRun]]) -> list[str]:
    """The model of each, and what differs beside it."""
    facts = [group[0].facts() for group in groups]
    names = [name for name in differing(facts) if name != "arch"]
    telling = _most_telling(facts, names)
    shown = [name for name in names if name in telling]
    return [", ".join([str(told.get("arch") or "a model"), *_words(told, shown)]) for told in facts]


def _most_telling(facts: Sequence[Mapping[str, object]], names: Sequence[str]) -> list[str]:
    """Of what differs, so much as a name may hold: what tells the most groups apart comes first."""
    chosen: list[str] = []

    def told_apart(name: str) -> int:
        return len({tuple(_words(told, ["arch", *chosen, name])) for told in facts})

    while len(chosen) < min(MOST_NAMED, len(names)):
        # Of equals the first.
        chosen.append(max((name for name in names if name not in chosen), key=told_apart))
    return chosen


def _words(told: Mapping[str, object], shown: Sequence[str]) -> Iterator[str]:
    for name in shown:
        words = value_words(told.get(name))
        yield f"{name} {words[:SHOWN_LETTERS] if name.endswith(' data') else words}"


def _unique(
    labels: Sequence[str], groups: Sequence[Sequence[PretrainingRun]], taken: set[str]
) -> list[str]:
    """The labels, with the folder of a first run where they are not told apart."""
    times = Counter([*labels, *taken])
    return [
        f"{label} ({group[0].folder})" if times[label] > 1 else label
        for label, group in zip(labels, groups, strict=True)
    ]
