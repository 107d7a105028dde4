"""What the spread over the seeds allows to say of rows that were compared, and no more."""

from typing import Optional

from convbert_plugin.analysis.comparisons import LEVEL, Comparison
from convbert_plugin.analysis.grouping import grouped
from convbert_plugin.analysis.measures import Measure
from convbert_plugin.analysis.row_sets import MeasureTable
from convbert_plugin.analysis.words import ABSENT

TOLD, TOLD_ALONE, NOT_TOLD = "told apart", "told apart alone", "not told apart"
NO_SPREAD, ONE_SEED, NO_SEED = "no spread", "one seed", "no seed"
KINDS = (TOLD, TOLD_ALONE, NOT_TOLD, NO_SPREAD, ONE_SEED, NO_SEED)


def kind_of(one: Comparison) -> str:
    """What can be said of a row, one of KINDS."""
    if one.p is None:
        return (NO_SEED, ONE_SEED)[len(one.seeds)] if len(one.seeds) < 2 else NO_SPREAD
    if one.holm is not None and one.holm < LEVEL:
        return TOLD
    return TOLD_ALONE if one.p < LEVEL else NOT_TOLD


def words_of(table: MeasureTable) -> str:
    """The name of the measure, and a sentence for each kind of row."""
    compared = [(row.label, row.comparison) for row in table.rows if row.comparison]
    if {kind_of(one) for _, one in compared} == {ONE_SEED}:
        return f"{table.measure.name}: one seed tells nothing apart."
    kinds = grouped(compared, lambda pair: (KINDS.index(kind_of(pair[1])), len(pair[1].seeds)))
    sentences = [
        _sentence(KINDS[kind], seeds, kinds[kind, seeds], table) for kind, seeds in sorted(kinds)
    ]
    return f"{table.measure.name}: {'; '.join(sentences)}."


def _sentence(
    kind: str, seeds: int, rows: list[tuple[str, Comparison]], table: MeasureTable
) -> str:
    names = ", ".join(label for label, _ in rows)
    against = table.reference
    if kind in (TOLD, TOLD_ALONE):
        told = ", ".join(_difference(*row, table.measure) for row in rows)
        verb = "differs" if len(rows) == 1 else "differ"
        if kind == TOLD:
            return f"{told} {verb} from {against} (adjusted by Holm)"
        return f"{told} {verb} from {against} only if each is looked at alone"
    if kind == NOT_TOLD:
        return f"{names} not told apart from {against} by {seeds} seeds"
    if kind == NO_SPREAD:
        return f"{names} and {against}: {seeds} seeds differ alike, so there is no test"
    if kind == ONE_SEED:
        return f"{names} and {against}: one seed tells nothing apart"
    return f"{names} and {against} share no seed"


def _difference(label: str, one: Comparison, measure: Measure) -> str:
    p = one.holm if kind_of(one) == TOLD else one.p
    return f"{label} ({measure.words(one.difference, is_difference=True)}, p {_beside(p)})"


def _beside(p: Optional[float]) -> str:
    words = p_words(p)
    return words if words.startswith("<") else f"= {words}"


def p_words(p: Optional[float]) -> str:
    """A p-value with two significant digits; a dash for None."""
    return ABSENT if p is None else f"{p:.2g}" if p >= 0.001 else "< 0.001"
