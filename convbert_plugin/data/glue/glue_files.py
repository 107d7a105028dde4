"""Prepared data: the folder that ``convbert prepare-glue`` makes and ``--task glue`` reads.

It is the layout of fairseq's sentence_prediction: ``input0/`` (with the dictionary and the
tokenizer), ``input1/`` for pairs, and ``label/``; ``task.json`` beside them says what was prepared.
"""

import itertools
import json
import re
from pathlib import Path
from typing import Callable, Iterable, Iterator, NamedTuple, Optional, Sequence, Sized

import numpy as np
import torch
from fairseq.data import Dictionary, indexed_dataset

from convbert_plugin.data.binarized import IndexedLines, open_lines
from convbert_plugin.data.glue.glue_rows import read_rows
from convbert_plugin.data.glue.glue_tasks import (
    CLASSIFICATION_METRICS,
    REGRESSION_METRICS,
    TASKS,
    TESTS,
    VALID,
    VALID_NAMES,
    GlueTask,
)
from convbert_plugin.data.vocabulary import Vocabulary, open_vocabulary
from convbert_plugin.errors import UserError
from convbert_plugin.files.json_files import typed, write_json
from convbert_plugin.files.tables import choose_quoting
from convbert_plugin.files.text_files import PathLike, number
from convbert_plugin.formats.answers import Answers
from convbert_plugin.tokenization.tokenizer import DICTIONARY_FILE, Tokenizer
from convbert_plugin.tokenization.unknown_pieces import PieceCounts, count_pieces, total_of

DESCRIPTION_FILE = "task.json"
INPUTS = ("input0", "input1")
LABELS = "label"
DATA_MAKER = "convbert prepare-glue"
# Texts that are tokenized at once, and after which the progress is shown.
TEXTS_AT_ONCE = 2048


class PreparedSplit(NamedTuple):
    """What is known of a split: its file, its rows, and how many of them each class has."""

    file: str
    rows: int
    label_counts: tuple[int, ...]


class PreparedTask(NamedTuple):
    """What ``task.json`` says, perhaps brought to the classes or the range of a model."""

    task: GlueTask
    splits: dict[str, PreparedSplit]

    @property
    def answers(self) -> Answers:
        return Answers(self.task.labels, self.task.score_range)

    def brought_to(self, answers: Answers) -> "PreparedTask":
        """The same with the order of the classes, or the range of the scores, of a model.

        Classes of other names are in the same order already.
        """
        if set(self.task.labels) != set(answers.labels):
            return self
        task = self.task._replace(labels=answers.labels, score_range=answers.score_range)
        places = [self.task.labels.index(word) for word in answers.labels]
        splits = {}
        for name, split in self.splits.items():
            counts = split.label_counts and tuple(split.label_counts[place] for place in places)
            splits[name] = split._replace(label_counts=counts)
        return self._replace(task=task, splits=splits)


class Prepared(NamedTuple):
    """What has been prepared, and what is to be said of the files and to be warned of."""

    description: PreparedTask
    notes: list[str]
    warnings: list[str]


class PreparedRows(NamedTuple):
    """A split as --task glue takes it: indexed lines of each text, and targets [n] or None.

    Targets are classes (int64), or scores brought to 0 to 1 (float64).
    """

    texts: list[IndexedLines]
    targets: Optional[np.ndarray]


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
    vocabulary = load_vocabulary(destination)
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
            lines = _token_ids(texts, tokenizer, vocabulary, counts)
            _write_lines(destination / name / split, lines, len(vocabulary))
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
        # Not finalized, which would order the classes by their frequency.
        path = destination / LABELS / DICTIONARY_FILE
        _labels_dictionary(task.labels, counted).save(str(path))
    write_json(destination / DESCRIPTION_FILE, _as_json(prepared))
    return Prepared(prepared, notes, warnings)


def read_description(folder: PathLike) -> PreparedTask:
    """What was prepared in a folder.

    Raises:
        UserError: no prepared data there, or a damaged description.
    """
    path = Path(folder) / DESCRIPTION_FILE
    if not path.is_file():
        raise UserError(f"{path} is missing: name a folder made by {DATA_MAKER}")
    try:
        return _from_json(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise UserError(f"{path}: damaged: make the folder anew with {DATA_MAKER}") from None


def load_vocabulary(folder: PathLike) -> Vocabulary:
    """The dictionary that a prepared folder was made with."""
    return open_vocabulary(Path(folder) / INPUTS[0], DATA_MAKER)


def open_rows(
    folder: PathLike, prepared: PreparedTask, split: str, vocabulary: Vocabulary
) -> PreparedRows:
    """Open one split.

    Raises:
        UserError: a split that was not prepared; files that are missing, damaged, of another
            vocabulary, or that do not belong to each other.
    """
    folder = Path(folder)
    if split not in prepared.splits:
        raise UserError(
            f"{folder}: holds no split {split}, only {', '.join(prepared.splits)}: prepare it from "
            f"the files with {DATA_MAKER}{_instead(split, prepared)}"
        )
    inputs = INPUTS if prepared.task.is_pair else INPUTS[:1]
    texts = [open_lines(folder / name / split, vocabulary, remedy=DATA_MAKER) for name in inputs]
    columns: list[Sized] = [*texts]
    targets = None
    if prepared.task.sources[split].label is not None:
        targets = _targets(folder / LABELS / split, prepared.task, read_description(folder).task)
        columns.append(targets)
    counts = {len(column) for column in columns}
    if counts != {prepared.splits[split].rows}:
        raise UserError(
            f"{folder}: the files of {split} have {' and '.join(map(str, sorted(counts)))} rows, "
            f"where {prepared.splits[split].rows} were prepared: make the folder anew with "
            f"{DATA_MAKER}"
        )
    return PreparedRows(texts, targets)


def _find(folder: Path, file: str) -> Optional[Path]:
    """The file in a folder; a validation set may have any of its names."""
    names = dict.fromkeys(re.sub("^dev", name, file) for name in VALID_NAMES)
    found = [folder / name for name in names if (folder / name).is_file()]
    if len(found) > 1:
        raise UserError(f"{found[0]} and {found[1].name}: two validation sets: remove one of them")
    return found[0] if found else None


def _instead(split: str, prepared: PreparedTask) -> str:
    """How to go on without a validation set."""
    if not split.startswith(VALID):
        return ""
    if VALID not in prepared.splits:
        return ", or leave it out with --disable-validation (dataset.disable_validation=true)"
    return f", or leave it out with --valid-subset {VALID} (dataset.valid_subset={VALID})"


def _write_labels(path: Path, labels: list[float], task: GlueTask) -> None:
    path.parent.mkdir(exist_ok=True)
    if task.is_regression:
        rows = "".join(f"{label!r}\n" for label in labels)
        path.with_name(f"{path.name}.label").write_text(rows)
        return
    dictionary = _labels_dictionary(task.labels)
    words = (task.labels[int(label)] for label in labels)
    lines = ([dictionary.index(word), dictionary.eos()] for word in words)
    _write_lines(path, lines, len(dictionary))


def _token_ids(
    texts: Iterable[str], tokenizer: Tokenizer, vocabulary: Vocabulary, counts: list[PieceCounts]
) -> Iterator[list[int]]:
    texts = iter(texts)
    while chunk := list(itertools.islice(texts, TEXTS_AT_ONCE)):
        pieces_of_texts = tokenizer.pieces_batch(chunk)
        counts.append(count_pieces(tokenizer, chunk, pieces_of_texts))
        for pieces in pieces_of_texts:
            yield [*map(vocabulary.index, pieces), vocabulary.eos()]


def _write_lines(path: Path, lines: Iterable[list[int]], vocabulary_size: int) -> None:
    path.parent.mkdir(exist_ok=True)
    builder = indexed_dataset.make_builder(f"{path}.bin", "mmap", vocab_size=vocabulary_size)
    for line in lines:
        builder.add_item(torch.IntTensor(line))
    builder.finalize(f"{path}.idx")


def _labels_dictionary(labels: tuple[str, ...], counts: tuple[int, ...] = ()) -> Dictionary:
    dictionary = Dictionary()
    for word, count in itertools.zip_longest(labels, counts, fillvalue=1):
        dictionary.add_symbol(word, count)
    return dictionary


def _targets(path: Path, task: GlueTask, written: GlueTask) -> np.ndarray:
    if task.score_range is not None:
        path = path.with_name(f"{path.name}.label")
        try:
            scores = np.array([number(line) for line in path.read_text().splitlines()])
        except (OSError, ValueError):
            raise UserError(
                f"{path} is missing or damaged: make the folder anew with {DATA_MAKER}"
            ) from None
        lowest, highest = task.score_range
        return (scores - lowest) / (highest - lowest)
    dictionary = _labels_dictionary(written.labels)
    lines = open_lines(path, dictionary, remedy=DATA_MAKER)
    labels = np.fromiter((int(lines[row][0]) for row in range(len(lines))), np.int64, len(lines))
    places = np.full(len(dictionary), -1)
    places[[dictionary.index(word) for word in task.labels]] = range(len(task.labels))
    return places[labels]


def _label_counts(labels: list[float], task: GlueTask) -> tuple[int, ...]:
    if not labels or task.is_regression:
        return ()
    return tuple(np.bincount(np.array(labels, int), minlength=len(task.labels)).tolist())


def _as_json(prepared: PreparedTask) -> dict:
    task = prepared.task._asdict()
    task["sources"] = {name: source._asdict() for name, source in task["sources"].items()}
    return {**task, "splits": {name: split._asdict() for name, split in prepared.splits.items()}}


def _from_json(values: dict) -> PreparedTask:
    splits = values.pop("splits")
    prepared = typed(PreparedTask, {"task": values, "splits": splits})
    if not _is_sound(*prepared):
        raise ValueError
    return prepared


def _is_sound(task: GlueTask, splits: dict[str, PreparedSplit]) -> bool:
    metrics = REGRESSION_METRICS if task.is_regression else CLASSIFICATION_METRICS
    return (
        bool(task.labels) != bool(task.score_range)
        and set() < set(task.metrics) <= set(metrics)
        and splits.keys() <= task.sources.keys()
        and all(
            len(split.label_counts) == (task.sources[name].label is not None) * len(task.labels)
            for name, split in splits.items()
        )
        # Predictions are written under these names: into the folder asked for, nowhere else.
        and all(Path(file).name == file for file in task.submissions.values())
    )
