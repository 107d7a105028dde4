"""Words for people: on a page, in a picture, on a terminal."""

import re
from typing import Collection, Iterable, Optional, Sequence

LONGEST_LABEL = 130
# Where a table has nothing to tell.
ABSENT = "–"


def in_full(number: Optional[int]) -> str:
    """A count to its last digit; a dash for None."""
    return ABSENT if number is None else f"{number:,}"


def printable(text: str) -> str:
    """Show what is no printable character as its escape, such as those that move a cursor."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def wrap(text: str, width: int) -> str:
    """Break a text into lines, at the parts of paths too; a very long one loses its middle."""
    text = printable(text)
    if len(text) > LONGEST_LABEL:
        half = LONGEST_LABEL // 2
        text = f"{text[:half]}…{text[-half:]}"
    lines = [""]
    for piece in re.findall(rf"[^\s/_-]{{1,{width - 1}}}[\s/_-]?|[\s/_-]", text):
        if len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def aligned(
    header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[str]
) -> list[str]:
    """The lines of a table for a terminal; the columns ``numbers`` stand to the right."""
    lines = [list(map(printable, cells)) for cells in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if name in numbers else cell.ljust(width)
            for cell, width, name in zip(cells, widths, header, strict=True)
        ).rstrip()
        for cells in lines
    ]
