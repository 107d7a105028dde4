"""What a report tells of rows that are compared: tables, words and values."""

from functools import partial
from typing import Any, Iterable, Iterator, Optional

from convbert_plugin.analysis.comparison_pictures import draw_rows
from convbert_plugin.analysis.comparison_words import p_words, words_of
from convbert_plugin.analysis.comparisons import (
    TEST,
    ComparedRow,
    Comparison,
    deviation_of,
    mean_of,
    seed_values,
)
from convbert_plugin.analysis.drawing import pictures
from convbert_plugin.analysis.loss_distances import FARTHEST, distances
from convbert_plugin.analysis.measures import Measure
from convbert_plugin.analysis.page import Section, Table
from convbert_plugin.analysis.pretraining.pretraining_groups import PretrainingGroup
from convbert_plugin.analysis.row_sets import (
    ComparedGroup,
    MeasureTable,
    RowSet,
    main_measures,
    measure_tables,
    notes_of,
)
from convbert_plugin.analysis.theme import Styles
from convbert_plugin.analysis.words import ABSENT, aligned, in_full, printable

HEADER = ("row", "mean", "std", "seeds", "difference", "95% interval", "pairs", "p", "p (Holm)")
NUMBERS = set(HEADER) - {"row"}
METHOD = (
    f"Each row is compared with {{reference}}, seed by seed: the mean difference over the seeds "
    f"that both have, its 95% interval, and p of the {TEST}, beside it adjusted by Holm's method "
    "for all comparisons of its table. std is the sample standard deviation. The test takes the "
    "differences as normally distributed: few seeds tell only large ones. A dash: one seed, or "
    "differences that do not vary."
)

SAME_RESULTS = (
    "These rows differ in what must not change a result: the largest difference from {reference} "
    "with the same seed, of the loss at any point of the training that both logged, and of that of "
    "the last validation."
)


def comparison_sections(rows: RowSet, styles: Styles) -> Iterator[Section]:
    """A table and a picture of all rows, and a table for each measure, folded away."""
    tables = measure_tables(rows)
    method = [METHOD.format(reference=rows.reference)] if tables else []
    drawn = []
    if main_measures(rows):
        words = f"{rows.title}: a dot for each seed, a line at the mean"
        drawn = [pictures(partial(draw_rows, rows, styles), words)]
    yield Section(rows.title, [*notes_of(rows), *method], overview_table(rows), drawn)
    yield from map(table_section, tables)
    if rows.same_results:
        yield _distance_section(rows)


def table_section(table: MeasureTable) -> Section:
    """The rows in one measure, folded away under the words for it."""
    cells = [_cells(table.measure, row) for row in table.rows]
    return Section(table=Table(HEADER, cells, NUMBERS, summary=words_of(table)))


def overview_table(rows: RowSet) -> Table:
    """The rows by their main measures: mean and deviation."""
    measures = main_measures(rows)
    has_parameters = any(row.parameters is not None for row in rows.rows)
    header = ["row", *(["parameters"] if has_parameters else []), "seeds"]
    cells = [
        [
            row.name,
            *([in_full(row.parameters)] if has_parameters else []),
            _seeds(row.group),
            *(_summed_up(row, measure) for measure in measures),
        ]
        for row in rows.rows
    ]
    names = _short(measure.name for measure in measures)
    return Table([*header, *names], cells, {"parameters", *names})


def _short(names: Iterable[str]) -> list[str]:
    """Without what stands in brackets, where no other is called so."""
    names = list(names)
    short = [name.split(" (")[0] for name in names]
    return [name if short.count(one) > 1 else one for name, one in zip(names, short, strict=True)]


def _seeds(group: Optional[PretrainingGroup]) -> str:
    seeds = dict.fromkeys(run.seed for run in group.finished) if group else ()
    return ", ".join(map(str, seeds)) or ABSENT


def _summed_up(row: ComparedGroup, measure: Measure) -> str:
    if measure.name not in row.measures:
        return ABSENT
    values = row.measures[measure.name].values
    mean, deviation = measure.words(mean_of(values)), deviation_of(values)
    return mean if deviation is None else f"{mean} ± {measure.words(deviation)}"


def _cells(measure: Measure, row: ComparedRow) -> list[str]:
    compared = row.comparison or Comparison([], None)
    interval = ABSENT
    if compared.interval:
        interval = " to ".join(measure.words(end, is_difference=True) for end in compared.interval)
    return [
        row.label,
        measure.words(row.mean),
        measure.words(row.deviation),
        str(len(row.values)),
        measure.words(compared.difference, is_difference=True),
        interval,
        str(len(compared.seeds)) if row.comparison else ABSENT,
        p_words(compared.p),
        p_words(compared.holm),
    ]


def _distance_section(rows: RowSet) -> Section:
    """How far the losses of rows are apart that must be the same."""
    notes = [SAME_RESULTS.format(reference=rows.reference)]
    return Section(f"{rows.title}: how far apart", notes, _distance_table(rows))


def _distance_table(rows: RowSet) -> Table:
    cells = [
        [name, str(len(distance.seeds)), *map(_distance_words, distance.farthest.values())]
        for name, distance in distances(rows).items()
    ]
    header = ("row", "pairs", *FARTHEST)
    return Table(header, cells, set(header[1:]))


def _distance_words(distance: Optional[float]) -> str:
    return ABSENT if distance is None else "0" if distance == 0 else f"{distance:.1e}"


def comparison_values(rows: RowSet) -> dict[str, Any]:
    """All that is told of them, in full precision."""
    values: dict[str, Any] = {
        "title": rows.title,
        "reference": rows.reference,
        "rows": [
            {
                "name": row.name,
                "group": row.group.label if row.group else None,
                "parameters": row.parameters,
            }
            for row in rows.rows
        ],
        "test": TEST,
        "measures": [table_values(table) for table in measure_tables(rows)],
        "notes": list(notes_of(rows)),
    }
    if rows.same_results:
        values["distances"] = {
            name: {"seeds": one.seeds, **one.farthest} for name, one in distances(rows).items()
        }
    return values


def table_values(table: MeasureTable) -> dict[str, Any]:
    """The rows in one measure, and what can be said of them."""
    return {
        "name": table.measure.name,
        "words": words_of(table),
        "rows": [_row_values(row) for row in table.rows],
    }


def _row_values(row: ComparedRow) -> dict[str, Any]:
    compared = row.comparison
    return {
        "name": row.label,
        **seed_values(row.values),
        "comparison": compared._asdict() if compared else None,
    }


def comparison_lines(rows: RowSet) -> list[str]:
    """The table of all rows, the words for its measures and what to know, as plain text."""
    table = overview_table(rows)
    lines = aligned(table.header, table.rows, table.numbers)
    words = [words_of(one) for one in measure_tables(rows) if one.measure.is_main]
    apart = _distance_table(rows)
    distances_told = aligned(apart.header, apart.rows, apart.numbers) if rows.same_results else []
    notes = (f"note: {note}" for note in notes_of(rows))
    return [printable(rows.title), *lines, *map(printable, [*words, *notes]), *distances_told]
