"""Pictures of answers to SQuAD: scores of kinds of questions, and over the threshold."""

from typing import Any, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from convbert_plugin.analysis.answer_scores import Curve, GroupParts, RunCurves
from convbert_plugin.analysis.drawing import LINE, WIDTH, Style, Styles, image_of, plain
from convbert_plugin.analysis.words import wrap
from convbert_plugin.metrics.squad_scores import SCORES

GREY = "#333333"
FIXED: Mapping[str, Any] = {"color": "#555555", "linestyle": "--", "linewidth": 1.2, "zorder": 1}
# Inches.
SLOT, LANE, FRAME, CURVE = 0.13, 0.3, 0.75, 3.2
LEGEND_WIDTH = 100
# Odds beyond these quantiles are left out of the picture.
QUANTILES = (0.005, 0.995)


def draw_parts(groups: Sequence[GroupParts], styles: Styles, image_format: str) -> bytes:
    """Draw a lane for each kind of questions, in it a dot for each group, EM beside F1.

    ``image_format``: "svg" or "png".
    """
    kinds: dict[str, dict[str, int]] = {}
    for group in groups:
        for part in group.parts:
            kinds.setdefault(part.partition, {}).setdefault(part.kind, part.questions)
    with plain():
        lane = max(LANE, SLOT * (len(groups) + 1))
        heights = [lane * len(lanes) for lanes in kinds.values()]
        legend = {group.label: wrap(group.label, LEGEND_WIDTH) for group in groups}
        height = sum(heights) + FRAME * len(kinds) + _legend_height(legend)
        figure = Figure((WIDTH, height), layout="constrained")
        all_axes = figure.subplots(
            len(kinds), len(SCORES), height_ratios=heights, squeeze=False, sharex=True, sharey="row"
        )
        for row, (partition, lanes) in zip(all_axes, kinds.items(), strict=True):
            for axes, metric in zip(row, SCORES, strict=True):
                _draw_lanes(axes, groups, styles, partition, list(lanes), metric)
                axes.set_title(f"{metric}, by {partition}", loc="left", fontweight="bold")
            labels = [f"{kind}  ({questions:,})" for kind, questions in lanes.items()]
            row[0].set_yticks(range(len(lanes)), labels)
            row[0].set_ylim(len(lanes) - 0.5, -0.5)
        _add_legend(figure, legend, styles, _means())
        return image_of(figure, image_format)


def _draw_lanes(
    axes: Axes,
    groups: Sequence[GroupParts],
    styles: Styles,
    partition: str,
    lanes: list[str],
    metric: str,
) -> None:
    for number, group in enumerate(groups):
        color = styles[group.label].color
        # Groups stand beside each other in a lane.
        shift = (number + 1) / (len(groups) + 1) - 0.5
        for part in group.parts:
            if part.partition == partition:
                height = lanes.index(part.kind) + shift
                values = part.scores[metric]
                axes.plot(values, [height] * len(values), "-", color=color, linewidth=1.2)
                axes.plot(values, [height] * len(values), "|", color=color, markersize=5)
                axes.plot([part.means[metric]], [height], "o", color=color, markersize=5)
    for edge in range(1, len(lanes)):
        axes.axhline(edge - 0.5, color="#e4e4e4", linewidth=0.8, zorder=0)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelbottom=True)
    axes.set_xlim(-2, 102)
    axes.grid(axis="x")


def _means() -> list[Line2D]:
    return [
        Line2D([], [], color=GREY, marker="o", markersize=5, linestyle="", label="mean"),
        Line2D([], [], color=GREY, marker="|", markersize=5, label="a seed"),
    ]


def draw_thresholds(runs: Sequence[RunCurves], styles: Styles, image_format: str) -> bytes:
    """Draw the scores of each run over the threshold, EM beside F1; the fixed and best marked.

    ``image_format``: "svg" or "png".
    """
    with plain():
        legend = {run.label: wrap(run.label, LEGEND_WIDTH) for run in runs}
        figure = Figure((WIDTH, CURVE + _legend_height(legend)), layout="constrained")
        all_axes = figure.subplots(1, len(SCORES), squeeze=False, sharey=True).flat
        edges = _shown_odds(runs)
        for axes, metric in zip(all_axes, SCORES, strict=True):
            for run in runs:
                _draw_curve(axes, run.curves[metric], run.threshold, styles[run.label], edges)
            axes.set_xlim(edges)
            axes.grid()
            axes.set_xlabel("threshold of null odds: questions above it are left unanswered")
            axes.set_title(metric, loc="left", fontweight="bold")
        _add_legend(figure, legend, styles, _thresholds())
        return image_of(figure, image_format)


def _draw_curve(
    axes: Axes, curve: Curve, threshold: float, style: Style, edges: tuple[float, float]
) -> None:
    color, line, _ = style
    # From edge to edge: answered is nothing at the one, and all at the other.
    thresholds = np.append(curve.thresholds, np.inf).clip(*edges)
    scores = np.append(curve.scores, curve.scores[-1])
    axes.plot(thresholds, scores, line, color=color, alpha=0.8, drawstyle="steps-post")
    if np.isfinite(threshold):
        axes.axvline(threshold, **FIXED)
        axes.plot([threshold], [curve.score], "D", color=color, markersize=5, zorder=4)
    best = thresholds[curve.scores.argmax()]
    axes.plot([best], [curve.best], "o", color=color, markersize=7, markeredgecolor="white")


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


def _thresholds() -> list[Line2D]:
    return [
        Line2D([], [], marker="D", label="at the threshold in force", **FIXED),
        Line2D([], [], color=GREY, marker="o", markersize=7, linestyle="", label="best"),
    ]


def _legend_height(words: Mapping[str, str]) -> float:
    return LINE * sum(text.count("\n") + 1 for text in words.values()) + 0.5


def _add_legend(
    figure: Figure, words: Mapping[str, str], styles: Styles, marks: list[Line2D]
) -> None:
    """The groups below, by their labels in lines, and what the marks mean above."""
    lines = [
        Line2D([], [], color=styles[label].color, linestyle=styles[label].line, label=text)
        for label, text in words.items()
    ]
    figure.legend(handles=lines, loc="outside lower left", frameon=False)
    figure.legend(handles=marks, loc="outside upper right", ncols=len(marks))
