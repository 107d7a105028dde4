"""Pictures of every kind: one plain style that pages can recolour, SVG and PNG to the byte."""

import contextlib
import io
import warnings
from typing import Any, Callable, Iterable, Iterator, Mapping, NamedTuple, Sequence

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from convbert_plugin.analysis.page import Picture
from convbert_plugin.analysis.theme import GRID, INK, MUTED, PAPER, Style

# Inches: the width of a picture, for narrow screens too, and the height of a line of text.
WIDE, NARROW, LINE = 7.5, 3.4, 0.19
# Points. At its own size, of 96 pixels an inch, letters have 12.7 pixels.
LETTERS = 9.5
# What a letter of the widest usual font takes of its size.
EM = 0.6
# Inches: a line of a key, and the sample of a line in it.
KEY_LINE, SAMPLE = 0.24, 0.32
# How a number is drawn with which others are compared.
REFERENCE: Mapping[str, Any] = {"color": MUTED, "linestyle": "--", "linewidth": 1.2, "zorder": 1}
# A PNG of the wide picture has 1,404 pixels: dots an inch, and inches around it.
DOTS, MARGIN = 180, 0.15

SETTINGS: dict[Any, Any] = {
    "font.size": LETTERS,
    "axes.titlesize": LETTERS,
    "axes.labelsize": LETTERS,
    "xtick.labelsize": LETTERS,
    "ytick.labelsize": LETTERS,
    "legend.fontsize": LETTERS,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.major.size": 0,
    "xtick.major.size": 3,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    # Names come from files, and "$" in them is no formula.
    "text.parse_math": False,
    # A page has letters of its own, and the same numbers give the same bytes.
    "svg.fonttype": "none",
    "svg.hashsalt": "convbert report",
}


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Draw alike whatever style the user has set for matplotlib."""
    with style.context(SETTINGS, after_reset=True), warnings.catch_warnings():
        # A letter that the font lacks is a box, which needs no warning.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def image_of(figure: Figure, image_format: str) -> bytes:
    """The bytes of a figure, drawn ``plain``; ``image_format``: "svg" (no ground) or "png"."""
    image = io.BytesIO()
    if image_format == "svg":
        figure.savefig(image, format="svg", metadata={"Date": None}, facecolor="none")
    else:
        width, height = figure.get_size_inches()
        around = Bbox([[-MARGIN, -MARGIN], [width + MARGIN, height + MARGIN]])
        figure.savefig(image, format=image_format, dpi=DOTS, facecolor=PAPER, bbox_inches=around)
    return image.getvalue()


def pictures(draw: Callable[[float, str], bytes], description: str) -> Picture:
    """A picture for wide and for narrow screens; ``draw``: of a width in inches, and a format."""
    return Picture(draw(WIDE, "svg"), description, draw(NARROW, "svg"))


def axes_in(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in inches, from the left and from the top of the figure."""
    whole_width, whole_height = figure.get_size_inches()
    bottom = whole_height - top - height
    box = (left / whole_width, bottom / whole_height, width / whole_width, height / whole_height)
    return figure.add_axes(box)


def text_at(figure: Figure, left: float, top: float, text: str, **look: Any) -> None:
    """A line of text whose middle is at a height, in inches from the top left of the figure."""
    width, height = figure.get_size_inches()
    figure.text(left / width, 1 - top / height, text, va="center_baseline", **look)


def inches(texts: Iterable[str]) -> float:
    """The width that the longest of some lines takes at most."""
    return EM * LETTERS / 72 * max(map(len, texts), default=0)


class KeyEntry(NamedTuple):
    """What a mark means, and how it is drawn: the arguments of a line of matplotlib."""

    words: str
    look: Mapping[str, Any]


def series_entry(words: str, series: Style, marker_size: float) -> KeyEntry:
    """Of a series, by the dashes of its line and its marker."""
    color, line, marker = series
    look = {"color": color, "linestyle": line, "marker": marker, "markersize": marker_size}
    return KeyEntry(words, look)


def seed_entries(average: str) -> list[KeyEntry]:
    """Of what ``draw_seeds`` draws, and of the bar at its ``average``."""
    bar = {"marker": "|", "markersize": 12, "markeredgewidth": 2.5}
    return [
        KeyEntry(
            "a seed", {"color": MUTED, "markerfacecolor": PAPER, "marker": "o", "linestyle": ""}
        ),
        KeyEntry(average, {"color": MUTED, **bar, "linestyle": ""}),
    ]


def draw_seeds(
    axes: Axes, values: Sequence[float], middle: float, reach: float, series: Style
) -> None:
    """A hollow mark for each value, up to ``reach`` from the ``middle`` of a lane: equal ones show.

    Both are heights in the units of the axes.
    """
    step = 2 * reach / max(1, len(values) - 1)
    first = middle - reach if len(values) > 1 else middle
    heights = [first + step * place for place in range(len(values))]
    axes.plot(
        values, heights, series.marker, color=series.color, markerfacecolor=PAPER, markersize=5,
        zorder=3,
    )  # fmt: skip


def key_height(entries: Sequence[KeyEntry], width: float) -> float:
    """How much of the top of a figure ``draw_key`` takes, in inches."""
    return KEY_LINE * (1 + max((row for row, _ in _key_places(entries, width)), default=-1))


def draw_key(figure: Figure, entries: Sequence[KeyEntry], width: float, top: float = 0) -> None:
    """What marks mean, in as many lines as a ``width`` needs, from ``top`` on: in inches."""
    whole_width, whole_height = figure.get_size_inches()
    places = _key_places(entries, width)
    for (row, left), (words, look) in zip(places, entries, strict=True):
        height = top + KEY_LINE * (row + 0.4)
        is_line = bool(look.get("linestyle", "-"))
        # A line has its marker in the middle.
        ends = [left, left + SAMPLE / 2, left + SAMPLE] if is_line else [left + SAMPLE / 2]
        line = Line2D(
            [end / whole_width for end in ends], [1 - height / whole_height] * len(ends),
            transform=figure.transFigure, markevery=slice(is_line, None, 2), **look,
        )  # fmt: skip
        figure.add_artist(line)
        text_at(figure, left + SAMPLE + 0.08, height, words)


def _key_places(entries: Sequence[KeyEntry], width: float) -> list[tuple[int, float]]:
    """The row and the left edge of each entry."""
    places, row, left = [], 0, 0.0
    for words, _ in entries:
        needed = SAMPLE + 0.08 + inches([words])
        if left and left + needed > width:
            row, left = row + 1, 0.0
        places.append((row, left))
        left += needed + 0.2
    return places
