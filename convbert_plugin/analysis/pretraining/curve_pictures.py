"""Pictures of pretraining: a row of panels for each number, a panel for each axis."""

from itertools import groupby
from typing import NamedTuple, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from convbert_plugin.analysis.drawing import NARROW, axes_in, image_of, inches, plain
from convbert_plugin.analysis.pretraining.pretraining_costs import FLOPS
from convbert_plugin.analysis.pretraining.pretraining_runs import SECONDS
from convbert_plugin.analysis.quantities import Spread, power_of_ten, time_unit
from convbert_plugin.analysis.theme import MUTED, PAPER, Style, Styles

# Inches.
PANEL, AXIS, TITLE, GAP = 1.15, 0.42, 0.26, 0.12
# Of narrow pictures, and of others.
MOST_COLUMNS = {True: 2, False: 4}
# More rows than these cannot be told apart: some are drawn, and the others stand behind them.
MOST_ROWS, BEST, WORST = 12, 3, 2
# Of a training, the share in the beginning whose steep fall does not set the scale.
BEGINNING = 0.2
FEW_POINTS = 8
# How the others are drawn.
BEHIND = Style(MUTED, "-", "o")
TIME_WORDS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}


class CurvePoint(NamedTuple):
    """Where on an axis, and what runs have there."""

    at: float
    values: Spread


class Curve(NamedTuple):
    """Of a row: numbers of its training, and of held-out text."""

    label: str
    line: list[CurvePoint]
    held_out: list[CurvePoint]

    @property
    def last(self) -> float:
        return (self.held_out or self.line)[-1].values.mean


class CurvePanel(NamedTuple):
    """What one number is over one axis, of each row."""

    metric: str
    over: str
    curves: list[Curve]

    @property
    def is_loss(self) -> bool:
        return "loss" in self.metric


def draw_pretraining(
    panels: Sequence[CurvePanel], styles: Styles, width: float, image_format: str
) -> bytes:
    """Draw them; ``width``: inches; ``image_format``: "svg" or "png"."""
    is_narrow = width <= NARROW
    by_metric = {metric: list(each) for metric, each in groupby(panels, lambda one: one.metric)}
    overs = list(dict.fromkeys(panel.over for panel in panels))
    axes_x = {over: _axis(panels, over) for over in overs}
    axes_y = {metric: _scale(each) for metric, each in by_metric.items()}
    columns = min(MOST_COLUMNS[is_narrow], len(overs))
    lines = -(-len(overs) // columns)
    shown = shown_rows(panels)
    with plain():
        left = inches([text for axis in axes_y.values() for text in axis.labels]) + GAP
        panel_width = (width - left - columns * GAP) / columns
        # Words stand under the lowest panels, and on narrow screens under all.
        worded = lines * len(by_metric) if is_narrow else 1
        height = len(by_metric) * (TITLE + lines * (PANEL + GAP)) + worded * AXIS
        figure = Figure((width, height))
        top = 0.0
        for metric, of_metric in by_metric.items():
            has_words = is_narrow or metric == list(by_metric)[-1]
            figure.text(0, 1 - (top + 0.15) / height, metric, fontweight="bold")
            top += TITLE
            for first in range(0, len(overs), columns):
                for column, over in enumerate(overs[first : first + columns]):
                    panel = next((one for one in of_metric if one.over == over), None)
                    if panel is not None:
                        place = left + column * (panel_width + GAP)
                        axes = axes_in(figure, place, top, panel_width, PANEL)
                        _draw_panel(axes, panel, styles, shown)
                        _label(axes, axes_x[over], axes_y[metric], has_words, column == 0)
                top += PANEL + GAP + has_words * AXIS
        return image_of(figure, image_format)


def _draw_panel(axes: Axes, panel: CurvePanel, styles: Styles, shown: Sequence[str]) -> None:
    for curve in sorted(panel.curves, key=lambda curve: curve.label in shown):
        is_shown = curve.label in shown
        style = styles[curve.label] if is_shown else BEHIND
        at = [point.at for point in curve.line]
        values = [point.values for point in curve.line]
        if any(spread.high > spread.low for spread in values) and is_shown:
            edges = [spread.low for spread in values], [spread.high for spread in values]
            axes.fill_between(at, *edges, color=style.color, alpha=0.18, linewidth=0)
        means = [spread.mean for spread in values]
        width, alpha = (1.4, 1.0) if is_shown else (0.6, 0.45)
        axes.plot(at, means, style.line, color=style.color, linewidth=width, alpha=alpha)
        if is_shown:
            _draw_held_out(axes, curve.held_out, style)
    axes.grid()


def _draw_held_out(axes: Axes, points: Sequence[CurvePoint], style: Style) -> None:
    at = [point.at for point in points]
    means = [point.values.mean for point in points]
    for point in points:
        edges = [point.values.low, point.values.high]
        axes.plot([point.at] * 2, edges, color=style.color, linewidth=1)
    axes.plot(
        at, means, style.marker, color=style.color, markersize=4, markerfacecolor=PAPER,
        markeredgewidth=1.2, zorder=4,
    )  # fmt: skip


class _Axis(NamedTuple):
    """From where to where it goes, its ticks and their labels, and what it is in words."""

    limits: tuple[float, float]
    ticks: list[float]
    labels: list[str]
    words: str = ""


def _axis(panels: Sequence[CurvePanel], over: str) -> _Axis:
    """Of what curves are drawn over, the same in all panels."""
    of_it = [panel for panel in panels if panel.over == over]
    largest = max(point.at for panel in of_it for point in _points(panel))
    size, words = axis_unit(over, largest)
    ticks = _ticks(0, largest / size, 3)
    return _Axis(
        (0, 1.04 * largest), [tick * size for tick in ticks], [f"{tick:g}" for tick in ticks], words
    )


def _scale(panels: Sequence[CurvePanel]) -> _Axis:
    low, high = value_limits(panels)
    ticks = _ticks(low, high, 4)
    return _Axis((low, high), ticks, [f"{tick:g}" for tick in ticks])


def _ticks(low: float, high: float, most: int) -> list[float]:
    ticks = MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(tick) for tick in ticks if low <= tick <= high]


def _points(panel: CurvePanel) -> list[CurvePoint]:
    return [point for curve in panel.curves for point in (*curve.line, *curve.held_out)]


def value_limits(panels: Sequence[CurvePanel]) -> tuple[float, float]:
    """The scale of a number: what stands after the beginning of the training fills it."""
    inside: list[float] = []
    for panel in panels:
        most = max(len(curve.line) for curve in panel.curves)
        end = max(point.at for point in _points(panel))
        begin = BEGINNING * end if most > FEW_POINTS else 0
        for point in _points(panel):
            if point.at >= begin:
                inside += [point.values.low, point.values.high]
    low, high = min(inside), max(inside)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return low - margin, high + margin


def _label(axes: Axes, x: _Axis, y: _Axis, has_words: bool, is_first: bool) -> None:
    axes.set_xlim(x.limits)
    axes.set_ylim(y.limits)
    axes.set_xticks(x.ticks, x.labels if has_words else [""] * len(x.ticks))
    # Within the panel, so that the last number of one does not run into the first of the next.
    begin, *_, end = axes.get_xticklabels()
    begin.set_horizontalalignment("left")
    if x.ticks[-1] > 0.9 * x.limits[1]:
        end.set_horizontalalignment("right")
    axes.set_yticks(y.ticks, y.labels if is_first else [""] * len(y.ticks))
    if has_words:
        axes.set_xlabel(x.words)


def axis_unit(over: str, largest: float) -> tuple[float, str]:
    """What one is on an axis, and the words for it."""
    if over == SECONDS:
        size, sign = time_unit(largest)
        return size, TIME_WORDS[sign]
    if over == FLOPS:
        exponent = int(f"{largest:e}".split("e")[1])
        return 10.0**exponent, f"{power_of_ten(exponent)} FLOPs"
    for size, word in ((1e9, "billion "), (1e6, "million "), (1e3, "thousand ")):
        if largest >= 2 * size:
            return size, f"{word}{over}"
    return 1.0, over


def shown_rows(panels: Sequence[CurvePanel]) -> list[str]:
    """The rows in colours: all, or of too many the first, the best and the worst at their ends."""
    labels = list(dict.fromkeys(curve.label for panel in panels for curve in panel.curves))
    if len(labels) <= MOST_ROWS:
        return labels
    panel = panels[0]
    ends = sorted(panel.curves, key=lambda curve: curve.last, reverse=not panel.is_loss)
    ordered = [curve.label for curve in ends]
    return list(dict.fromkeys([labels[0], *ordered[:BEST], *ordered[-WORST:]]))
