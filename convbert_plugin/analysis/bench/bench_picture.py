"""Pictures of a run: times as fast in bars, and time and memory over the length in lines."""

from typing import Callable, Optional, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from convbert_plugin.analysis.bench.bench_table import Row, in_units, rows_of
from convbert_plugin.analysis.bench.comparing import Result
from convbert_plugin.analysis.bench.length_part import PART as LENGTH
from convbert_plugin.analysis.bench.machine import Machine
from convbert_plugin.analysis.drawing import WIDTH, Style, image_of, plain, styles_of

# Inches.
BAR, FRAME, CURVES = 0.24, 0.65, 3.0
MICRO, GIBI = 1e-6, 1 << 30

Rows = dict[str, Row]


def draw(results: Sequence[Result], machine: Machine, dtype: str, image_format: str) -> bytes:
    """Bars for each comparison, and two panels of lines for growth with the length.

    ``image_format``: "svg" or "png".
    """
    timed = {result: _timed(result, machine, dtype) for result in results}
    compared = [result for result in results if result.part != LENGTH and timed[result]]
    grown = [result for result in results if result.part == LENGTH and timed[result]]
    styles = styles_of(name for rows in timed.values() for name in rows)
    with plain():
        heights = [BAR * len(timed[result]) + FRAME for result in compared]
        heights += [CURVES] * bool(grown)
        figure = Figure((WIDTH, max(sum(heights), 1) + 0.5), layout="constrained")
        figure.suptitle(f"{machine.processor}; {machine.device}; {dtype}", fontsize=9)
        if not heights:
            return image_of(figure, image_format)
        panels = figure.subfigures(len(heights), height_ratios=heights, squeeze=False)[:, 0]
        for panel, result in zip(panels, compared, strict=False):
            _draw_bars(panel.subplots(), result, timed[result], styles)
        if grown:
            axes = panels[-1].subplots(1, 2)
            lengths = [result.length for result in grown]
            rows = [timed[result] for result in grown]
            _draw_lines(axes[0], lengths, rows, styles, _microseconds_a_token, "µs a token")
            _draw_lines(axes[1], lengths, rows, styles, _gibibytes, "peak GiB")
            axes[0].legend(fontsize=7)
        return image_of(figure, image_format)


def _timed(result: Result, machine: Machine, dtype: str) -> Rows:
    return {row.name: row for row in rows_of(result, machine, dtype) if row.seconds}


def _draw_bars(axes: Axes, result: Result, rows: Rows, styles: dict[str, Style]) -> None:
    for place, row in enumerate(rows.values()):
        assert row.seconds is not None
        if row.speedup is None:
            continue
        median, low, high = row.speedup
        color = styles[row.name].color
        edges = [[max(0.0, median - low)], [max(0.0, high - median)]]
        axes.barh(place, median, xerr=edges, color=color, height=0.7, ecolor="#333333")
        words = f" {median:.2f} ({in_units(row.seconds.median)})"
        axes.text(max(median, high), place, words, verticalalignment="center", fontsize=8)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.margins(x=0.25)
    axes.axvline(1, color="#555555", linestyle="--", linewidth=0.8, zorder=0)
    axes.set_title(
        f"{result.part}: {result.title}: times as fast", loc="left", fontweight="bold", fontsize=9
    )


def _draw_lines(
    axes: Axes,
    lengths: Sequence[int],
    rows: Sequence[Rows],
    styles: dict[str, Style],
    number: Callable[[Row], Optional[float]],
    label: str,
) -> None:
    for name in dict.fromkeys(name for each in rows for name in each):
        points = [
            (length, value)
            for length, each in zip(lengths, rows, strict=True)
            if name in each and (value := number(each[name])) is not None
        ]
        color, line, marker = styles[name]
        axes.plot(
            [length for length, _ in points], [value for _, value in points],
            line, color=color, marker=marker, markersize=3, label=name,
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
    axes.set_ylim(bottom=0)
    axes.grid()
    axes.set_xlabel("length, the batch having as many tokens at every length")
    axes.set_title(label, loc="left", fontweight="bold", fontsize=9)


def _microseconds_a_token(row: Row) -> Optional[float]:
    return None if row.tokens_per_second is None else 1 / row.tokens_per_second / MICRO


def _gibibytes(row: Row) -> Optional[float]:
    return None if row.peak is None else row.peak / GIBI
