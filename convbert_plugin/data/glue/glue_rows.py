"""Rows of .tsv, .csv and .jsonl files to texts and labels; a row that is wrong is named."""

import contextlib
import json
from pathlib import Path
from typing import Any, Iterable, Iterator, NamedTuple, Optional, Sequence

from convbert_plugin.data.glue.glue_tasks import Column, GlueTask, Source
from convbert_plugin.errors import UserError, counted, listed, shown
from convbert_plugin.files.tables import NONE, open_table
from convbert_plugin.files.text_files import HALF_PAIR, composed, number, plain_name, read_blocks

JSON_SUFFIX = ".jsonl"


class Example(NamedTuple):
    """One or two texts, and the number of their class, their score, or None."""

    texts: tuple[str, ...]
    label: Optional[float]


class Rows(NamedTuple):
    """The examples of a file, and what is to be said of how they were read."""

    examples: list[Example]
    notes: list[str]


class Row(NamedTuple):
    """The line on which it begins (from 1), and what stands in the columns that are wanted."""

    line: int
    cells: dict[Column, str]


def read_rows(
    path: Path, source: Source, task: GlueTask, is_test: bool = False, quoting: str = NONE
) -> Rows:
    """Read the examples of one split; those of a test set may have labels or not.

    Line ends may be CRLF, the last one may be missing, and so may be a byte order mark. A letter
    with an accent may be composed or not, in labels and in names of columns.

    Raises:
        UserError: a missing column, file or row, a broken one, an unknown label, with file and
            line.
    """
    notes: list[str] = []
    if plain_name(path).suffix == JSON_SUFFIX:
        rows = _json_rows(path, source, is_test)
    else:
        rows = _table_rows(path, source, task, is_test, quoting, notes)
    if not rows:
        raise UserError(f"{path}: no row in it: a split needs at least one example")
    texts = (tuple(row.cells[column] for column in source.texts) for row in rows)
    labels: list[Optional[float]] = [None] * len(rows)
    if source.label in rows[0].cells:
        words = [row.cells[source.label] for row in rows]
        labels = [_label(word, task) for word in words]
        if is_test and labels.count(None) == len(labels):
            notes.append(f"its column {source.label!r} holds no label of {task.name}: not scored")
        elif None in labels:
            wrong = labels.index(None)
            raise UserError(f"{path}:{rows[wrong].line}: {_no_label(words[wrong], task)}")
    return Rows(list(map(Example, texts, labels)), notes)


def _wanted(source: Source, names: Sequence[Column], is_test: bool) -> list[Column]:
    """The columns to read: a test set needs no label."""
    if source.label is None or (is_test and source.label not in names):
        return [*source.texts]
    return [*source.texts, source.label]


def _table_rows(
    path: Path, source: Source, task: GlueTask, is_test: bool, quoting: str, notes: list[str]
) -> list[Row]:
    rows = open_table(path, quoting, source.texts).rows()
    # CoLA's have no header, and their texts in the last column.
    names: list[Column] = [] if source.has_header else [*range(int(source.texts[-1]) + 1)]
    if source.has_header:
        if (header := next(rows, None)) is None:
            return []
        names += map(composed, header[1])
    places = _places(path, names, _wanted(source, names, is_test))
    official = {other.label for other in task.sources.values()}
    if source.label is None and (unread := official & set(names)):
        notes.append(f"its column {unread.pop()!r} is not read: official test sets have no labels")
    found, broken = [], []
    for line, cells in _without_end(rows, len(names), notes):
        if len(cells) == len(names):
            found.append(Row(line, {name: cells[place] for name, place in places.items()}))
        elif source.skips_broken_rows:
            broken.append(line)
        else:
            raise UserError(
                f"{path}:{line}: {counted(len(cells), 'column')} where {len(names)} are expected: "
                "mend the row, or see whether this is another task's file"
            )
    if broken:
        passed_over = counted(len(broken), "broken row")
        notes.append(f"passed over {passed_over}, the first on line {broken[0]}")
    return found


def _places(path: Path, names: list[Column], wanted: list[Column]) -> dict[Column, int]:
    if missing := [name for name in wanted if name not in names]:
        raise UserError(
            f"{path}: no column {', '.join(map(repr, missing))} in its header "
            f"({listed([*map(str, names)])}): name another with --text or --label, or is it "
            "another task's file?"
        )
    if twice := next((name for name in wanted if names.count(name) > 1), None):
        raise UserError(f"{path}: its header has the column {twice!r} twice: rename one")
    return {name: names.index(name) for name in wanted}


def _without_end(
    rows: Iterable[tuple[int, list[str]]], width: int, notes: list[str]
) -> Iterator[tuple[int, list[str]]]:
    """All rows but empty lines at the end: those are rows where there is one column alone."""
    empty: list[tuple[int, list[str]]] = []
    for row in rows:
        if row[1] == [""]:
            empty.append(row)
            continue
        yield from empty
        empty.clear()
        yield row
    if empty and width == 1:
        notes.append(f"{counted(len(empty), 'empty row')} at its end, taken for empty texts")
        yield from empty


def _json_rows(path: Path, source: Source, is_test: bool) -> list[Row]:
    lines = [
        line for block in read_blocks(path) for line in enumerate(block.lines(), block.first_line)
    ]
    # Empty lines at the end are no rows; one in the middle is a broken one.
    while lines and not lines[-1][1]:
        lines.pop()
    objects = [(line, _json_object(path, line, text)) for line, text in lines]
    wanted = _wanted(source, [name for _, held in objects for name in held], is_test)
    for line, values in objects:
        if missing := [name for name in wanted if name not in values]:
            raise UserError(
                f"{path}:{line}: no {', '.join(map(repr, missing))} in this row: add it, or name "
                "another column with --text or --label"
            )
        for name in source.texts:
            if not isinstance(values[name], str) or HALF_PAIR.search(values[name]):
                raise UserError(f"{path}:{line}: {name!r} is not a text: write it as a string")
    return [
        Row(line, {name: _as_text(values[name]) for name in wanted}) for line, values in objects
    ]


def _json_object(path: Path, line: int, text: str) -> dict[Column, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise UserError(f"{path}:{line}: not a JSON object: write one on each line")
    return {composed(name): value for name, value in values.items()}


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _label(word: str, task: GlueTask) -> Optional[float]:
    """The number of a class, or a score; None where the word is neither."""
    word = composed(word.strip())
    if task.score_range is None:
        return task.labels.index(word) if word in task.labels else None
    lowest, highest = task.score_range
    with contextlib.suppress(ValueError):
        if lowest <= number(word) <= highest:
            return number(word)
    return None


def _no_label(word: str, task: GlueTask) -> str:
    word = shown(word.strip())
    if task.score_range is None:
        return f"the label {word} is none of {task.name}'s: {', '.join(task.labels)}"
    lowest, highest = task.score_range
    return f"the score {word} is no number from {lowest:g} to {highest:g}"
