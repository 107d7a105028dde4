"""The picture of score against FLOPs: own runs beside what was published, each by its mark."""

import math
from itertools import pairwise
from typing import Iterator, Optional, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from convbert_plugin.analysis.drawing import LETTERS, LINE, NARROW, axes_in, image_of, inches, plain
from convbert_plugin.analysis.grouping import grouped
from convbert_plugin.analysis.published.broken_axes import (
    flops_axis,
    flops_ticks,
    score_axis,
    score_ticks,
)
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
from convbert_plugin.analysis.quantities import Spread
from convbert_plugin.analysis.theme import INK, MUTED, PAPER, Styles

# Inches.
PANEL, TITLE, AXIS, GAP, BREAK = 3.3, 0.3, 0.5, 0.15, 0.22
# Points: of marks, and how far labels stay from their middle.
MARK, REACH = 6.0, 0.065
# Inches: half of a mark, the end of an arrow (the number is at least so large), half of a line, and
# how far the boxes are apart that stand for one.
EDGE, ARROW, THIN, STEP = 0.05, 0.24, 0.015, 0.1
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

KeyPart = tuple[Optional[tuple[str, str]], str]
"""Of the key below: the kind and the set that a mark stands for, or None, and words."""


def draw_score_flops(
    panels: Sequence[ScorePanel], styles: Styles, width: float, image_format: str
) -> bytes:
    """Draw them, one below another; ``width``: inches; ``image_format``: "svg" or "png"."""
    with plain():
        drawn = [PanelDrawing(panel, styles, width) for panel in panels]
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


class PanelDrawing:
    """One panel at a width, in inches, measured before it is drawn."""

    def __init__(self, panel: ScorePanel, styles: Styles, width: float):
        self.panel, self.styles, self.width = panel, styles, width
        self.points = [point for point in panel.points if point.is_drawn]
        self.is_narrow = width <= NARROW
        scores = [edge for point in self.points for edge in point.score[1:]]
        self.scores = score_axis(scores, BREAK / PANEL)
        self.ticks = list(score_ticks(self.scores))
        self.left = inches([words for _, words in self.ticks]) + GAP
        self.axis_width = width - self.left - GAP
        flops = [edge for point in self.points for edge in _flops(point)[1:]]
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
        x = self.left + self.axis.share(math.log10(flops)) * self.axis_width
        return x, self.scores.share(score) * PANEL

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
                Anchor(*self.middle(point), REACH, _width(text), height)
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

    def _key_lines(self) -> Iterator[list[KeyPart]]:
        """Lines of entries below: what marks mean, and names where numbers stand for them."""
        marks = [(point.kind, point.set) for point in self.points]
        entries: list[KeyPart] = [(mark, words) for mark, words in WORDS.items() if mark in marks]
        entries += [
            (None, f"{text}  {series}") for series, text in self.names.items() if series != text
        ]
        line: list[KeyPart] = []
        for entry in entries:
            if line and self._key_width([*line, entry]) > self.width:
                yield line
                line = []
            line.append(entry)
        if line:
            yield line

    def _key_width(self, entries: Sequence[KeyPart]) -> float:
        return sum(inches([words]) + (0.45 if mark else 0.2) for mark, words in entries)

    def draw(self, figure: Figure, free: Axes, top: float) -> None:
        """``top``: of the panel, in inches from the bottom of the figure."""
        free.text(0, top - 0.18, self.panel.title, fontweight="bold")
        _, height = figure.get_size_inches()
        axes = axes_in(figure, self.left, height - top + TITLE, self.axis_width, PANEL)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.set_yticks([place for place, _ in self.ticks], [words for _, words in self.ticks])
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
        """Those whose words have room in their stretch, and beside the ones before."""
        shown: list[tuple[float, str]] = []
        last = -math.inf
        for stretch, place, words in flops_ticks(self.axis):
            half = 0.5 * inches([words]) / self.axis_width
            is_last = stretch is self.axis.stretches[-1]
            if place - half >= last and (is_last or place + half <= stretch.end):
                shown.append((place, words))
                last = place + 1.1 * half
        return shown

    def _draw_breaks(self, free: Axes, bottom: float) -> None:
        """Where the axes leave something out."""
        for stretch in self.axis.stretches[1:]:
            x = self.left + stretch.begin * self.axis_width - BREAK / 2
            _draw_break(free, x, bottom, (0.03, 0.07), (0.05, 0.0))
        for stretch in self.scores.stretches[1:]:
            y = bottom + stretch.begin * PANEL - BREAK / 2
            _draw_break(free, self.left, y, (0.07, 0.03), (0.0, 0.05))

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
            # Letters of a page are narrower: they stand at the side of their point.
            if box.left >= label.anchor.x:
                x, side = box.left, "left"
            elif box.right <= label.anchor.x:
                x, side = box.right, "right"
            else:
                x, side = (box.left + box.right) / 2, "center"
            free.text(
                x, bottom + (box.bottom + box.top) / 2, text, color=color,
                horizontalalignment=side, verticalalignment="center_baseline", zorder=5,
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


def _draw_break(
    free: Axes, x: float, y: float, slope: tuple[float, float], apart: tuple[float, float]
) -> None:
    """Two strokes, between which there is nothing."""
    width, height = max(0.1, 2 * apart[0]), max(0.1, 2 * apart[1])
    blank = Rectangle((x - width / 2, y - height / 2), width, height, zorder=3, linewidth=0)
    blank.set_color(PAPER)
    free.add_patch(blank)
    for side in (-1, 1):
        middle = x + side * apart[0], y + side * apart[1]
        free.plot(
            [middle[0] - slope[0], middle[0] + slope[0]],
            [middle[1] - slope[1], middle[1] + slope[1]],
            color=MUTED, linewidth=1, zorder=4,
        )  # fmt: skip


def _width(text: str) -> float:
    """Of a short text: capitals are wider than others."""
    return inches([text]) + 0.15 * LETTERS / 72 * sum(letter.isupper() for letter in text)


def _flops(point: ScorePoint) -> Spread:
    assert point.flops
    return point.flops


def _color(point: ScorePoint) -> str:
    return INK if point.kind == OWN or point.series.startswith(HIGHLIGHTED) else MUTED
