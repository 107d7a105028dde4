"""Tables of .tsv and .csv: cells as they stand, or by the rules of csv.

By these a cell that holds a delimiter, a line end or a quotation mark stands between marks, and a
mark in it is doubled: so Python's csv module, pandas and Excel write it (RFC 4180).
"""

import contextlib
import csv
import io
import re
from pathlib import Path
from typing import Any, Iterable, Iterator, NamedTuple, Optional, Sequence

from convbert_plugin.errors import UserError, counted
from convbert_plugin.files.text_files import composed, plain_name, read_blocks

# Some countries' Excel separates with semicolons.
DELIMITERS = {".tsv": "\t", ".csv": ",;\t"}
CSV, NONE = "csv", "none"
# The csv module's own limit is 128 KiB.
LONGEST_CELL = (1 << 31) - 1

QUOTED_CELL = re.compile(r'(?<![^\t\r\n])"((?:[^"]++|"")*+)"(?![^\t\r\n])')
# What is between marks for a reason.
NEEDS_MARKS = re.compile(r'""|[\t\r\n]')
FIRST_MARK = re.compile(r'(?<![^\t\r\n])"')
# What a writer of csv puts between marks.
STRAY = re.compile(r'"|\r(?!\n)')

TAKEN = (
    "cells between quotation marks are read by the rules of csv, without the marks{rows}: "
    "--quoting none keeps them"
)
KEPT = (
    "quotation marks are kept as they stand, because {reason}: --quoting csv reads all "
    "files by them"
)
BROKEN = "this file does not follow the rules of csv"
BESIDE_BROKEN = "this file fits both readings, and {other} does not follow the rules of csv"
OFFICIAL = (
    "read without quoting, as official files are, though it looks as if written by the rules of "
    "csv: then give --quoting csv"
)


class Table(NamedTuple):
    """A table, and how it is to be read."""

    path: Path
    delimiter: str
    quoting: str

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """The cells of each row, and the number of its first line (from 1).

        Raises UserError, with file and line, where the rules of csv are broken; else as
        ``read_blocks``.
        """
        if self.quoting == NONE:
            for block in read_blocks(self.path):
                for number, text in enumerate(block.lines(), start=block.first_line):
                    yield number, text.split(self.delimiter)
            return
        reader = _reader(_lines_of(self.path), self.delimiter)
        line = 1
        try:
            for cells in reader:
                yield line, cells or [""]
                line = reader.line_num + 1
        except csv.Error as error:
            raise UserError(
                f"{self.path}:{line}: not by the rules of csv ({error}): double the quotation "
                "marks in this row, or read them as they stand with --quoting none"
            ) from None

    def has(self, columns: Iterable[object]) -> bool:
        """Whether the header has these columns."""
        with contextlib.suppress(UserError):
            _, header = next(self.rows(), (1, []))
            return set(columns) <= set(map(composed, header))
        return False

    def is_even(self) -> bool:
        """Whether all rows have as many cells."""
        with contextlib.suppress(UserError):
            return len({len(cells) for _, cells in self.rows()}) == 1
        return False


class Quoting(NamedTuple):
    """How a table is read, and what is to be said of that."""

    quoting: str
    note: Optional[str] = None


def open_table(path: Path, quoting: str, columns: Iterable[object]) -> Table:
    """A table with the first delimiter of its kind by which its header has the columns.

    The header of one column has it by all of them: there the cells tell.
    """
    tables = [Table(path, delimiter, quoting) for delimiter in DELIMITERS[plain_name(path).suffix]]
    fitting = [table for table in tables if table.has(columns)] or tables
    if len(fitting) == 1:
        return fitting[0]
    return next(filter(Table.is_even, fitting), fitting[0])


def choose_quoting(
    paths: Sequence[Path], is_official: bool, given: Optional[str] = None
) -> dict[Path, Quoting]:
    """By which rules each table is read, where none is ``given`` for all.

    Official ones without quoting, a .csv by the rules of csv; an own .tsv as it was written, which
    its quotation marks tell. Where they fit both readings, those of the other files tell; and where
    these do not either, the rules of csv hold.
    """
    if given:
        return dict.fromkeys(paths, Quoting(given))
    marks = {path: _marks_of(path) for path in paths if plain_name(path).suffix == ".tsv"}
    plain = next((path for path, (kind, _) in marks.items() if kind == NONE), None)
    chosen = {path: Quoting(CSV) for path in paths}
    for path, (kind, differs) in marks.items():
        if is_official:
            chosen[path] = Quoting(NONE, OFFICIAL if kind == CSV else None)
        elif not differs:
            chosen[path] = Quoting(NONE)
        else:
            chosen[path] = _explained(path, kind, plain)
    return chosen


def _explained(path: Path, kind: Optional[str], plain: Optional[Path]) -> Quoting:
    """How a .tsv is read where that matters; ``plain``: one that was not written as csv."""
    if kind == NONE:
        return Quoting(NONE, KEPT.format(reason=BROKEN))
    if kind is None and plain:
        return Quoting(NONE, KEPT.format(reason=BESIDE_BROKEN.format(other=plain.name)))
    stand, by_csv = (_count_rows(Table(path, "\t", quoting)) for quoting in (NONE, CSV))
    rows = f" ({counted(by_csv, 'row')}; {stand:,} as they stand)" if stand != by_csv else ""
    return Quoting(CSV, TAKEN.format(rows=rows))


def _count_rows(table: Table) -> int:
    """The rows below the header; empty ones at the end are rows of one column alone."""
    count = width = 0
    for number, (_, cells) in enumerate(table.rows()):
        width = width or len(cells)
        if width == 1 or cells != [""]:
            count = number
    return count


def _marks_of(path: Path) -> tuple[Optional[str], bool]:
    """By which rules a .tsv was written (None: by either), and whether the readings differ."""
    has_marks = differs = False
    for block in read_blocks(path):
        has_marks |= '"' in block.text()
        differs |= FIRST_MARK.search(block.text()) is not None
    if not differs:
        return NONE if has_marks else None, False
    return _written_by(path), True


def _written_by(path: Path) -> Optional[str]:
    taken: list[str] = []

    def lines() -> Iterator[str]:
        for line in _lines_of(path):
            taken.append(line)
            yield line

    is_certain, width = False, None
    try:
        for number, cells in enumerate(_reader(lines(), "\t")):
            row = "".join(taken)
            taken.clear()
            width = width or len(cells)
            if STRAY.search(QUOTED_CELL.sub("", row)) or len(cells) not in (0, width):
                return NONE
            quoted = [match[1] for match in QUOTED_CELL.finditer(row)]
            # No header of a plain table begins with a mark.
            is_certain |= any(map(NEEDS_MARKS.search, quoted)) or (number == 0 and row[0] == '"')
    except csv.Error:
        return NONE
    return CSV if is_certain else None


def _reader(lines: Iterator[str], delimiter: str) -> Any:
    csv.field_size_limit(LONGEST_CELL)
    return csv.reader(lines, delimiter=delimiter, strict=True)


def _lines_of(path: Path) -> Iterator[str]:
    """Lines with their ends, which may be those of old Macintoshes."""
    for block in read_blocks(path):
        yield from io.StringIO(block.text(), newline="")
