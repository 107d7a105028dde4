"""Pictures of answers to SQuAD: scores of kinds of questions, and over the threshold."""

from typing import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from convbert_plugin.analysis.answer_scores import Curve, GroupParts, RunCurves
from convbert_plugin.analysis.drawing import (
    LINE,
    REFERENCE,
    WIDE,
    KeyEntry,
    axes_in,
    draw_key,
    image_of,
    inches,
    key_height,
    plain,
    series_entry,
    text_at,
)
from convbert_plugin.analysis.naming import Names
from convbert_plugin.analysis.theme import GRID, MUTED, PAPER, Style, Styles
from convbert_plugin.metrics.squad_scores import SCORES

MEANS = (
    KeyEntry("mean", {"color": MUTED, "marker": "o", "markersize": 5, "linestyle": ""}),
    KeyEntry("a seed", {"color": MUTED, "marker": "|", "markersize": 6}),
)
THRESHOLDS = (
    KeyEntry("threshold in force", {**REFERENCE, "marker": "D", "markersize": 5}),
    KeyEntry("best", {"color": MUTED, "marker": "o", "markersize": 7, "linestyle": ""}),
)
# Inches.
SLOT, LANE, HEADING, TICKS, SPACE = 0.15, 0.3, 0.28, 0.36, 0.25
CURVE, CURVE_LEFT = 2.2, 0.42
# Odds beyond these quantiles are left out of the picture, and curves have at most so many points.
QUANTILES, POINTS = (0.005, 0.995), 400


def draw_parts(
    groups: Sequence[GroupParts], styles: Styles, names: Names, width: float, image_format: str
) -> bytes:
    """Draw a lane for each kind of questions, in it a mark for each group; EM beside F1.

    ``width``: inches, of which few have EM above F1; ``image_format``: "svg" or "png".
    """
    kinds: dict[str, dict[str, int]] = {}
    for group in groups:
        for part in group.parts:
            kinds.setdefault(part.partition, {}).setdefault(part.kind, part.questions)
    with plain():
        lane = max(LANE, SLOT * (len(groups) + 1))
        labels = {
            name: [f"{kind} ({questions:,})" for kind, questions in lanes.items()]
            for name, lanes in kinds.items()
        }
        left = inches([label for texts in labels.values() for label in texts]) + 0.1
        columns = len(SCORES) if width >= WIDE else 1
        entries = [*_group_entries([group.label for group in groups], styles, names), *MEANS]
        top = key_height(entries, width)
        blocks = (
            len(SCORES)
            // columns
            * sum(HEADING + lane * len(texts) + TICKS for texts in labels.values())
        )
        figure = Figure((width, top + blocks))
        draw_key(figure, entries, width)
        each = (width - left) / columns
        for partition, texts in labels.items():
            for number, metric in enumerate(SCORES):
                column = number % columns
                begin = left + column * each
                height = lane * len(texts)
                axes = axes_in(figure, begin, top + HEADING, each - SPACE, height)
                _draw_lanes(axes, groups, styles, partition, list(kinds[partition]), metric)
                title_left = begin if column else 0
                title = metric if column else f"By {partition}: {metric}"
                text_at(figure, title_left, top + HEADING / 2, title, weight="bold")
                if not column:
                    for place, text in enumerate(texts):
                        text_at(figure, 0, top + HEADING + lane * (place + 0.5), text)
                if column == columns - 1:
                    top += HEADING + height + TICKS
        return image_of(figure, image_format)


def _group_entries(labels: Sequence[str], styles: Styles, names: Names) -> list[KeyEntry]:
    return [series_entry(names[label], styles[label], 5) for label in dict.fromkeys(labels)]


def _draw_lanes(
    axes: Axes,
    groups: Sequence[GroupParts],
    styles: Styles,
    partition: str,
    lanes: list[str],
    metric: str,
) -> None:
    for number, group in enumerate(groups):
        color, _, marker = styles[group.label]
        # Groups stand beside each other in a lane.
        shift = (number + 1) / (len(groups) + 1) - 0.5
        for part in group.parts:
            if part.partition == partition:
                height = lanes.index(part.kind) + shift
                values = part.scores[metric]
                axes.plot(values, [height] * len(values), "-", color=color, linewidth=1.2)
                axes.plot(values, [height] * len(values), "|", color=color, markersize=5)
                axes.plot([part.means[metric]], [height], marker, color=color, markersize=5)
    for edge in range(1, len(lanes)):
        axes.axhline(edge - 0.5, color=GRID, linewidth=0.8, zorder=0)
    axes.set_yticks([])
    axes.set_ylim(len(lanes) - 0.5, -0.5)
    axes.set_xlim(-2, 102)
    axes.grid(axis="x")


def draw_thresholds(
    runs: Sequence[RunCurves], styles: Styles, names: Names, width: float, image_format: str
) -> bytes:
    """Draw the scores of each run over the threshold; the one in force and the best are marked.

    Arguments as ``draw_parts``.
    """
    with plain():
        columns = len(SCORES) if width >= WIDE else 1
        entries = [*_group_entries([run.label for run in runs], styles, names), *THRESHOLDS]
        top = key_height(entries, width)
        frame = HEADING + CURVE + TICKS
        figure = Figure((width, top + frame * (len(SCORES) // columns) + LINE))
        draw_key(figure, entries, width)
        edges = _shown_odds(runs)
        each = width / columns
        for number, metric in enumerate(SCORES):
            line, column = divmod(number, columns)
            place = top + line * frame
            begin = column * each
            axes = axes_in(
                figure, begin + CURVE_LEFT, place + HEADING, each - CURVE_LEFT - SPACE, CURVE
            )
            for run in runs:
                _draw_curve(axes, run.curves[metric], run.threshold, styles[run.label], edges)
            axes.set_xlim(edges)
            axes.grid()
            text_at(figure, begin, place + HEADING / 2, metric, weight="bold")
            if number + columns >= len(SCORES):
                axes.set_xlabel("threshold of null odds", loc="right", color=MUTED)
        for axes in figure.axes[1:]:
            axes.sharey(figure.axes[0])
        return image_of(figure, image_format)


def _draw_curve(
    axes: Axes, curve: Curve, threshold: float, style: Style, edges: tuple[float, float]
) -> None:
    # From edge to edge: answered is nothing at the one, and all at the other.
    thresholds = np.append(curve.thresholds, np.inf).clip(*edges)
    scores = np.append(curve.scores, curve.scores[-1])
    best = thresholds[curve.scores.argmax()]
    kept = _thinned(thresholds)
    axes.plot(
        thresholds[kept], scores[kept], style.line, color=style.color,
        drawstyle="steps-post",
    )  # fmt: skip
    if np.isfinite(threshold):
        axes.axvline(threshold, **REFERENCE)
        axes.plot([threshold], [curve.score], "D", color=style.color, markersize=5, zorder=4)
    axes.plot([best], [curve.best], "o", color=style.color, markersize=7, markeredgecolor=PAPER)


def _thinned(thresholds: np.ndarray) -> np.ndarray:
    """The places of some of many thresholds, as even as can be; of few, all."""
    even = np.linspace(thresholds[0], thresholds[-1], POINTS)
    places = np.arange(len(thresholds))
    return places if len(places) <= POINTS else np.unique(thresholds.searchsorted(even))


def _shown_odds(runs: Sequence[RunCurves]) -> tuple[float, float]:
    """The thresholds at the edges: most of the odds, and all that is marked."""
    places = [run.threshold for run in runs]
    for run in runs:
        for curve in run.curves.values():
            odds = curve.thresholds[np.isfinite(curve.thresholds)]
            places += [*np.quantile(odds, QUANTILES), curve.thresholds[curve.scores.argmax()]]
    finite = [place for place in places if np.isfinite(place)]
    margin = 0.05 * (max(finite) - min(finite)) or 1.0
    return min(finite) - margin, max(finite) + margin
