"""Prepare a task of GLUE: tables and texts to binarized data. Imports neither torch nor fairseq."""

import itertools
import re
from pathlib import Path
from typing import Callable, Iterable, Iterator, NamedTuple, Optional, Sequence

import numpy as np

from convbert_plugin.data.glue.glue_description import (
    INPUTS,
    LABELS,
    PreparedSplit,
    PreparedTask,
    write_description,
)
from convbert_plugin.data.glue.glue_rows import read_rows
from convbert_plugin.data.glue.glue_tasks import TASKS, TESTS, GlueTask
from convbert_plugin.data.indexed_writing import (
    END,
    dictionary_symbols,
    write_dictionary,
    write_lines,
)
from convbert_plugin.data.splits import VALID_NAMES
from convbert_plugin.data.token_ids import TokenIds
from convbert_plugin.errors import UserError
from convbert_plugin.files.sums import write_sums
from convbert_plugin.files.tables import choose_quoting
from convbert_plugin.files.text_files import files_named
from convbert_plugin.tokenization.tokenizer import DICTIONARY_FILE, Tokenizer
from convbert_plugin.tokenization.unknown_pieces import PieceCounts, count_pieces, total_of

# Texts that are tokenized at once, and after which the progress is shown.
TEXTS_AT_ONCE = 2048


class Prepared(NamedTuple):
    """What has been prepared, and what is to be said of the files and to be warned of."""

    description: PreparedTask
    notes: list[str]
    warnings: list[str]


def prepare(
    task: GlueTask,
    source_folder: Path,
    destination: Path,
    tokenizer: Tokenizer,
    track: Callable[[Sequence, str], Iterable] = lambda examples, words: examples,
    quoting: Optional[str] = None,
) -> Prepared:
    """Binarize every split of a task whose file is in the folder, into an empty folder.

    ``track`` gets the examples that are worked through and words for it, to show the progress.
    ``quoting``: how tables are read; None as ``choose_quoting`` has it.

    Raises:
        UserError: no file of the task there, or two of one split; as ``read_rows``.
    """
    found = {split: _find(source_folder, source.file) for split, source in task.sources.items()}
    present = {split: path for split, path in found.items() if path}
    if not present:
        files = ", ".join(source.file for source in task.sources.values())
        raise UserError(f"{source_folder}: none of {task.name}'s files in it ({files})")
    chosen = choose_quoting([*present.values()], task.name in TASKS, quoting)
    tokenizer.save(destination / INPUTS[0])
    sources, splits = {**task.sources}, {}
    notes, warnings = [], []
    for split, path in present.items():
        source, how = sources[split], chosen[path]
        rows = read_rows(path, source, task, split in TESTS, how.quoting)
        notes += [f"{path.name}: {note}" for note in (how.note, *rows.notes) if note]
        counts: list[PieceCounts] = []
        for column, name in enumerate(INPUTS[: len(source.texts)]):
            examples = track(rows.examples, f"{split}, {name}")
            texts = (example.texts[column] for example in examples)
            lines = _token_ids(texts, tokenizer, counts)
            write_lines(destination / name / split, lines, len(tokenizer.symbols))
        if warning := total_of(counts).warning(tokenizer.unknown):
            warnings.append(f"{path.name}: {warning}")
        labels = [example.label for example in rows.examples if example.label is not None]
        if labels:
            _write_labels(destination / LABELS / split, labels, task)
        else:
            sources[split] = source._replace(label=None)
        splits[split] = PreparedSplit(path.name, len(rows.examples), _label_counts(labels, task))
    prepared = PreparedTask(task._replace(sources=sources), splits)
    if counted := next((split.label_counts for split in splits.values() if split.label_counts), ()):
        write_dictionary(destination / LABELS / DICTIONARY_FILE, task.labels, counted)
    write_description(destination, prepared)
    write_sums(destination)
    return Prepared(prepared, notes, warnings)


def _find(folder: Path, file: str) -> Optional[Path]:
    """The file in a folder, perhaps packed; a validation set may have any of its names."""
    names = dict.fromkeys(re.sub("^dev", name, file) for name in VALID_NAMES)
    found = [path for name in names for path in files_named(folder, name)]
    if len(found) > 1:
        what = "two validation sets" if len(names) > 1 else "two files of one set"
        raise UserError(f"{found[0]} and {found[1].name}: {what}: remove one of them")
    return found[0] if found else None


def _write_labels(path: Path, labels: list[float], task: GlueTask) -> None:
    path.parent.mkdir(exist_ok=True)
    if task.is_regression:
        rows = "".join(f"{label!r}\n" for label in labels)
        path.with_name(f"{path.name}.label").write_text(rows)
        return
    symbols = dictionary_symbols(task.labels)
    lines = ([symbols[task.labels[int(label)]], symbols[END]] for label in labels)
    write_lines(path, lines, len(symbols))


def _token_ids(
    texts: Iterable[str], tokenizer: Tokenizer, counts: list[PieceCounts]
) -> Iterator[list[int]]:
    ids, texts = TokenIds(tokenizer), iter(texts)
    while chunk := list(itertools.islice(texts, TEXTS_AT_ONCE)):
        pieces_of_texts = tokenizer.pieces_batch(chunk)
        counts.append(count_pieces(tokenizer, chunk, pieces_of_texts))
        yield from map(ids.line, pieces_of_texts)


def _label_counts(labels: list[float], task: GlueTask) -> tuple[int, ...]:
    if not labels or task.is_regression:
        return ()
    return tuple(np.bincount(np.array(labels, int), minlength=len(task.labels)).tolist())
