"""Pictures of scores: all tasks on one scale, a dot for each seed, and a curve for each run."""

import math
from typing import Iterator, NamedTuple, Optional, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from convbert_plugin.analysis.drawing import (
    LINE,
    REFERENCE,
    WIDE,
    KeyEntry,
    axes_in,
    draw_key,
    draw_seeds,
    image_of,
    inches,
    key_height,
    plain,
    seed_entries,
    series_entry,
    text_at,
)
from convbert_plugin.analysis.groups import Panel, Row
from convbert_plugin.analysis.naming import Names
from convbert_plugin.analysis.theme import MUTED, Styles
from convbert_plugin.analysis.words import ABSENT, wrap

SEED, MEDIAN = seed_entries("median")
BASELINE = KeyEntry("majority class", REFERENCE)

# Inches.
LANE, GAP, TICKS, SPACE, MEDIANS = 0.24, 0.16, 0.3, 0.15, 0.5
CURVE, CURVE_FRAME, CURVE_LEFT = 1.45, 0.62, 0.42
HALF_SPREAD = 0.06
TITLE_WIDTH, EXPLANATION_WIDTH = 40, 95
# Curves of so many points have a marker at each.
MARKED_POINTS = 12


def score_words(row: Row, score: Optional[float]) -> str:
    """A score of a row as the field writes it: of 100, with one decimal; a dash for None."""
    return ABSENT if score is None else f"{row.percent(score):z.1f}"


class _Columns(NamedTuple):
    """Where the parts of the picture of dots begin, in inches; ``headings``: above their lanes."""

    names: float
    lanes: float
    medians: float
    has_headings: bool
    are_names_above: bool

    @property
    def lane(self) -> float:
        """The height of a lane, with the name above it."""
        return LANE + (LINE + 0.03) * self.are_names_above


def _columns(panels: Sequence[Panel], names: Names, width: float) -> _Columns:
    titles = inches([_title(rows[0]) for rows in panels]) + SPACE
    named = inches([names[row.group.label] for rows in panels for row in rows]) + SPACE
    medians = width - MEDIANS
    is_wide = width >= WIDE
    first = titles if is_wide else 0
    is_above = first + named > medians / 2
    return _Columns(
        first, first + 0.05 if is_above else first + named, medians, not is_wide, is_above
    )


def draw_dots(
    panels: Sequence[Panel], styles: Styles, names: Names, width: float, image_format: str
) -> bytes:
    """Draw all tasks on one scale: a lane for each group, its median, and the majority class.

    ``width``: inches; ``image_format``: "svg", or "png", which explains the names itself.
    """
    with plain():
        if not panels:
            figure = Figure((width, 1))
            text_at(figure, width / 2, 0.5, "no run has been validated yet", ha="center")
            return image_of(figure, image_format)
        columns = _columns(panels, names, width)
        majorities = [row.majority for rows in panels for row in rows]
        marks = [SEED, MEDIAN, *([BASELINE] if any(one is not None for one in majorities) else [])]
        explained = _explained(names) if image_format == "png" else []
        top = key_height(marks, columns.medians) + TICKS
        lane = columns.lane
        heading = LINE * columns.has_headings
        lanes = [lane * len(rows) + heading for rows in panels]
        bottom = top + sum(lanes) + GAP * (len(panels) - 1)
        figure = Figure((width, bottom + TICKS + LINE * len(explained) + 0.05))
        draw_key(figure, marks, columns.medians)
        text_at(figure, width, top - 0.12, "median", ha="right", color=MUTED)
        axes = _scale(figure, columns, top, bottom, panels)
        place = top
        for rows, height in zip(panels, lanes, strict=True):
            _draw_panel(axes, columns, place, rows, styles, names)
            place += height + GAP
        for number, line in enumerate(explained):
            text_at(figure, 0, bottom + TICKS + LINE * (number + 0.5), line)
        return image_of(figure, image_format)


def _scale(
    figure: Figure, columns: _Columns, top: float, bottom: float, panels: Sequence[Panel]
) -> Axes:
    """Axes for every task, over which heights are inches from the top of the picture."""
    width = columns.medians - columns.lanes - SPACE
    axes = axes_in(figure, columns.lanes, top, width, bottom - top)
    values = [
        row.percent(value)
        for rows in panels
        for row in rows
        for value in [*row.values, row.majority]
        if value is not None
    ]
    low, high = 10 * math.floor(min(values) / 10), 10 * math.ceil(max(values) / 10)
    axes.set_xlim(low - 0.5, max(high, low + 10) + 0.5)
    axes.set_ylim(bottom, top)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5 if width < 3 else 10, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.tick_params(axis="x", labeltop=True, length=0)
    axes.spines["bottom"].set_visible(False)
    axes.grid(axis="x")
    return axes


def _draw_panel(
    axes: Axes, columns: _Columns, top: float, rows: Panel, styles: Styles, names: Names
) -> None:
    figure = axes.figure
    assert isinstance(figure, Figure)
    line = LINE if columns.has_headings or columns.are_names_above else LANE
    text_at(figure, 0, top + line / 2, _title(rows[0]), weight="bold")
    top += LINE * columns.has_headings
    for number, row in enumerate(rows):
        begin = top + number * columns.lane
        middle = begin + LANE / 2 + LINE * columns.are_names_above
        words_height = begin + LINE / 2 if columns.are_names_above else middle
        text_at(figure, columns.names, words_height, names[row.group.label])
        words = score_words(row, row.median)
        text_at(figure, columns.medians + MEDIANS, words_height, words, ha="right")
        _draw_lane(axes, row, middle, styles)


def _draw_lane(axes: Axes, row: Row, middle: float, styles: Styles) -> None:
    style = styles[row.group.label]
    draw_seeds(axes, list(map(row.percent, row.values)), middle, HALF_SPREAD, style)
    median = row.percent(row.median)
    half = 0.38 * LANE
    axes.plot(
        [median] * 2, [middle - half, middle + half], color=style.color, linewidth=2.2, zorder=4
    )
    if row.majority is not None:
        half = LANE / 2
        axes.plot([row.percent(row.majority)] * 2, [middle - half, middle + half], **REFERENCE)


def _explained(names: Names) -> list[str]:
    texts = [f"{name}: {label}" for label, name in names.items() if name != label]
    return [line for text in texts for line in wrap(text, EXPLANATION_WIDTH).splitlines()]


def with_curves(panels: Sequence[Panel]) -> list[Panel]:
    """The panels in which a run was scored more than once."""
    return [
        rows
        for rows in panels
        if any(len(run.curve(row.subset, row.metric)) > 1 for row in rows for run in row.group.runs)
    ]


def draw_curves(
    panels: Sequence[Panel], styles: Styles, names: Names, width: float, image_format: str
) -> bytes:
    """Draw the score of each run over the updates; ``width``: inches; formats as ``draw_dots``."""
    with plain():
        columns = 1 if width < WIDE else min(3 if len(panels) > 4 else 2, len(panels))
        entries = list(_curve_entries(panels, styles, names))
        top = key_height(entries, width)
        frame = CURVE + CURVE_FRAME
        lines = -(-len(panels) // columns)
        figure = Figure((width, top + lines * frame + LINE))
        draw_key(figure, entries, width)
        each = width / columns
        for number, rows in enumerate(panels):
            line, column = divmod(number, columns)
            left = column * each + CURVE_LEFT
            place = top + line * frame + LINE + 0.1
            axes = axes_in(figure, left, place, each - CURVE_LEFT - 0.2, CURVE)
            _draw_runs(axes, rows, styles)
            text_at(figure, column * each, place - 0.15, _title(rows[0]), weight="bold")
            if number + columns >= len(panels):
                axes.set_xlabel("updates", loc="right", color=MUTED)
        return image_of(figure, image_format)


def _curve_entries(panels: Sequence[Panel], styles: Styles, names: Names) -> Iterator[KeyEntry]:
    for label in dict.fromkeys(row.group.label for rows in panels for row in rows):
        yield series_entry(names[label], styles[label], 4)
    if any(row.majority is not None for rows in panels for row in rows):
        yield BASELINE


def _draw_runs(axes: Axes, rows: Panel, styles: Styles) -> None:
    for row in rows:
        color, line, marker = styles[row.group.label]
        for run in row.group.runs:
            curve = run.curve(row.subset, row.metric)
            updates = [entry[0] for entry in curve]
            scores = [row.percent(entry[1]) for entry in curve]
            every = -(-len(curve) // MARKED_POINTS)
            axes.plot(
                updates, scores, line, color=color, linewidth=1.2, marker=marker,
                markersize=3.5, markevery=every,
            )  # fmt: skip
    for majority in {row.percent(row.majority) for row in rows if row.majority is not None}:
        axes.axhline(majority, **REFERENCE)
    axes.grid(axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=3, steps=[1, 2, 5, 10], integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter("{x:g}")


def _title(row: Row) -> str:
    return wrap(row.title, TITLE_WIDTH).partition("\n")[0]
