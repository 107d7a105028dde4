"""The tables and the JSON of a run: every figure beside what the machine can do."""

from typing import Any, Callable, Iterable, NamedTuple, Optional, Sequence

from convbert_plugin.analysis.bench.comparing import Outcome, Result
from convbert_plugin.analysis.bench.costs import FORMULAS
from convbert_plugin.analysis.bench.machine import Machine
from convbert_plugin.analysis.bench.timing import Spread, spread, times_as_fast
from convbert_plugin.analysis.profiling.recipes import RECIPES
from convbert_plugin.analysis.quantities import MEBIBYTE
from convbert_plugin.analysis.words import ABSENT

UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))


class Row(NamedTuple):
    """One variant in numbers, None where there is none.

    ``seconds``: a call; ``speedup``: times as fast as the baseline, by rounds; ``share``: of the
    machine's products in that precision; ``of_data_sheet``: of the maker's; ``of_copy``: seconds
    of copying as much over its own; ``peak``: bytes.
    """

    name: str
    rounds: int
    failure: str
    seconds: Optional[Spread] = None
    speedup: Optional[Spread] = None
    tokens_per_second: Optional[float] = None
    flops_per_second: Optional[float] = None
    share: Optional[float] = None
    of_data_sheet: Optional[float] = None
    bytes_per_second: Optional[float] = None
    of_copy: Optional[float] = None
    peak: Optional[int] = None
    difference: Optional[float] = None
    difference_allowed: Optional[float] = None


def rows_of(result: Result, machine: Machine, dtype: str) -> list[Row]:
    """The variants of a result, in their order."""
    timed = {one.name: one.seconds for one in result.outcomes if one.seconds}
    copy = next((timed[name] for name in timed if name == result.copying), None)
    return [_row(one, timed.get(result.baseline), copy, machine, dtype) for one in result.outcomes]


def _row(
    one: Outcome,
    baseline: Optional[Sequence[float]],
    copy: Optional[Sequence[float]],
    machine: Machine,
    dtype: str,
) -> Row:
    difference = one.difference
    row = Row(
        one.name,
        len(one.seconds),
        one.failure,
        peak=one.peak,
        difference=difference.found if difference else None,
        difference_allowed=difference.allowed if difference else None,
    )
    if not one.seconds:
        return row
    seconds = spread(one.seconds)
    work, rate = one.work, one.work.flops / seconds.median
    peak_rate, sheet = machine.gemm.get(dtype), machine.data_sheet.get(dtype)
    return row._replace(
        seconds=seconds,
        speedup=times_as_fast(one.seconds, baseline) if baseline else None,
        tokens_per_second=work.tokens / seconds.median if work.tokens else None,
        flops_per_second=rate or None,
        share=rate / peak_rate if rate and peak_rate else None,
        of_data_sheet=rate / sheet if rate and sheet else None,
        bytes_per_second=work.bytes / seconds.median if work.bytes else None,
        of_copy=1 / times_as_fast(copy, one.seconds).median if copy else None,
    )


def in_units(seconds: float) -> str:
    """Three digits in the unit that fits."""
    unit, size = next((pair for pair in UNITS if seconds >= pair[1]), UNITS[-1])
    return f"{seconds / size:{'.3g' if seconds < 1000 * size else ',.0f'}} {unit}"


def _times(row: Row) -> str:
    low, high = (f"{edge:.2f}" for edge in row.speedup[1:]) if row.speedup else ("", "")
    return f"{row.speedup.median:.2f} ({low}–{high})" if row.speedup else ABSENT


def _seconds(row: Row) -> str:
    if row.seconds is None:
        return ABSENT
    median, low, high = map(in_units, row.seconds)
    return f"{median} ({low}–{high})"


def _number(name: str, form: str, size: float = 1) -> Callable[[Row], str]:
    def words(row: Row) -> str:
        value = getattr(row, name)
        return ABSENT if value is None else format(value / size, form)

    return words


# A heading, and what stands under it; columns that no row fills are left out.
COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("", lambda row: row.name),
    ("seconds (quartiles)", _seconds),
    ("times as fast", _times),
    ("share of copying", _number("of_copy", ".1%")),
    ("GB/s", _number("bytes_per_second", ",.1f", 1e9)),
    ("tokens/s", _number("tokens_per_second", ",.0f")),
    ("GFLOP/s", _number("flops_per_second", ",.0f", 1e9)),
    ("MFU", _number("share", ".1%")),
    ("of the data sheet", _number("of_data_sheet", ".1%")),
    ("peak MiB", _number("peak", ",.0f", MEBIBYTE)),
    ("differs by", _number("difference", ".1g")),
)


def result_text(result: Result, machine: Machine, dtype: str) -> str:
    """The table of a comparison."""
    rows = rows_of(result, machine, dtype)
    timed = [row for row in rows if row.seconds]
    rounds = max((row.rounds for row in rows), default=0)
    lines = [f"{result.part}: {result.title} ({rounds} rounds; 1 = {result.baseline})"]
    cells = [[words(row) for row in timed] for _, words in COLUMNS]
    filled = [
        [heading, *cells]
        for (heading, _), cells in zip(COLUMNS, cells, strict=True)
        if any(cell != ABSENT for cell in cells)
    ]
    lines += _aligned(zip(*filled, strict=True)) if timed else []
    lines += [f"  not timed: {row.name}: {row.failure}" for row in rows if row.failure]
    lines += [f"  {note}" for note in result.notes]
    return "\n".join(lines) + "\n"


def _aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """The first column to the left, the others to the right."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  " + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
        for row in table
    ]


def machine_text(machine: Machine) -> str:
    """What it is and can do."""
    rates = ", ".join(f"{name} {rate / 1e9:,.0f}" for name, rate in machine.gemm.items())
    sheet = {name: rate for name, rate in machine.data_sheet.items() if rate}
    of_maker = ", ".join(f"{name} {rate / 1e9:,.0f}" for name, rate in sheet.items())
    versions = ", ".join(f"{name} {version}" for name, version in machine.libraries.items())
    return (
        f"{machine.processor}; {machine.device}; {machine.threads} threads\n{versions}\n"
        f"matrix products: {rates} GFLOP/s"
        + (f" (data sheet: {of_maker})" if sheet else "")
        + f"; copying: {machine.copy / 1e9:,.1f} GB/s, read and written\n"
    )


def formulas_text() -> str:
    """How the figures are counted."""
    return "".join(f"{name}: {words}\n" for name, words in FORMULAS.items())


def recipe_text(name: str, arch: str, tokens_per_second: float) -> str:
    """The released pretraining at the measured rate of a variant."""
    recipe = RECIPES[arch]
    return (
        f"  {name}: {recipe.hours(tokens_per_second):,.1f} hours at this rate for the released "
        f"pretraining of {arch}, {recipe.updates:,} updates of {recipe.batch} x {recipe.length}\n"
    )


def result_json(result: Result, machine: Machine, dtype: str) -> dict[str, Any]:
    """All numbers of a comparison in plain values, every round of them."""
    rows = rows_of(result, machine, dtype)
    return {
        "part": result.part,
        "title": result.title,
        "baseline": result.baseline,
        "notes": list(result.notes),
        "variants": [
            {
                **{name: _plain(value) for name, value in row._asdict().items()},
                "every_round": list(one.seconds),
                "work": one.work._asdict(),
            }
            for row, one in zip(rows, result.outcomes, strict=True)
        ],
    }


def _plain(value: Any) -> Any:
    return value._asdict() if isinstance(value, Spread) else value
