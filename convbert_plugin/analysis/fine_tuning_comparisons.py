"""Fine-tuning from different starts compared, where no pretraining is told of."""

from typing import Any, Iterator, Optional

from convbert_plugin.analysis.comparison_report import METHOD, table_section, table_values
from convbert_plugin.analysis.comparisons import compare
from convbert_plugin.analysis.groups import Panel, Row, Summary
from convbert_plugin.analysis.measures import SCORE_DECIMALS, Measure, by_seed
from convbert_plugin.analysis.naming import Names, short_names
from convbert_plugin.analysis.page import Section
from convbert_plugin.analysis.row_sets import MeasureTable
from convbert_plugin.analysis.theme import Styles


def panel_comparison_sections(summary: Summary, styles: Styles) -> Iterator[Section]:
    """A table for each task, set and metric, folded away; rows have their short names."""
    tables = _tables(summary, short_names(styles))
    if tables:
        yield Section("Compared", [METHOD.format(reference="the first one of its table")])
    yield from map(table_section, tables)


def panel_comparison_values(summary: Summary) -> list[dict[str, Any]]:
    """The numbers of the tables."""
    labels = {group.label: group.label for group in summary.groups}
    tables = _tables(summary, labels)
    return [{"reference": table.reference, **table_values(table)} for table in tables]


def _tables(summary: Summary, names: Names) -> list[MeasureTable]:
    return [table for panel in summary.panels() if (table := _table(panel, names))]


def _table(panel: Panel, names: Names) -> Optional[MeasureTable]:
    """Rows beside the first one; None where no row shares two seeds with it."""
    values = {names[row.group.label]: _values(row) for row in panel}
    first, *others = values.values()
    if all(len(first.keys() & other.keys()) < 2 for other in others):
        return None
    reference = names[panel[0].group.label]
    measure = Measure(f"{panel[0].name} {panel[0].metric}", first, SCORE_DECIMALS, True)
    return MeasureTable(measure, reference, compare(values, reference))


def _values(row: Row) -> dict[int, float]:
    return by_seed((score.seed, row.percent(score.score)) for score in row.scores)
