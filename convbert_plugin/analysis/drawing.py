"""Pictures of every kind: colours that stay apart, one plain style, SVG and PNG to the byte."""

import contextlib
import io
import warnings
from typing import Any, Iterable, Iterator, Mapping

from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.typing import LineStyleType

# Okabe and Ito's, which stay apart for the colour-blind, without the yellow, faint on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
Style = tuple[str, LineStyleType]
"""A colour, and how a line is dashed."""
Styles = Mapping[str, Style]
"""A style for each label."""
LINES: tuple[LineStyleType, ...] = ("-", ":", "-.")
STYLES: list[Style] = [(color, line) for line in LINES for color in COLORS]
# Inches: the width of a picture, and the height of a line of text.
WIDTH, LINE = 9.0, 0.17

SETTINGS: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    # Names come from files, and "$" in them is no formula.
    "text.parse_math": False,
    # Glyphs go along as outlines, and the same numbers give the same bytes.
    "svg.fonttype": "path",
    "svg.hashsalt": "convbert report",
}


def styles_of(labels: Iterable[str]) -> dict[str, Style]:
    """A colour and a line for each label, the same in every picture."""
    different = dict.fromkeys(labels)
    return {label: STYLES[number % len(STYLES)] for number, label in enumerate(different)}


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Draw alike whatever style the user has set for matplotlib."""
    with style.context(SETTINGS, after_reset=True), warnings.catch_warnings():
        # A letter that the font lacks is a box, which needs no warning.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def image_of(figure: Figure, image_format: str) -> bytes:
    """The bytes of a figure, drawn ``plain``; ``image_format``: "svg" or "png"."""
    image = io.BytesIO()
    metadata = {"Date": None} if image_format == "svg" else {}
    figure.savefig(image, format=image_format, dpi=150, metadata=metadata)
    return image.getvalue()
