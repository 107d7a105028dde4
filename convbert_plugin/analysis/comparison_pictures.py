"""A picture of rows that are compared: a dot for each seed, side by side for every main measure."""

import statistics
from typing import Sequence

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
    text_at,
)
from convbert_plugin.analysis.measures import Measure
from convbert_plugin.analysis.row_sets import ComparedGroup, RowSet, main_measures
from convbert_plugin.analysis.theme import Styles
from convbert_plugin.analysis.words import wrap

# Inches: of a row, below a panel, between panels, and the narrowest that a panel is.
LANE, BELOW, BESIDE, NARROWEST = 0.26, 0.42, 0.35, 1.5
LABEL_WIDTH = {True: 26, False: 20}
"""Letters of a row's name in one line, on wide pictures and on narrow ones."""
HALF_SPREAD = 0.16
KEY = (*seed_entries("mean"), KeyEntry("mean of the reference", REFERENCE))


def draw_rows(rows: RowSet, styles: Styles, width: float, image_format: str) -> bytes:
    """Draw a lane for each row that has runs, in a panel for each main measure.

    ``width``: inches; ``image_format``: "svg" or "png".
    """
    shown = [row for row in rows.rows if row.group]
    measures = main_measures(rows)
    names = [wrap(row.name, LABEL_WIDTH[width >= WIDE]).split("\n") for row in shown]
    lane = max(LANE, LINE * max(map(len, names)) + 0.06)
    beside = inches([line for name in names for line in name]) + 0.15
    columns = max(1, min(len(measures), int((width - beside) / (NARROWEST + BESIDE))))
    panel = ((width - beside) / columns - BESIDE, lane * len(shown))
    # Of a single column, titles begin where the names do.
    indent = beside if columns > 1 else 0
    letters = int((panel[0] if indent else width) / inches(["m"]))
    titles = [wrap(measure.name, letters).split("\n") for measure in measures]
    above = LINE * max(map(len, titles)) + 0.1
    frame = above + panel[1] + BELOW
    with plain():
        top = key_height(KEY, width)
        figure = Figure((width, top + -(-len(measures) // columns) * frame))
        draw_key(figure, KEY, width)
        for number, measure in enumerate(measures):
            line, column = divmod(number, columns)
            left, begin = beside + column * (panel[0] + BESIDE), top + line * frame + above
            axes = axes_in(figure, left, begin, *panel)
            _draw_panel(axes, shown, measure, styles, rows.reference)
            middle = begin - 0.05 - LINE * len(titles[number]) / 2
            _write(figure, left - beside + indent, middle, titles[number], weight="bold")
            if not column:
                for place, name in enumerate(names):
                    _write(figure, 0, begin + lane * (place + 0.5), name)
        return image_of(figure, image_format)


def _write(figure: Figure, left: float, middle: float, lines: Sequence[str], **look: str) -> None:
    """Lines of text about a height, in inches."""
    for number, line in enumerate(lines):
        text_at(figure, left, middle + LINE * (number - (len(lines) - 1) / 2), line, **look)


def _draw_panel(
    axes: Axes, rows: Sequence[ComparedGroup], measure: Measure, styles: Styles, reference: str
) -> None:
    for lane, row in enumerate(rows):
        if row.group is None or measure.name not in row.measures:
            continue
        style = styles[row.group.label]
        values = list(row.measures[measure.name].values.values())
        draw_seeds(axes, values, lane, HALF_SPREAD, style)
        if values:
            mean = statistics.fmean(values)
            axes.plot([mean] * 2, [lane - 0.36, lane + 0.36], color=style.color, linewidth=2.5)
            if row.name == reference:
                axes.axvline(mean, **REFERENCE)
    axes.set_yticks([])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.grid(axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=3))
    axes.xaxis.set_major_formatter("{x:g}")
