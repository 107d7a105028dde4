"""Pictures of scores: a dot for each seed, and a curve for each run."""

from typing import Any, Mapping, Optional, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from convbert_plugin.analysis.drawing import LINE, WIDTH, Styles, image_of, plain
from convbert_plugin.analysis.groups import Panel, Row
from convbert_plugin.analysis.words import wrap

MAJORITY: Mapping[str, Any] = {"color": "#555555", "linestyle": "--", "linewidth": 1.2, "zorder": 1}

# Inches.
LANE, FRAME, CURVE = 0.42, 0.75, 2.7
LABEL_WIDTH, LEGEND_WIDTH = 36, 100
HALF_SPREAD = 0.2


def score_words(row: Row, score: Optional[float]) -> str:
    """A score of a row as the field writes it: of 100, with one decimal; a dash for None."""
    return "–" if score is None else f"{row.percent(score):z.1f}"


def draw_dots(panels: Sequence[Panel], styles: Styles, image_format: str) -> bytes:
    """Draw a lane of dots for each group, its median, and the majority class.

    ``image_format``: "svg" or "png".
    """
    with plain():
        labels = [[wrap(row.group.label, LABEL_WIDTH) for row in rows] for rows in panels]
        heights = [
            len(texts) * max(LANE, LINE * max(text.count("\n") + 2 for text in texts))
            for texts in labels
        ]
        figure = Figure((WIDTH, sum(heights) + FRAME * len(panels) + 0.4), layout="constrained")
        if not panels:
            figure.text(0.5, 0.3, "no run has been validated yet", horizontalalignment="center")
            return image_of(figure, image_format)
        all_axes = figure.subplots(len(panels), height_ratios=heights, squeeze=False).flat
        for axes, rows, texts in zip(all_axes, panels, labels, strict=True):
            _draw_lanes(axes, rows, texts, styles)
        figure.legend(handles=_explanation(panels), loc="outside upper right", ncols=3)
        return image_of(figure, image_format)


def _draw_lanes(axes: Axes, rows: Panel, labels: Sequence[str], styles: Styles) -> None:
    for lane, row in enumerate(rows):
        color = styles[row.group.label].color
        scores = list(map(row.percent, row.values))
        # Seeds of the same score stand beside each other.
        step = 2 * HALF_SPREAD / max(1, len(scores) - 1)
        first = lane - HALF_SPREAD if len(scores) > 1 else lane
        heights = [first + step * place for place in range(len(scores))]
        axes.plot(scores, heights, "o", color=color, alpha=0.7, markersize=5, zorder=3)
        median = row.percent(row.median)
        axes.plot([median] * 2, [lane - 0.36, lane + 0.36], color=color, linewidth=2.5, zorder=2)
        axes.text(
            1.01,
            lane,
            f"median {score_words(row, row.median)}",
            transform=axes.get_yaxis_transform(),
            verticalalignment="center",
        )
        if row.majority is not None:
            axes.plot([row.percent(row.majority)] * 2, [lane - 0.5, lane + 0.5], **MAJORITY)
    axes.set_yticks(range(len(rows)), labels)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.margins(x=0.06)
    axes.grid(axis="x")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_title(_title(rows), loc="left", fontweight="bold")


def _explanation(panels: Sequence[Panel]) -> list[Line2D]:
    grey = "#333333"
    handles = [
        Line2D([], [], color=grey, marker="o", markersize=5, linestyle="", label="a seed"),
        Line2D(
            [], [], color=grey, marker="|", markersize=12, markeredgewidth=2.5, linestyle="",
            label="median",
        ),
    ]  # fmt: skip
    if any(row.majority is not None for rows in panels for row in rows):
        handles.append(Line2D([], [], **MAJORITY, label="majority class"))
    return handles


def draw_curves(panels: Sequence[Panel], styles: Styles, image_format: str) -> bytes:
    """Draw the score of each run over the updates; ``image_format``: "svg" or "png"."""
    with plain():
        columns = min(2, len(panels))
        lines = -(-len(panels) // columns)
        labels = {row.group.label: None for rows in panels for row in rows}
        legend = {label: wrap(label, LEGEND_WIDTH) for label in labels}
        height = lines * CURVE + LINE * sum(text.count("\n") + 1 for text in legend.values()) + 0.3
        figure = Figure((WIDTH, height), layout="constrained")
        all_axes = list(figure.subplots(lines, columns, squeeze=False).flat)
        for axes, rows in zip(all_axes, panels, strict=False):
            _draw_runs(axes, rows, styles)
        for axes in all_axes[len(panels) :]:
            axes.remove()
        handles = [
            Line2D([], [], color=styles[label].color, linestyle=styles[label].line, label=text)
            for label, text in legend.items()
        ]
        if any(row.majority is not None for rows in panels for row in rows):
            handles.append(Line2D([], [], **MAJORITY, label="majority class"))
        figure.legend(handles=handles, loc="outside lower left", frameon=False)
        return image_of(figure, image_format)


def _draw_runs(axes: Axes, rows: Panel, styles: Styles) -> None:
    for row in rows:
        color, line, marker = styles[row.group.label]
        for run in row.group.runs:
            curve = run.curve(row.subset, row.metric)
            updates = [entry[0] for entry in curve]
            scores = [row.percent(entry[1]) for entry in curve]
            axes.plot(updates, scores, line, color=color, alpha=0.8, marker=marker, markersize=3)
    for majority in {row.percent(row.majority) for row in rows if row.majority is not None}:
        axes.axhline(majority, **MAJORITY)
    axes.grid()
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("updates")
    axes.set_title(_title(rows), loc="left", fontweight="bold")


def _title(rows: Panel) -> str:
    return wrap(f"{rows[0].name}: {rows[0].metric}", LABEL_WIDTH)
