"""Rows of .tsv and .jsonl files to texts and labels; a row that is wrong is named."""

import json
import math
import re
from pathlib import Path
from typing import Iterator, NamedTuple, Optional

from convbert_plugin.data.glue.glue_tasks import Column, GlueTask, Source
from convbert_plugin.errors import UserError, listed, shown
from convbert_plugin.files.text_files import PathLike, read_blocks

JSON_SUFFIX = ".jsonl"
# Half of a pair of \u escapes, which is no character.
HALF_PAIR = re.compile(r"[\ud800-\udfff]")


class Example(NamedTuple):
    """One or two texts, and the number of their class, their score, or None."""

    texts: tuple[str, ...]
    label: Optional[float]


class Rows(NamedTuple):
    """The examples of a file, and the lines of rows that were passed over."""

    examples: list[Example]
    skipped: list[int]


Cells = dict[Column, str]
"""What stands in the columns of a row that are wanted; none of a row to pass over."""


def read_rows(path: PathLike, source: Source, task: GlueTask) -> Rows:
    """Read the examples of one split.

    A .tsv has no quoting, as the official readers take it: a quotation mark is one. Line ends
    may be CRLF, the last one may be missing, and so may be a byte order mark.

    Raises:
        UserError: a missing column, file or row, a broken one, an unknown label, with file and
            line.
    """
    examples, skipped = [], []
    reader = _json_rows if Path(path).suffix == JSON_SUFFIX else _tab_separated_rows
    wanted = source.texts if source.label is None else (*source.texts, source.label)
    for line, cells in reader(path, source, wanted):
        if not cells:
            skipped.append(line)
            continue
        label = None
        if source.label is not None:
            label = _label(cells[source.label].strip(), task, f"{path}:{line}")
        examples.append(Example(tuple(cells[column] for column in source.texts), label))
    if not examples:
        raise UserError(f"{path}: no row in it: a split needs at least one example")
    return Rows(examples, skipped)


def _lines(path: PathLike) -> Iterator[tuple[int, str]]:
    # Empty lines at the end are no rows; one in the middle is a broken one.
    empty: list[int] = []
    for block in read_blocks(path):
        for number, line in enumerate(block.lines(), start=block.first_line):
            if not line:
                empty.append(number)
                continue
            yield from ((skipped, "") for skipped in empty)
            empty.clear()
            yield number, line


def _tab_separated_rows(
    path: PathLike, source: Source, wanted: tuple[Column, ...]
) -> Iterator[tuple[int, Cells]]:
    lines = _lines(path)
    if source.has_header:
        header = next(lines, None)
        if header is None:
            return
        found = header[1].split("\t")
        names: list[Column] = [*found]
        missing = [name for name in wanted if name not in names]
        if missing:
            raise UserError(
                f"{path}: no column {', '.join(map(repr, missing))} in its header "
                f"({listed(found)}): name another with --text or --label, or is it another task's "
                "file?"
            )
        if twice := next((name for name in wanted if names.count(name) > 1), None):
            raise UserError(f"{path}: its header has the column {twice!r} twice: rename one")
        places = {name: names.index(name) for name in wanted}
        width = len(names)
    else:
        # CoLA's: the texts stand in the last column.
        places = {place: int(place) for place in wanted}
        width = max(places.values()) + 1
    for number, line in lines:
        cells = line.split("\t")
        if len(cells) == width:
            yield number, {column: cells[place] for column, place in places.items()}
        elif source.skips_broken_rows:
            yield number, {}
        else:
            raise UserError(
                f"{path}:{number}: {len(cells)} columns where {width} are expected: mend the row, "
                "or see whether this is another task's file"
            )


def _json_rows(
    path: PathLike, source: Source, wanted: tuple[Column, ...]
) -> Iterator[tuple[int, Cells]]:
    for number, line in _lines(path):
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise UserError(f"{path}:{number}: not a JSON object: write one on each line")
        missing = [name for name in wanted if name not in values]
        if missing:
            raise UserError(
                f"{path}:{number}: no {', '.join(map(repr, missing))} in this row: add it, or name "
                "another column with --text or --label"
            )
        for name in source.texts:
            if not isinstance(values[name], str) or HALF_PAIR.search(values[name]):
                raise UserError(f"{path}:{number}: {name!r} is not a text: write it as a string")
        yield number, {name: _as_text(values[name]) for name in wanted}


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _label(word: str, task: GlueTask, where: str) -> float:
    if task.score_range is not None:
        return _score(word, task.score_range, where)
    if word not in task.labels:
        raise UserError(
            f"{where}: the label {shown(word)} is none of {task.name}'s: {', '.join(task.labels)}"
        )
    return task.labels.index(word)


def _score(word: str, score_range: tuple[float, float], where: str) -> float:
    lowest, highest = score_range
    try:
        score = float(word)
    except ValueError:
        score = math.nan
    if not lowest <= score <= highest:
        raise UserError(
            f"{where}: the score {shown(word)} is no number from {lowest:g} to {highest:g}"
        )
    return score
