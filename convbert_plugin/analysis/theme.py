"""The colours of pages and pictures, light and dark, and how series are told apart without them."""

from typing import Iterable, Literal, Mapping, NamedTuple

# What stands on PAPER: text, text of less weight, and lines behind what is drawn.
INK, MUTED, GRID, PAPER = "#1b1d21", "#5a5e66", "#dcdfe4", "#ffffff"
# Of series. They were searched for the largest least difference in normal, red-blind and
# green-blind sight (by Machado's matrices), and stand out from PAPER by 3 to 1 or more.
COLORS = ("#1f6ad8", "#8a2f04", "#3aa184", "#9b4a8c", "#8f7d10", "#4a1d9a")
# Of marked texts: what is right, and what was answered.
RIGHT, ANSWERED = "#c4ead9", "#b3570a"
DARK: Mapping[str, str] = {
    INK: "#e9e7e2",
    MUTED: "#a7adb6",
    GRID: "#3a3f48",
    PAPER: "#15171b",
    **dict(
        zip(
            COLORS,
            ("#5b9bff", "#f5854a", "#75f0cf", "#d8609c", "#fcca3d", "#bdb2f0"),
            strict=True,
        )
    ),
    RIGHT: "#1d5241",
    ANSWERED: "#f0a35e",
}
NAMES: Mapping[str, str] = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    PAPER: "paper",
    **{color: f"series-{number}" for number, color in enumerate(COLORS, start=1)},
    RIGHT: "right",
    ANSWERED: "answered",
}
Line = Literal["-", "--", ":", "-."]
# As matplotlib names them, with the dashes and the outlines that stand for them on a page.
DASHES: Mapping[Line, str] = {"-": "none", "--": "5 2.5", ":": "1.5 2", "-.": "6 2 1.5 2"}
MARKERS: Mapping[str, str] = {
    "o": "M4 0A4 4 0 1 1 -4 0A4 4 0 1 1 4 0Z",
    "s": "M-3.5 -3.5H3.5V3.5H-3.5Z",
    "^": "M0 -4.2L4.2 3.6H-4.2Z",
    "D": "M0 -4.6L4.6 0L0 4.6L-4.6 0Z",
    "v": "M0 4.2L4.2 -3.6H-4.2Z",
    "P": "M-1.4 -4.2H1.4V-1.4H4.2V1.4H1.4V4.2H-1.4V1.4H-4.2V-1.4H-1.4Z",
}


class Style(NamedTuple):
    """How a series is drawn: its colour, the dashes of its line and its marker."""

    color: str
    line: Line
    marker: str


Styles = Mapping[str, Style]
"""A style for each label."""


def _style(number: int) -> Style:
    lines, markers = list(DASHES), list(MARKERS)
    colors = len(COLORS)
    # Dashes change with every series, and after all colours come others.
    line = (number + number // (colors * len(lines) // 2)) % len(lines)
    return Style(COLORS[number % colors], lines[line], markers[number % len(markers)])


STYLES = [_style(number) for number in range(len(COLORS) * len(DASHES))]


def styles_of(labels: Iterable[str]) -> dict[str, Style]:
    """A style for each label, the same in every picture."""
    different = dict.fromkeys(labels)
    return {label: STYLES[number % len(STYLES)] for number, label in enumerate(different)}


def variables(colors: Mapping[str, str]) -> str:
    """The colours as variables of a style sheet: ``colors`` gives what stands for each."""
    return " ".join(f"--{name}: {colors[color]};" for color, name in NAMES.items())


LIGHT: Mapping[str, str] = {color: color for color in NAMES}
