"""A picture of rows that are compared: a dot for each seed, side by side for every main measure."""

import statistics
from typing import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from convbert_plugin.analysis.drawing import (
    INK,
    LINE,
    MUTED,
    WIDE,
    Styles,
    axes_in,
    image_of,
    inches,
    plain,
)
from convbert_plugin.analysis.measures import Measure
from convbert_plugin.analysis.row_sets import ComparedGroup, RowSet, main_measures
from convbert_plugin.analysis.words import wrap

# Inches: of a row, above and below a panel, between panels, and the narrowest that a panel is.
LANE, ABOVE, BELOW, BESIDE, NARROWEST = 0.3, 0.32, 0.42, 0.4, 1.5
LABEL_WIDTH = {True: 26, False: 16}
"""Letters of a row's name in one line, on wide pictures and on narrow ones."""
TITLE_LETTER = 0.085
"""Inches that a letter of a title takes."""
HALF_SPREAD = 0.16


def draw_rows(rows: RowSet, styles: Styles, width: float, image_format: str) -> bytes:
    """Draw a lane for each row that has runs, in a panel for each main measure.

    ``width``: inches; ``image_format``: "svg" or "png".
    """
    shown = [row for row in rows.rows if row.group]
    measures = main_measures(rows)
    names = [wrap(row.name, LABEL_WIDTH[width >= WIDE]) for row in shown]
    lane = max(LANE, LINE * max(name.count("\n") + 1 for name in names) + 0.08)
    beside = inches([line for name in names for line in name.split("\n")]) + 0.15
    columns = max(1, min(len(measures), int((width - beside) / (NARROWEST + BESIDE))))
    lines = -(-len(measures) // columns)
    panel = ((width - beside) / columns - BESIDE, lane * len(shown))
    titles = [wrap(measure.name, int(panel[0] / TITLE_LETTER)) for measure in measures]
    above = ABOVE + LINE * max(title.count("\n") for title in titles)
    with plain():
        legend = _explanation()
        beside_each_other = len(legend) if width >= WIDE else 1
        below = LINE * len(legend) / beside_each_other + 0.2
        figure = Figure((width, lines * (above + panel[1] + BELOW) + below))
        for number, measure in enumerate(measures):
            line, column = divmod(number, columns)
            left = beside + column * (panel[0] + BESIDE)
            axes = axes_in(figure, left, above + line * (above + panel[1] + BELOW), *panel)
            _draw_panel(axes, shown, measure, styles, rows.reference)
            axes.set_title(titles[number])
            axes.set_yticks(range(len(shown)), names if column == 0 else [""] * len(shown))
        figure.legend(handles=legend, loc="lower left", ncols=beside_each_other)
        return image_of(figure, image_format)


def _draw_panel(
    axes: Axes, rows: Sequence[ComparedGroup], measure: Measure, styles: Styles, reference: str
) -> None:
    for lane, row in enumerate(rows):
        if row.group is None or measure.name not in row.measures:
            continue
        style = styles[row.group.label]
        values = list(row.measures[measure.name].values.values())
        # Seeds of the same value stand beside each other.
        step = 2 * HALF_SPREAD / max(1, len(values) - 1)
        first = lane - HALF_SPREAD if len(values) > 1 else lane
        heights = [first + step * place for place in range(len(values))]
        axes.plot(values, heights, style.marker, color=style.color, markersize=4, zorder=3)
        if values:
            mean = statistics.fmean(values)
            axes.plot([mean] * 2, [lane - 0.34, lane + 0.34], color=style.color, linewidth=2)
            if row.name == reference:
                axes.axvline(mean, color=MUTED, linestyle="--", linewidth=1, zorder=1)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.grid(axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=3))
    axes.xaxis.set_major_formatter("{x:g}")


def _explanation() -> list[Line2D]:
    return [
        Line2D([], [], color=INK, marker="o", markersize=4, linestyle="", label="a seed"),
        Line2D(
            [], [], color=INK, marker="|", markersize=11, markeredgewidth=2, linestyle="",
            label="mean",
        ),
        Line2D([], [], color=MUTED, linestyle="--", label="that of the reference"),
    ]  # fmt: skip
