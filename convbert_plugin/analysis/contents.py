"""All that a report tells of: pretraining, what was fine-tuned from it, and what was compared."""

import os
from pathlib import Path
from typing import Iterator, NamedTuple, Optional, Sequence

from convbert_plugin.analysis.groups import Group, Summary, summarize
from convbert_plugin.analysis.pretraining.pretraining_groups import (
    PretrainingGroup,
    group_pretraining,
    row_folder,
)
from convbert_plugin.analysis.pretraining.pretraining_runs import (
    PretrainingRun,
    read_pretraining_run,
)
from convbert_plugin.analysis.runs import Origin, Run, different_files, find_records
from convbert_plugin.errors import UserError
from convbert_plugin.files.grids import GRID_FILE, Grid, read_grid
from convbert_plugin.files.pretraining_records import PRETRAINING_FILE
from convbert_plugin.files.records import TRAINED_HERE


class GridRuns(NamedTuple):
    """A grid, and the runs of each of its rows: None where there are none.

    ``title``: no other grid of a report has it.
    """

    grid: Grid
    folder: str
    title: str
    groups: list[Optional[PretrainingGroup]]


class Contents(NamedTuple):
    """What was read; ``notes``: what to know of it, beside those of the fine-tuning."""

    fine_tuning: Summary
    pretraining: list[PretrainingGroup]
    grids: list[GridRuns]
    notes: list[str]

    @property
    def labels_in_grids(self) -> set[str]:
        """Of the groups that are rows of a grid."""
        return {group.label for grid in self.grids for group in grid.groups if group}

    def fine_tuned(self, group: PretrainingGroup) -> list[Group]:
        """What was fine-tuned from the last checkpoints of a group's runs."""
        return [
            one
            for one in self.fine_tuning.groups
            if (origin := one.runs[0].origin)
            and origin.label == group.label
            and origin.updates is None
        ]


def read_contents(places: Sequence[Path]) -> Contents:
    """Read and group every run in or below the folders ``places``.

    Raises:
        UserError: a folder that is missing; no run at all, or none whose record can be read.
    """
    found = {place: find_records(place, PRETRAINING_FILE) for place in places}
    runs, errors = [], []
    for path in different_files(found.values()):
        try:
            runs.append(read_pretraining_run(path))
        except UserError as error:
            errors.append(error)
    grids, grid_notes = _read_grids(places)
    groups = group_pretraining(runs, _row_labels(grids))
    origins = _Origins(groups)
    if errors and not runs and not any(find_records(place) for place in places):
        raise errors[0]
    with_others = [place for place, records in found.items() if records] if runs else []
    summary = summarize(places, origins.of, with_others)
    return Contents(
        fine_tuning=summary,
        pretraining=groups,
        grids=[_with_runs(folder, grid, grids, groups) for folder, grid in grids],
        notes=[*(f"not counted: {error}" for error in errors), *grid_notes],
    )


def _read_grids(places: Sequence[Path]) -> tuple[list[tuple[str, Grid]], list[str]]:
    """The grids that were found, each with its folder, and what is wrong with others."""
    grids, notes = [], []
    for path in different_files(find_records(place, GRID_FILE) for place in places):
        try:
            grids += [(str(path.parent), grid) for grid in read_grid(path.parent)]
        except UserError as error:
            notes.append(f"rows not named: {error}")
    return grids, notes


def _real_folder(folder: str, name: str) -> str:
    return os.path.join(os.path.realpath(folder), name)


def _row_labels(grids: Sequence[tuple[str, Grid]]) -> dict[str, str]:
    """The label for each folder of a row: its name in the first grid that has it.

    What another row is called too is told with its grid, and then with its folder.
    """
    labels: dict[str, str] = {}
    for folder, grid in grids:
        for row in grid.rows:
            place = _real_folder(folder, row.folder)
            names = (row.name, f"{grid.name}: {row.name}", os.path.join(folder, row.folder))
            free = (name for name in names if name not in labels.values())
            labels.setdefault(place, next(free, place))
    return labels


def _with_runs(
    folder: str,
    grid: Grid,
    grids: Sequence[tuple[str, Grid]],
    groups: Sequence[PretrainingGroup],
) -> GridRuns:
    by_folder = {row_folder(group.runs[0]): group for group in groups}
    is_alone = [other.name for _, other in grids].count(grid.name) == 1
    title = f"{grid.name}: {grid.title}"
    return GridRuns(
        grid=grid,
        folder=folder,
        title=title if is_alone else f"{title} ({folder})",
        groups=[by_folder.get(_real_folder(folder, row.folder)) for row in grid.rows],
    )


class _Origins:
    """The pretraining runs that fine-tuning runs may have begun from, by their folders."""

    def __init__(self, groups: Sequence[PretrainingGroup]):
        self.runs = {
            os.path.realpath(run.folder): (place, group.label, run)
            for place, group in enumerate(groups)
            for run in group.runs
        }

    def of(self, run: Run) -> Optional[Origin]:
        """Where a run began: by its checkpoint, else the nearest above it.

        For folders move, and records keep the names that they had.
        """
        if run.start["kind"] != TRAINED_HERE:
            return None
        known = (self.runs[folder] for folder in self._folders(run) if folder in self.runs)
        return next((self._origin(run, *found) for found in known), None)

    def _origin(self, run: Run, place: int, label: str, pretraining: PretrainingRun) -> Origin:
        updates = run.start["updates"]
        return Origin(
            label=label,
            place=place,
            folder=pretraining.folder,
            seed=pretraining.seed,
            updates=None if updates >= pretraining.updates else updates,
        )

    def _folders(self, run: Run) -> Iterator[str]:
        checkpoint = os.path.realpath(os.path.dirname(run.start["checkpoint"]))
        yield checkpoint
        # Where its pretraining is still at its place, one that lies elsewhere is it if copied.
        is_there = os.path.lexists(os.path.join(checkpoint, PRETRAINING_FILE))
        for folder in map(str, Path(os.path.realpath(run.folder)).parents):
            if not is_there or _same_record(folder, checkpoint):
                yield folder


def _same_record(folder: str, other: str) -> bool:
    """Whether both hold the record of one pretraining; no two take the same time to the bit."""
    try:
        first, second = (Path(each, PRETRAINING_FILE).read_bytes() for each in (folder, other))
    except OSError:
        return False
    return first == second
