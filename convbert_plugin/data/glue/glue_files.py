"""Open data that ``convbert prepare-glue`` made, as ``--task glue`` takes it."""

from pathlib import Path
from typing import NamedTuple, Optional, Sequence, Sized

import numpy as np
from fairseq.data import Dictionary

from convbert_plugin.data.binarized import IndexedLines, open_lines
from convbert_plugin.data.glue.glue_description import (
    DATA_MAKER,
    INPUTS,
    LABELS,
    PreparedTask,
    read_description,
)
from convbert_plugin.data.glue.glue_tasks import GlueTask
from convbert_plugin.data.splits import check_is_prepared
from convbert_plugin.data.vocabulary import Vocabulary, open_vocabulary
from convbert_plugin.errors import UserError
from convbert_plugin.files.sums import check_sums
from convbert_plugin.files.text_files import PathLike, number
from convbert_plugin.tokenization.tokenizer_files import is_of_tokenizer


class PreparedRows(NamedTuple):
    """A split as --task glue takes it: indexed lines of each text, and targets [n] or None.

    Targets are classes (int64), or scores brought to 0 to 1 (float64).
    """

    texts: Sequence[IndexedLines]
    targets: Optional[np.ndarray]


def load_vocabulary(folder: PathLike) -> Vocabulary:
    """The dictionary that a prepared folder was made with, and its tokenizer."""
    vocabulary = open_vocabulary(Path(folder) / INPUTS[0], DATA_MAKER)
    check_sums(folder, is_of_tokenizer, DATA_MAKER)
    return vocabulary


def open_rows(
    folder: PathLike, prepared: PreparedTask, split: str, vocabulary: Vocabulary
) -> PreparedRows:
    """Open one split.

    Raises:
        UserError: a split that was not prepared; files that are missing, damaged, of another
            vocabulary, or that do not belong to each other.
    """
    folder = Path(folder)
    check_is_prepared(split, prepared.splits, folder, DATA_MAKER)
    inputs = INPUTS if prepared.task.is_pair else INPUTS[:1]
    texts = [open_lines(folder / name / split, vocabulary, remedy=DATA_MAKER) for name in inputs]
    columns: list[Sized] = [*texts]
    targets = None
    if prepared.task.sources[split].label is not None:
        written = read_description(folder)
        targets = _targets(folder / LABELS / split, prepared.task, written, split)
        columns.append(targets)
    counts = {len(column) for column in columns}
    if counts != {prepared.splits[split].rows}:
        raise UserError(
            f"{folder}: the files of {split} have {' and '.join(map(str, sorted(counts)))} rows, "
            f"where {prepared.splits[split].rows} were prepared: make the folder anew with "
            f"{DATA_MAKER}"
        )
    check_sums(folder, lambda path: len(path.parts) > 1 and path.stem == split, DATA_MAKER)
    return PreparedRows(texts, targets)


def _targets(path: Path, task: GlueTask, written: PreparedTask, split: str) -> np.ndarray:
    """As the model has them; ``written``: what the folder says."""
    if task.score_range is not None:
        path = path.with_name(f"{path.name}.label")
        try:
            scores = np.array([number(line) for line in path.read_text().splitlines()])
            _check_range(scores, written.task)
        except (OSError, ValueError):
            raise _damaged(path) from None
        lowest, highest = task.score_range
        return (scores - lowest) / (highest - lowest)
    dictionary = Dictionary()
    for word in written.task.labels:
        dictionary.add_symbol(word)
    lines = open_lines(path, dictionary, remedy=DATA_MAKER)
    labels = np.fromiter((int(lines[row][0]) for row in range(len(lines))), np.int64, len(lines))
    counted = np.bincount(labels, minlength=len(dictionary)).tolist()
    expected = [0] * dictionary.nspecial + [*written.splits[split].label_counts]
    if len(lines) == written.splits[split].rows and counted != expected:
        raise _damaged(Path(f"{path}.bin"))
    places = np.full(len(dictionary), -1)
    places[[dictionary.index(word) for word in task.labels]] = range(len(task.labels))
    return places[labels]


def _check_range(scores: np.ndarray, task: GlueTask) -> None:
    """Raise ValueError for scores that are not of the task's range, or not finite."""
    lowest, highest = task.score_range or (-np.inf, np.inf)
    if not ((scores >= lowest) & (scores <= highest)).all():
        raise ValueError


def _damaged(path: Path) -> UserError:
    return UserError(f"{path} is missing or damaged: make the folder anew with {DATA_MAKER}")
