"""Open data that ``convbert prepare-squad`` made, as ``--task squad`` takes it."""

import json
from pathlib import Path
from tokenize import TokenError
from typing import Any, NamedTuple

import numpy as np

from convbert_plugin.data.binarized import IndexedLines, open_lines
from convbert_plugin.data.splits import check_is_prepared
from convbert_plugin.data.squad.squad_description import (
    ANSWERS,
    CONTEXT_TEXTS,
    CONTEXTS,
    DATA_MAKER,
    IMPOSSIBLE,
    OFFSETS,
    PARAGRAPHS,
    QUESTION_TEXTS,
    QUESTIONS,
    PreparedSplit,
    PreparedSquad,
)
from convbert_plugin.data.vocabulary import Vocabulary, open_vocabulary
from convbert_plugin.errors import UserError
from convbert_plugin.files.json_files import typed
from convbert_plugin.files.sums import check_sums
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.tokenization.tokenizer_files import is_of_tokenizer


class QuestionTexts(NamedTuple):
    """Of each question [Q] its id and text, its right answers, and whether it has none by the file.

    ``contexts``: the texts of the paragraphs [P].
    """

    ids: list[str]
    questions: list[str]
    contexts: list[str]
    gold: list[tuple[str, ...]]
    is_impossible: list[bool]


class PreparedQuestions(NamedTuple):
    """A split as --task squad takes it: P paragraphs, Q questions, N tokens of all contexts.

    ``contexts`` [P] and ``questions`` [Q]: indexed lines. ``paragraphs`` [Q]: the number of each
    question's. ``answers`` [Q, 2]: the first and the last token, in its context, of the first right
    answer; -1 where there is none. ``impossible`` [Q]. ``offsets`` [N, 2]: the characters
    [start, end) of each token in the text of its context. ``first_tokens`` [P + 1]: where those of
    a paragraph begin among the N.
    """

    folder: Path
    contexts: IndexedLines
    questions: IndexedLines
    paragraphs: np.ndarray
    answers: np.ndarray
    impossible: np.ndarray
    offsets: np.ndarray
    first_tokens: np.ndarray

    def texts(self) -> QuestionTexts:
        """The texts, which are read only now. Raises UserError where they are damaged."""
        contexts: list[str] = _rows(self.folder / CONTEXT_TEXTS, len(self.contexts), str)
        rows: list[_Row] = _rows(self.folder / QUESTION_TEXTS, len(self.questions), _Row)
        texts = QuestionTexts(
            [row.id for row in rows],
            [row.question for row in rows],
            contexts,
            [row.answers for row in rows],
            [row.is_impossible for row in rows],
        )
        if not _are_texts_of(self, texts):
            raise _torn(self.folder)
        return texts


class _Row(NamedTuple):
    id: str
    question: str
    answers: tuple[str, ...]
    is_impossible: bool


def load_vocabulary(folder: PathLike) -> Vocabulary:
    """The dictionary that a prepared folder was made with, and its tokenizer."""
    vocabulary = open_vocabulary(Path(folder), DATA_MAKER)
    check_sums(folder, is_of_tokenizer, DATA_MAKER)
    return vocabulary


def open_questions(
    folder: PathLike, prepared: PreparedSquad, split: str, vocabulary: Vocabulary
) -> PreparedQuestions:
    """Open one split.

    Raises:
        UserError: a split that was not prepared; files that are missing, damaged, of another
            vocabulary, or that do not belong to each other.
    """
    check_is_prepared(split, prepared.splits, Path(folder), DATA_MAKER)
    path = Path(folder) / split
    contexts, questions = (
        open_lines(path / name, vocabulary, remedy=DATA_MAKER) for name in (CONTEXTS, QUESTIONS)
    )
    first_tokens = np.cumsum([0, *(np.asarray(contexts.sizes, np.int64) - 1)])
    rows, tokens = len(questions), int(first_tokens[-1])
    opened = PreparedQuestions(
        path,
        contexts,
        questions,
        _array(path, PARAGRAPHS, np.int32, (rows,)),
        _array(path, ANSWERS, np.int32, (rows, 2)),
        _array(path, IMPOSSIBLE, np.bool_, (rows,)),
        _array(path, OFFSETS, np.int32, (tokens, 2)),
        first_tokens,
    )
    check_sums(folder, lambda path: path.parts[0] == split, DATA_MAKER)
    if not _belong_together(opened, prepared.splits[split]):
        raise _torn(path)
    return opened


def _torn(path: Path) -> UserError:
    return UserError(
        f"{path}: its files do not belong to each other, or are damaged: make the folder anew "
        f"with {DATA_MAKER}"
    )


def _array(folder: Path, name: str, kind: Any, shape: tuple[int, ...]) -> np.ndarray:
    """An array of a kind and shape.

    It is read into memory: of a file that is cut while it is mapped, SIGBUS would tell.
    """
    path = folder / f"{name}.npy"
    try:
        # Mapped first, for a header may promise more than there is.
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        array = np.array(mapped) if mapped.dtype == kind and mapped.shape == shape else None
    # What is no .npy is taken for a pickle, or an archive; numpy reads a header as Python.
    except (OSError, ValueError, EOFError, AttributeError, OverflowError, SyntaxError, TokenError):
        array = None
    if array is None:
        raise UserError(
            f"{path} is missing or damaged, or belongs to other files: make the folder anew with "
            f"{DATA_MAKER}"
        )
    return array


def _belong_together(opened: PreparedQuestions, split: PreparedSplit) -> bool:
    paragraphs, answers, impossible = opened.paragraphs, opened.answers, opened.impossible
    if (len(opened.contexts), len(opened.questions)) != (split.paragraphs, split.questions):
        return False
    if paragraphs.min() < 0 or paragraphs.max() >= split.paragraphs:
        return False
    has_answer = answers[:, 0] >= 0
    begin, last = answers.T
    lengths = np.diff(opened.first_tokens)[paragraphs]
    if set(paragraphs.tolist()) != {*range(split.paragraphs)} or lengths.min() < 1:
        return False
    return bool(
        np.where(has_answer, (begin <= last) & (last < lengths), (answers == -1).all(1)).all()
        and not (has_answer & impossible).any()
        and impossible.sum() == split.impossible
        and has_answer.sum() <= split.answered
        and (opened.offsets[:, 0] >= 0).all()
        and (opened.offsets[:, 0] <= opened.offsets[:, 1]).all()
    )


def _are_texts_of(opened: PreparedQuestions, texts: QuestionTexts) -> bool:
    """Whether tokens lie within the contexts, right answers too, and each question has its id."""
    ends = np.maximum.reduceat(opened.offsets[:, 1], opened.first_tokens[:-1])
    held = [texts.contexts[paragraph] for paragraph in opened.paragraphs]
    has_text = np.array([bool(gold) for gold in texts.gold])
    return (
        len({*texts.ids}) == len(texts.ids)
        and all(end <= len(context) for end, context in zip(ends, texts.contexts, strict=True))
        and all(
            answer in context
            for context, gold in zip(held, texts.gold, strict=True)
            for answer in gold
        )
        and bool((has_text | (opened.answers[:, 0] < 0)).all())
        and np.array_equal(opened.impossible, texts.is_impossible)
    )


def _rows(path: Path, count: int, kind: Any) -> list[Any]:
    """The rows of a .jsonl, which has so many."""
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            rows = [typed(kind, json.loads(line)) for line in file]
    except (OSError, ValueError, OverflowError, RecursionError):
        rows = []
    if len(rows) != count:
        raise UserError(f"{path} is missing or damaged: make the folder anew with {DATA_MAKER}")
    return rows
