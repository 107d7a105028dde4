"""Fine-tuning from different starts compared, where no pretraining is told of."""

from typing import Any, Iterator, Optional

from convbert_plugin.analysis.comparison_sections import METHOD, table_section, table_values
from convbert_plugin.analysis.comparisons import compare
from convbert_plugin.analysis.groups import Panel, Row, Summary
from convbert_plugin.analysis.measures import SCORE_DECIMALS, Measure, by_seed
from convbert_plugin.analysis.page import Section
from convbert_plugin.analysis.row_sets import MeasureTable


def panel_comparison_sections(summary: Summary) -> Iterator[Section]:
    """A table for each task, set and metric, folded away."""
    tables = _tables(summary)
    if tables:
        yield Section("Compared", [METHOD.format(reference="the first one of its table")])
    yield from map(table_section, tables)


def panel_comparison_values(summary: Summary) -> list[dict[str, Any]]:
    """The numbers of the tables."""
    return [{"reference": table.reference, **table_values(table)} for table in _tables(summary)]


def _tables(summary: Summary) -> list[MeasureTable]:
    return [table for panel in summary.panels() if (table := _table(panel))]


def _table(panel: Panel) -> Optional[MeasureTable]:
    """Rows beside the first one; None where no row shares two seeds with it."""
    values = {row.group.label: _values(row) for row in panel}
    first, *others = values.values()
    if all(len(first.keys() & other.keys()) < 2 for other in others):
        return None
    reference = panel[0].group.label
    measure = Measure(f"{panel[0].name} {panel[0].metric}", first, SCORE_DECIMALS, True)
    return MeasureTable(measure, reference, compare(values, reference))


def _values(row: Row) -> dict[int, float]:
    return by_seed((score.seed, row.percent(score.score)) for score in row.scores)
