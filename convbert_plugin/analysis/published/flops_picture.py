"""The picture of score against FLOPs: own runs beside what was published, each by its mark."""

import math
from itertools import pairwise
from typing import Iterator, NamedTuple, Optional, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from convbert_plugin.analysis.drawing import (
    LETTERS,
    LINE,
    NARROW,
    axes_in,
    image_of,
    inches,
    plain,
)
from convbert_plugin.analysis.grouping import grouped
from convbert_plugin.analysis.published.label_places import (
    Anchor,
    Box,
    Label,
    are_readable,
    place_labels,
)
from convbert_plugin.analysis.published.published_results import DEV, TEST
from convbert_plugin.analysis.published.score_flops import (
    DISTILLED,
    OWN,
    PUBLISHED,
    ScorePanel,
    ScorePoint,
)
from convbert_plugin.analysis.quantities import Spread, power_of_ten
from convbert_plugin.analysis.theme import INK, MUTED, PAPER, Styles

# Inches.
PANEL, TITLE, AXIS, GAP, BREAK = 3.3, 0.3, 0.5, 0.15, 0.22
# Points: of marks, and how far labels stay from their middle.
MARK, REACH = 6.0, 0.065
# Inches: half of a mark, the end of an arrow (the number is at least so large), half of a line, and
# how far the boxes are apart that stand for one.
EDGE, ARROW, THIN, STEP = 0.05, 0.24, 0.015, 0.1
# Decades: from which on an empty stretch is left out, what is added at the ends of the others, and
# the least of a stretch.
EMPTY, ADDED, LEAST = 1.2, 0.22, 0.6
# The least share of the width that a stretch gets.
LEAST_SHARE = 0.3
MARKS = {
    (PUBLISHED, TEST): "o",
    (PUBLISHED, DEV): "s",
    (DISTILLED, TEST): "D",
    (DISTILLED, DEV): "d",
}
WORDS = {
    (OWN, DEV): "own runs: dev (filled; bars: all seeds)",
    (PUBLISHED, TEST): "published: test",
    (PUBLISHED, DEV): "published: dev",
    (DISTILLED, TEST): "distilled: test; FLOPs are at least so many",
    (DISTILLED, DEV): "distilled: dev; FLOPs are at least so many",
}
HIGHLIGHTED = "ConvBERT"


class Stretch(NamedTuple):
    """A part of the axis: from one logarithm to another, at these shares of the width."""

    low: float
    high: float
    begin: float
    end: float


class FlopsAxis(NamedTuple):
    """A logarithmic axis that leaves out where nothing is."""

    stretches: list[Stretch]

    def share(self, flops: float) -> float:
        """Where on the axis a number is, 0 to 1."""
        at = math.log10(flops)
        stretch = min(self.stretches, key=lambda one: max(one.low - at, at - one.high))
        along = (at - stretch.low) / (stretch.high - stretch.low)
        return stretch.begin + along * (stretch.end - stretch.begin)

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Shares and words: powers of ten, and between few of them doubles and halves too."""
        for stretch in self.stretches:
            powers = range(math.ceil(stretch.low), math.floor(stretch.high) + 1)
            if len(powers) > 1:
                for power in powers:
                    yield self.share(10.0**power), power_of_ten(power)
                continue
            power = math.floor(stretch.low)
            for digit in (1, 2, 5, 10, 20, 50):
                if stretch.low <= power + math.log10(digit) <= stretch.high:
                    yield (
                        self.share(digit * 10.0**power),
                        power_of_ten(power + len(str(digit)) - 1)
                        if str(digit)[0] == "1"
                        else f"{str(digit)[0]} × {power_of_ten(power + len(str(digit)) - 1)}",
                    )


def flops_axis(numbers: Sequence[float], gap: float) -> FlopsAxis:
    """The axis for some numbers; ``gap``: the share of the width of a break."""
    logs = sorted(math.log10(number) for number in numbers)
    parts = [[logs[0]]]
    for at in logs[1:]:
        if at - parts[-1][-1] > EMPTY:
            parts.append([])
        parts[-1].append(at)
    ends = []
    for part in parts:
        missing = max(0.0, LEAST - 2 * ADDED - (part[-1] - part[0])) / 2
        ends.append((part[0] - ADDED - missing, part[-1] + ADDED + missing))
    free = 1 - gap * (len(ends) - 1)
    spans = [high - low for low, high in ends]
    least = min(LEAST_SHARE, 1 / len(ends))
    shares = [max(least, span / sum(spans)) for span in spans]
    widths = [free * share / sum(shares) for share in shares]
    stretches, begin = [], 0.0
    for (low, high), width in zip(ends, widths, strict=True):
        stretches.append(Stretch(low, high, begin, begin + width))
        begin += width + gap
    return FlopsAxis(stretches)


def draw_score_flops(
    panels: Sequence[ScorePanel], styles: Styles, width: float, image_format: str
) -> bytes:
    """Draw them, one below another; ``width``: inches; ``image_format``: "svg" or "png"."""
    with plain():
        drawn = [_Panel(panel, styles, width) for panel in panels]
        height = sum(one.height for one in drawn)
        figure = Figure((width, height))
        # In inches, for what stands anywhere.
        free = figure.add_axes((0, 0, 1, 1))
        free.set(xlim=(0, width), ylim=(0, height))
        free.axis("off")
        free.set_zorder(2)
        top = height
        for one in drawn:
            one.draw(figure, free, top)
            top -= one.height
        return image_of(figure, image_format)


class _Panel:
    """One panel at a width, in inches, measured before it is drawn."""

    def __init__(self, panel: ScorePanel, styles: Styles, width: float):
        self.panel, self.styles, self.width = panel, styles, width
        self.points = [point for point in panel.points if point.is_drawn]
        self.is_narrow = width <= NARROW
        values = [edge for point in self.points for edge in (point.score.low, point.score.high)]
        margin = 0.07 * (max(values) - min(values)) or 1.0
        self.low, self.high = min(values) - margin, max(values) + margin
        ticks = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
        self.ticks = [float(tick) for tick in ticks if self.low <= tick <= self.high]
        self.left = inches([f"{tick:g}" for tick in self.ticks]) + GAP
        self.axis_width = width - self.left - GAP
        flops = [edge for point in self.points for edge in (_flops(point).low, _flops(point).high)]
        self.axis = flops_axis(flops, BREAK / self.axis_width)
        self.series = grouped(self.points, lambda point: point.series)
        self.frame = Box(self.left, 0.02, width - 0.02, PANEL - 0.02)
        self.names, self.labels = self._named()
        self.key = list(self._key_lines())

    @property
    def height(self) -> float:
        return TITLE + PANEL + AXIS + LINE * len(self.key) + GAP

    def at(self, flops: float, score: float) -> tuple[float, float]:
        """Inches from the left of the figure, and from the bottom of the panel."""
        x = self.left + self.axis.share(flops) * self.axis_width
        return x, (score - self.low) / (self.high - self.low) * PANEL

    def middle(self, point: ScorePoint) -> tuple[float, float]:
        return self.at(_flops(point).mean, point.score.mean)

    def _named(self) -> tuple[dict[str, str], list[Label]]:
        """What is written beside each series and where: names, or else numbers for a key."""
        own = {point.series: point.series for point in self.points if point.kind == OWN}
        others = {series: series for series in self.series if series not in own}
        marks = list(self._marks())
        if not self.is_narrow:
            # Own runs have a legend besides.
            for named in ({**others, **own}, others):
                places = self._places(named)
                if are_readable(places, marks, self.frame):
                    return named, places
        numbered = {series: str(number) for number, series in enumerate(others, start=1)}
        return numbered, self._places(numbered)

    def _places(self, names: dict[str, str]) -> list[Label]:
        height = 1.15 * LETTERS / 72
        anchors = [
            [
                Anchor(*self.middle(point), REACH, inches([text]), height)
                for point in self._joined(self.series[series])
            ]
            for series, text in names.items()
        ]
        return place_labels(anchors, list(self._marks()), list(self._line_boxes()), self.frame)

    def _marks(self) -> Iterator[Box]:
        for point in self.points:
            x, y = self.middle(point)
            right = x + ARROW if point.at_least else x + EDGE
            yield Box(x - EDGE, y - EDGE, right, y + EDGE)

    def _line_boxes(self) -> Iterator[Box]:
        for point in self.points:
            x, _ = self.middle(point)
            low, high = (self.at(_flops(point).mean, edge)[1] for edge in point.score[1:])
            yield Box(x - THIN, low, x + THIN, high)
        for points in self.series.values():
            for begin, end in pairwise(self._lines(points)):
                steps = max(1, round(math.dist(begin, end) / STEP))
                for step in range(1, steps):
                    x, y = (a + (b - a) * step / steps for a, b in zip(begin, end, strict=True))
                    yield Box(x - THIN, y - THIN, x + THIN, y + THIN)

    def _lines(self, points: Sequence[ScorePoint]) -> list[tuple[float, float]]:
        return [self.middle(point) for point in self._joined(points)]

    def _joined(self, points: Sequence[ScorePoint]) -> list[ScorePoint]:
        """The points of a series that were scored on the set of most of them."""
        sets = [point.set for point in points]
        return [point for point in points if point.set == max(sets, key=sets.count)]

    def _key_lines(self) -> Iterator[list[tuple[Optional[tuple[str, str]], str]]]:
        """Lines of entries below: what marks mean, and names where numbers stand for them."""
        marks = [(point.kind, point.set) for point in self.points]
        entries: list[tuple[Optional[tuple[str, str]], str]] = [
            (mark, words) for mark, words in WORDS.items() if mark in marks
        ]
        entries += [
            (None, f"{text}  {series}") for series, text in self.names.items() if series != text
        ]
        line: list[tuple[Optional[tuple[str, str]], str]] = []
        for entry in entries:
            if line and self._key_width([*line, entry]) > self.width:
                yield line
                line = []
            line.append(entry)
        if line:
            yield line

    def _key_width(self, entries: Sequence[tuple[Optional[tuple[str, str]], str]]) -> float:
        return sum(inches([words]) + (0.45 if mark else 0.2) for mark, words in entries)

    def draw(self, figure: Figure, free: Axes, top: float) -> None:
        """``top``: of the panel, in inches from the bottom of the figure."""
        free.text(0, top - 0.18, self.panel.title, fontweight="bold")
        _, height = figure.get_size_inches()
        axes = axes_in(figure, self.left, height - top + TITLE, self.axis_width, PANEL)
        axes.set(xlim=(0, 1), ylim=(self.low, self.high))
        axes.set_yticks(self.ticks, [f"{tick:g}" for tick in self.ticks])
        shown = self._shown_ticks()
        axes.set_xticks([place for place, _ in shown], [words for _, words in shown])
        axes.grid()
        axes.set_xlabel("FLOPs of pretraining")
        bottom = top - TITLE - PANEL
        self._draw_breaks(free, bottom)
        for points in self.series.values():
            self._draw_series(free, bottom, points)
        self._draw_labels(free, bottom)
        self._draw_key(free, bottom - AXIS)

    def _shown_ticks(self) -> list[tuple[float, str]]:
        """Those whose words have room beside the ones before."""
        shown: list[tuple[float, str]] = []
        for place, words in self.axis.ticks():
            if shown:
                before, others = shown[-1]
                if (place - before) * self.axis_width < 0.55 * inches([words]) + 0.55 * inches(
                    [others]
                ):
                    continue
            shown.append((place, words))
        return shown

    def _draw_breaks(self, free: Axes, bottom: float) -> None:
        """Where the axis leaves something out."""
        for stretch in self.axis.stretches[1:]:
            middle = self.left + stretch.begin * self.axis_width - BREAK / 2
            free.add_patch(
                Rectangle(
                    (middle - 0.05, bottom - 0.05), 0.1, 0.1, color=PAPER, zorder=3, linewidth=0
                )
            )
            for shift in (-0.05, 0.05):
                x = middle + shift
                free.plot(
                    [x - 0.03, x + 0.03], [bottom - 0.07, bottom + 0.07], color=MUTED, linewidth=1,
                    zorder=4,
                )  # fmt: skip

    def _draw_series(self, free: Axes, bottom: float, points: Sequence[ScorePoint]) -> None:
        line = self._lines(points)
        free.plot(
            [x for x, _ in line], [bottom + y for _, y in line], "-", color=_color(points[0]),
            linewidth=0.9, alpha=0.6,
        )  # fmt: skip
        for same in grouped(points, lambda point: point.label).values():
            # One model, scored on both sets.
            across = [self.middle(point) for point in same]
            free.plot(
                [x for x, _ in across], [bottom + y for _, y in across], ":",
                color=_color(points[0]), linewidth=0.9,
            )  # fmt: skip
        for point in points:
            x, y = self.middle(point)
            if point.kind == OWN:
                self._draw_own(free, bottom, point)
                continue
            free.plot(
                [x], [bottom + y], MARKS[point.kind, point.set], color=_color(point),
                markersize=MARK, markerfacecolor=PAPER, markeredgewidth=1.3, zorder=3,
            )  # fmt: skip
            if point.at_least:
                free.annotate(
                    "", (x + ARROW, bottom + y), (x + EDGE, bottom + y),
                    arrowprops={"arrowstyle": "->", "color": _color(point), "linewidth": 0.9,
                    "shrinkA": 0, "shrinkB": 0},
                )  # fmt: skip

    def _draw_own(self, free: Axes, bottom: float, point: ScorePoint) -> None:
        style = self.styles[point.series]
        x, y = self.middle(point)
        edges = [self.at(_flops(point).mean, edge)[1] for edge in point.score[1:]]
        free.plot([x, x], [bottom + edge for edge in edges], color=style.color, linewidth=1.2)
        free.plot(
            [x], [bottom + y], style.marker, color=style.color, markersize=MARK + 1,
            markeredgecolor=PAPER, markeredgewidth=0.7, zorder=4,
        )  # fmt: skip

    def _draw_labels(self, free: Axes, bottom: float) -> None:
        for (series, text), label in zip(self.names.items(), self.labels, strict=True):
            box, color = label.box, _color(self.series[series][0])
            free.text(
                (box.left + box.right) / 2, bottom + (box.bottom + box.top) / 2, text, color=color,
                horizontalalignment="center", verticalalignment="center_baseline", zorder=5,
            )  # fmt: skip
            if label.line:
                (x1, y1), (x2, y2) = label.line
                free.plot([x1, x2], [bottom + y1, bottom + y2], color=MUTED, linewidth=0.7)

    def _draw_key(self, free: Axes, top: float) -> None:
        for number, line in enumerate(self.key):
            x, y = 0.0, top - LINE * (number + 0.8)
            for mark, words in line:
                if mark:
                    is_own = mark[0] == OWN
                    free.plot(
                        [x + 0.08], [y + 0.04], "o" if is_own else MARKS[mark], color=INK,
                        markersize=MARK, markerfacecolor=INK if is_own else PAPER,
                        markeredgewidth=1.2,
                    )  # fmt: skip
                free.text(x + (0.22 if mark else 0), y, words)
                x += self._key_width([(mark, words)])


def _flops(point: ScorePoint) -> Spread:
    assert point.flops
    return point.flops


def _color(point: ScorePoint) -> str:
    return INK if point.kind == OWN or point.series.startswith(HIGHLIGHTED) else MUTED
