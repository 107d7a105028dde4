"""Profiles as text: a row a number, a column a model."""

from typing import Any, Callable, Iterator, Sequence

from convbert_plugin.analysis.profiling.operations import PARTS
from convbert_plugin.analysis.profiling.profiles import CONVENTIONS, ENCODER, GENERATOR, MEMORY
from convbert_plugin.analysis.quantities import MEBIBYTE
from convbert_plugin.analysis.words import ABSENT

Profile = dict[str, Any]
Row = tuple[str, Callable[[Profile], Any], Callable[[Any], str]]
"""Its heading, the number of a profile (None: there is none), and its words."""

OPTIONS = (
    *("objective", "batch_size", "tokens_per_sample", "max_update"),
    *("device", "autocast_dtype"),
)
MEMORY_ROWS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer",
    "activations": "activations, at most",
    "peak": "all together, at most",
}


def profiles_text(profiles: Sequence[Profile]) -> str:
    """All tables, and how their numbers are counted."""
    blocks = [
        _block("", [_option_row(name) for name in OPTIONS], profiles),
        _block("parameters", _parameter_rows(), profiles),
        *(_block(f"FLOPs, {name}", _flop_rows(name), profiles) for name in CONVENTIONS),
        _block("MiB for a batch", _memory_rows(), profiles),
    ]
    notes = [f"FLOPs, {name}: {words}." for name, words in CONVENTIONS.items()]
    return "\n".join([*blocks, *notes, f"MiB: {MEMORY}.", ""])


def _block(title: str, rows: Sequence[Row], profiles: Sequence[Profile]) -> str:
    lines = [[title, *(profile["name"] for profile in profiles)]]
    for heading, number, words in rows:
        numbers = [number(profile) for profile in profiles]
        if any(one is not None for one in numbers):
            cells = [ABSENT if one is None else words(one) for one in numbers]
            lines.append([f"  {heading}", *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join([first.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]).rstrip() + "\n"
        for first, *cells in lines
    )


def _option_row(name: str) -> Row:
    return name.replace("_", " "), lambda profile: profile["options"][name], _words


def _words(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _part_rows(find: Callable[[Profile], Any], words: Callable[[Any], str]) -> Iterator[Row]:
    """``find``: the parts of the networks of a profile."""

    def number(network: str, part: str) -> Callable[[Profile], Any]:
        return lambda profile: find(profile).get(network, {}).get(part)

    for network in (ENCODER, GENERATOR):
        for part in PARTS:
            yield f"{network}: {part}", number(network, part), words


def _parameter_rows() -> list[Row]:
    def total(name: str) -> Callable[[Profile], Any]:
        return lambda profile: profile["parameters"][name]

    return [
        *_part_rows(lambda profile: profile["parameters"]["parts"], _words),
        ("one layer of the encoder", total("layer"), _words),
        ("encoder, without head", total("encoder"), _words),
        ("all", total("all"), _words),
    ]


def _flop_rows(convention: str) -> list[Row]:
    def total(name: str) -> Callable[[Profile], Any]:
        return lambda profile: profile["flops"][convention][name]

    return [
        *_part_rows(lambda profile: profile["flops"][convention]["parts"], _in_digits),
        ("a token through the encoder, forward", total("encoder_forward"), _in_digits),
        ("a token, forward", total("forward"), _in_digits),
        ("a token, backward", total("backward"), _in_digits),
        ("an update", total("update"), _in_powers),
        ("the whole training", total("training"), _in_powers),
    ]


def _memory_rows() -> list[Row]:
    def mebibytes(name: str) -> Callable[[Profile], Any]:
        return lambda profile: profile["memory"][name] / MEBIBYTE

    return [(heading, mebibytes(name), _in_digits) for name, heading in MEMORY_ROWS.items()]


def _in_digits(number: float) -> str:
    return f"{number:,.0f}"


def _in_powers(number: float) -> str:
    return f"{number:.3g}"
