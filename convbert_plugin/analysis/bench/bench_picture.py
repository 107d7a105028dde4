"""Pictures of a run: times as fast in bars, and time and memory over the length in lines."""

from typing import Callable, Optional, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from convbert_plugin.analysis.bench.bench_table import Row, in_units, rows_of
from convbert_plugin.analysis.bench.comparing import Result
from convbert_plugin.analysis.bench.length_part import PART as LENGTH
from convbert_plugin.analysis.bench.machine import Machine
from convbert_plugin.analysis.drawing import (
    LINE,
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
from convbert_plugin.analysis.quantities import GIBIBYTE
from convbert_plugin.analysis.theme import MUTED, Styles, styles_of

# Inches: a bar, what stands around a panel, and what stands beside the bars on the right.
BAR, HEADING, TICKS, BETWEEN, NUMBERS = 0.26, 0.28, 0.3, 0.2, 1.75
CURVE, CURVE_LEFT = 2.2, 0.5
MICRO = 1e-6

Rows = dict[str, Row]
Number = Callable[[Row], Optional[float]]


def draw(results: Sequence[Result], machine: Machine, dtype: str, image_format: str) -> bytes:
    """Bars for each comparison, and panels of lines for growth with the length.

    ``image_format``: "svg" or "png".
    """
    timed = {result: _timed(result, machine, dtype) for result in results}
    compared = [result for result in results if result.part != LENGTH and timed[result]]
    grown = {result.length: timed[result] for result in results if result.part == LENGTH}
    lengths = {length: rows for length, rows in grown.items() if rows}
    styles = styles_of(name for rows in timed.values() for name in rows)
    with plain():
        heights = [HEADING + BAR * len(timed[one]) + TICKS + BETWEEN for one in compared]
        entries = _key(lengths, styles)
        growth = key_height(entries, WIDE) + HEADING + CURVE + TICKS + LINE if lengths else 0
        figure = Figure((WIDE, max(2 * LINE + sum(heights) + growth, 1)))
        text_at(figure, 0, LINE / 2, f"{machine.processor}; {machine.device}; {dtype}", color=MUTED)
        top = 2 * LINE
        for result, height in zip(compared, heights, strict=True):
            _draw_bars(figure, top, result, timed[result], styles)
            top += height
        if lengths:
            _draw_growth(figure, top, lengths, entries, styles)
        return image_of(figure, image_format)


def _timed(result: Result, machine: Machine, dtype: str) -> Rows:
    return {row.name: row for row in rows_of(result, machine, dtype) if row.seconds}


def _draw_bars(figure: Figure, top: float, result: Result, rows: Rows, styles: Styles) -> None:
    title = f"{result.part}: {result.title}: times as fast"
    text_at(figure, 0, top + HEADING / 2, title, weight="bold")
    top += HEADING
    left = inches(list(rows)) + 0.1
    axes = axes_in(figure, left, top, WIDE - left - NUMBERS, BAR * len(rows))
    for place, row in enumerate(rows.values()):
        assert row.seconds is not None
        text_at(figure, 0, top + BAR * (place + 0.5), row.name)
        if row.speedup is None:
            continue
        median, low, high = row.speedup
        edges = [[max(0.0, median - low)], [max(0.0, high - median)]]
        color = styles[row.name].color
        axes.barh(place, median, xerr=edges, color=color, height=0.6, ecolor=MUTED)
        words = f"{median:.2f} ({in_units(row.seconds.median)})"
        text_at(figure, WIDE, top + BAR * (place + 0.5), words, ha="right")
    axes.set_yticks([])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x")
    axes.axvline(1, color=MUTED, linestyle="--", linewidth=1.2)
    axes.xaxis.set_major_formatter("{x:g}")


def _key(lengths: dict[int, Rows], styles: Styles) -> list[KeyEntry]:
    names = dict.fromkeys(name for rows in lengths.values() for name in rows)
    return [series_entry(name, styles[name], 4) for name in names]


def _draw_growth(
    figure: Figure,
    top: float,
    lengths: dict[int, Rows],
    entries: Sequence[KeyEntry],
    styles: Styles,
) -> None:
    """A panel for each number that was measured, under a key."""
    numbers: dict[str, Number] = {"µs a token": _microseconds_a_token, "peak GiB": _gibibytes}
    measured = {
        label: number
        for label, number in numbers.items()
        if any(number(row) is not None for rows in lengths.values() for row in rows.values())
    }
    draw_key(figure, entries, WIDE, top)
    top += key_height(entries, WIDE)
    each = WIDE / max(1, len(measured))
    for column, (label, number) in enumerate(measured.items()):
        left = column * each
        text_at(figure, left, top + HEADING / 2, label, weight="bold")
        axes = axes_in(figure, left + CURVE_LEFT, top + HEADING, each - CURVE_LEFT - BETWEEN, CURVE)
        _draw_lines(axes, lengths, styles, number)


def _draw_lines(axes: Axes, lengths: dict[int, Rows], styles: Styles, number: Number) -> None:
    for name in dict.fromkeys(name for rows in lengths.values() for name in rows):
        points = [
            (length, value)
            for length, rows in lengths.items()
            if name in rows and (value := number(rows[name])) is not None
        ]
        color, line, marker = styles[name]
        axes.plot(
            [length for length, _ in points], [value for _, value in points],
            line, color=color, marker=marker, markersize=4,
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(lengths), [f"{length:,}" for length in lengths])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.grid()
    axes.set_xlabel("length; as many tokens a batch at each", loc="right", color=MUTED)


def _microseconds_a_token(row: Row) -> Optional[float]:
    return None if row.tokens_per_second is None else 1 / row.tokens_per_second / MICRO


def _gibibytes(row: Row) -> Optional[float]:
    return None if row.peak is None else row.peak / GIBIBYTE
