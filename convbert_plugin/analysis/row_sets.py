"""Which pretraining runs are compared with which: the rows of a grid, or all that there are."""

from collections import Counter
from typing import Iterator, NamedTuple, Optional

from convbert_plugin.analysis.comparisons import ComparedRow, compare
from convbert_plugin.analysis.contents import Contents, GridRuns
from convbert_plugin.analysis.grouping import differing, ends_in_words, grouped
from convbert_plugin.analysis.measures import Measure, measures_of
from convbert_plugin.analysis.pretraining.pretraining_groups import SHOWN_LETTERS, PretrainingGroup
from convbert_plugin.data.splits import VALID
from convbert_plugin.files.pretraining_records import DIVERGED

OTHERS_TITLE, ALONE_TITLE = "Pretraining runs of no grid", "Pretraining compared"
# Sums of other losses are no one measure.
SUMMED = "loss"
# What a record says of its data by a digest, and what is to be known where that differs.
DATA_WORDS = {
    "train": "trained on the same text",
    VALID: "validated on the same text, so their losses are of different texts",
    "vocabulary": "made of the same vocabulary, so their losses are of different pieces",
}


class ComparedGroup(NamedTuple):
    """A row: its name among the others, its runs, and what is known of it by measure.

    ``group``: None of a row of a grid without runs; ``parameters``: where a grid says them.
    """

    name: str
    group: Optional[PretrainingGroup]
    measures: dict[str, Measure]
    parameters: Optional[int] = None


class RowSet(NamedTuple):
    """Rows, each compared with the one that ``reference`` names.

    ``same_results``: they differ in what must not change a result; ``note``: what its maker said.
    """

    title: str
    rows: list[ComparedGroup]
    reference: str
    same_results: bool = False
    note: Optional[str] = None

    @property
    def with_runs(self) -> list[tuple[str, PretrainingGroup]]:
        return [(row.name, row.group) for row in self.rows if row.group]


class MeasureTable(NamedTuple):
    """The rows in one measure, those that have it."""

    measure: Measure
    reference: str
    rows: list[ComparedRow]


def row_sets(contents: Contents) -> list[RowSet]:
    """Those of each grid, and one of what stands in none."""
    sets = [_of_grid(contents, grid) for grid in contents.grids]
    in_grids = contents.labels_in_grids
    others = [group for group in contents.pretraining if group.label not in in_grids]
    if others:
        title = OTHERS_TITLE if in_grids else ALONE_TITLE
        rows = [ComparedGroup(group.label, group, measures_of(contents, group)) for group in others]
        sets.append(_told_apart(RowSet(title, rows, others[0].label)))
    return sets


def _of_grid(contents: Contents, found: GridRuns) -> RowSet:
    rows = [
        ComparedGroup(
            row.name, group, measures_of(contents, group) if group else {}, row.parameters
        )
        for row, group in zip(found.grid.rows, found.groups, strict=True)
    ]
    grid = found.grid
    return _told_apart(RowSet(found.title, rows, grid.reference, grid.same_results, grid.note))


def _told_apart(rows: RowSet) -> RowSet:
    """Where objectives differ, sums of losses get their objective's name."""
    if len({group.objective for _, group in rows.with_runs}) < 2:
        return rows
    return rows._replace(rows=[row._replace(measures=dict(_renamed(row))) for row in rows.rows])


def _renamed(row: ComparedGroup) -> Iterator[tuple[str, Measure]]:
    for name, measure in row.measures.items():
        is_sum = name.split(" (")[0] == SUMMED
        objective = f" ({row.group.objective})" if is_sum and row.group else ""
        yield name + objective, measure._replace(name=name + objective)


def measure_tables(rows: RowSet) -> list[MeasureTable]:
    """The measures that the reference and another row have."""
    reference = next(row for row in rows.rows if row.name == rows.reference)
    tables = []
    for name, measure in reference.measures.items():
        values = {row.name: row.measures[name].values for row in rows.rows if name in row.measures}
        if len(values) > 1:
            tables.append(MeasureTable(measure, rows.reference, compare(values, rows.reference)))
    return tables


def main_measures(rows: RowSet) -> list[Measure]:
    """The measures that stand in the table of all rows."""
    measures = {name: one for row in rows.rows for name, one in row.measures.items()}
    return [measure for measure in measures.values() if measure.is_main]


def notes_of(rows: RowSet) -> Iterator[str]:
    """What is to be known of the rows before they are compared."""
    if rows.note:
        yield rows.note
    missing = [row.name for row in rows.rows if row.group is None]
    if missing:
        yield f"no run was found of {' and '.join(missing)}"
    for name, group in rows.with_runs:
        if name != group.label:
            yield f"{name}: outside of this table, its runs are called {group.label}"
    for name, words in DATA_WORDS.items():
        digests = [(row, str(group.data.get(name))) for row, group in rows.with_runs]
        same = grouped(digests, lambda pair: pair[1])
        if len(same) > 1:
            told = "; ".join(
                f"{digest[:SHOWN_LETTERS]}: {', '.join(row for row, _ in members)}"
                for digest, members in same.items()
            )
            yield f"these rows were not all {words} ({name} {told})"
    for name, group in rows.with_runs:
        yield from _group_notes(name, group)


def _group_notes(name: str, group: PretrainingGroup) -> Iterator[str]:
    for run in group.runs:
        after = f"{name}: seed {run.seed} {{}} after {run.updates:,} updates"
        if not run.is_finished:
            yield f"{after.format('has not ended')}: not compared ({run.folder})"
        elif run.ended == DIVERGED:
            yield f"{after.format('diverged')}: its last validation counts ({run.folder})"
        elif not run.validations:
            yield f"{after.format('ended')} and was never validated ({run.folder})"
    ends = [(run.seed, run.updates) for run in group.finished]
    if len({updates for _, updates in ends}) > 1 and not group.runs[0].budget_minutes:
        yield f"{name}: its runs ended at different updates ({ends_in_words(ends)})"
    times = Counter(run.seed for run in group.runs)
    for seed, runs in times.items():
        if runs > 1:
            yield f"{name}: seed {seed} was run {runs} times: it counts once, as their mean"
    if len({run.making for run in group.runs}) > 1:
        names = differing([run.facts() for run in group.runs])
        yield f"{name}: its runs differ in more than their seed: {', '.join(names)}"
