"""Tables of .tsv and .csv: cells as they stand, or by the rules of csv.

By these a cell that holds a delimiter, a line end or a quotation mark stands between marks, and a
mark in it is doubled: so Python's csv module, pandas and Excel write it (RFC 4180).
"""

import contextlib
import csv
import io
import re
from pathlib import Path
from typing import Iterable, Iterator, NamedTuple, Optional, Sequence

from convbert_plugin.errors import UserError
from convbert_plugin.files.text_files import composed, read_blocks, split_lines

# Some countries' Excel separates with semicolons.
DELIMITERS = {".tsv": "\t", ".csv": ",;\t"}
CSV, NONE = "csv", "none"
# The csv module's own limit is 128 KiB.
LONGEST_CELL = (1 << 31) - 1

QUOTED_CELL = re.compile(r'(?<![^\t\r\n])"((?:[^"]|"")*+)"(?![^\t\r\n])')
# What is between marks for a reason.
NEEDS_MARKS = re.compile(r'""|[\t\r\n]')
FIRST_MARK = re.compile(r'(?<![^\t\r\n])"')
# What a writer of csv puts between marks.
STRAY = re.compile(r'"|\r(?!\n)')

TAKEN = (
    "cells between quotation marks are read by the rules of csv, without the marks: --quoting none "
    "keeps them"
)
KEPT = (
    "quotation marks are kept as they stand, because not all of these files follow the rules of "
    "csv: --quoting csv reads them by these"
)
OFFICIAL = (
    "read without quoting, as official files are, though it looks as if written by the rules of "
    "csv: then give --quoting csv"
)


class Table(NamedTuple):
    """The text of a table, and how it is to be read."""

    path: Path
    text: str
    delimiter: str
    quoting: str

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """The cells of each row, and the number of its first line (from 1).

        Raises UserError, with file and line, where the rules of csv are broken.
        """
        if self.quoting == NONE:
            for number, text in enumerate(split_lines(self.text), start=1):
                yield number, text.split(self.delimiter)
            return
        csv.field_size_limit(LONGEST_CELL)
        lines = io.StringIO(self.text, newline="")
        reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
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

    def has_one_width(self) -> bool:
        """Whether all rows have as many cells, empty lines apart."""
        try:
            return len({len(cells) for _, cells in self.rows() if cells != [""]}) < 2
        except UserError:
            return False


class Quoting(NamedTuple):
    """How a table is read, and what is to be said of that."""

    quoting: str
    note: Optional[str] = None


def open_table(path: Path, quoting: str, columns: Iterable[object]) -> Table:
    """A table with the first delimiter of its kind by which its header has the columns.

    Errors: as ``read_blocks``.
    """
    text = _text_of(path)
    tables = [Table(path, text, each, quoting) for each in DELIMITERS[path.suffix]]
    for table in tables:
        with contextlib.suppress(UserError):
            _, header = next(table.rows(), (1, []))
            if set(columns) <= set(map(composed, header)):
                return table
    return tables[0]


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
    marks = {path: _marks_of(path) for path in paths if path.suffix == ".tsv"}
    undecided = NONE if any(kind == NONE for kind, _ in marks.values()) else CSV
    chosen = {path: Quoting(CSV) for path in paths}
    for path, (kind, differs) in marks.items():
        if is_official:
            chosen[path] = Quoting(NONE, OFFICIAL if kind == CSV else None)
        elif not differs:
            chosen[path] = Quoting(NONE)
        else:
            kind = kind or undecided
            chosen[path] = Quoting(kind, TAKEN if kind == CSV else KEPT)
    return chosen


def _marks_of(path: Path) -> tuple[Optional[str], bool]:
    """By which rules a .tsv was written (None: by either), and whether the readings differ."""
    text = _text_of(path)
    if '"' not in text:
        return None, False
    cells = [match[1] for match in QUOTED_CELL.finditer(text)]
    is_csv = not STRAY.search(QUOTED_CELL.sub("", text))
    if not is_csv or not Table(path, text, "\t", CSV).has_one_width():
        return NONE, FIRST_MARK.search(text) is not None
    # No header of a plain table begins with a mark.
    is_certain = text.startswith('"') or any(map(NEEDS_MARKS.search, cells))
    return CSV if is_certain else None, True


def _text_of(path: Path) -> str:
    return "".join(block.text() for block in read_blocks(path))
