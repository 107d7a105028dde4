"""Pictures of every kind: one plain style that pages can recolour, SVG and PNG to the byte."""

import contextlib
import io
import warnings
from typing import Any, Callable, Iterator, Sequence

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from convbert_plugin.analysis.page import Picture
from convbert_plugin.analysis.theme import COLORS, GRID, INK, MUTED, PAPER, Style, Styles, styles_of

__all__ = [
    "COLORS",
    "GRID",
    "INK",
    "LINE",
    "MUTED",
    "NARROW",
    "PAPER",
    "WIDE",
    "WIDTH",
    "Style",
    "Styles",
    "axes_in",
    "image_of",
    "inches",
    "pictures",
    "plain",
    "styles_of",
]  # fmt: skip
# Inches: the width of a picture, for narrow screens too, and the height of a line of text.
WIDE, NARROW, LINE = 7.5, 3.4, 0.19
WIDTH = WIDE
# Points. At its own size, of 96 pixels an inch, letters have 12.7 pixels.
LETTERS = 9.5
# A PNG of the wide picture has 1,350 pixels.
PNG_DOTS = 180

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
    is_svg = image_format == "svg"
    metadata = {"Date": None} if is_svg else {}
    figure.savefig(
        image, format=image_format, dpi=PNG_DOTS, metadata=metadata,
        facecolor="none" if is_svg else PAPER,
    )  # fmt: skip
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


def inches(texts: Sequence[str]) -> float:
    """The width that the longest of some texts takes at most."""
    return 0.6 * LETTERS / 72 * max(map(len, texts), default=0)
