"""Prepare files of SQuAD: questions and contexts to data. Imports neither torch nor fairseq."""

import contextlib
import json
import re
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from convbert_plugin.data.indexed_writing import LineWriter
from convbert_plugin.data.splits import TEST, TRAIN, VALID, VALID_NAMES
from convbert_plugin.data.squad.squad_description import (
    ANSWERS,
    CHANGED_ANSWERS,
    CONTEXT_TEXTS,
    CONTEXTS,
    IMPOSSIBLE,
    OFFSETS,
    PARAGRAPHS,
    QUESTION_TEXTS,
    QUESTIONS,
    PreparedSplit,
    PreparedSquad,
    write_description,
)
from convbert_plugin.data.squad.squad_encoding import (
    ENDS,
    Encoded,
    EncodedParagraph,
    EncodedQuestion,
    ParagraphEncoder,
)
from convbert_plugin.data.squad.squad_json import Paragraph, SquadReader
from convbert_plugin.data.squad.squad_windows import make_windows
from convbert_plugin.errors import UserError
from convbert_plugin.files.array_files import array_file
from convbert_plugin.files.sums import write_sums
from convbert_plugin.files.text_files import behind, plain_name
from convbert_plugin.formats.reading import Reading
from convbert_plugin.tokenization.tokenizer_interface import Tokenizer
from convbert_plugin.tokenization.unknown_pieces import PieceCounts, total_of

# Words in the names of files, in the order in which splits are prepared.
SPLIT_WORDS = {TRAIN: (TRAIN, "training"), VALID: VALID_NAMES, TEST: (TEST,)}
SUFFIX = ".json"
# Of the contexts that are encoded at once: enough for a worker, and little memory.
CHARACTERS_AT_ONCE = 1 << 17

EncodeAll = Callable[[Iterable[Sequence[Paragraph]]], Iterable[Encoded]]


class SplitSummary(NamedTuple):
    """What is to be said of a split: its windows as they are by default, and what was left out.

    ``changed``: the ids of questions whose right answer its tokens do not give back.
    """

    windows: int
    changed: list[str]
    skipped: list[str]
    warning: str


class Prepared(NamedTuple):
    """What has been prepared, and what is to be said of each split."""

    description: PreparedSquad
    summaries: dict[str, SplitSummary]


def files_of_splits(sources: Sequence[Path]) -> dict[str, Path]:
    """Which file is that of which split, by a word in its name: train, dev or test.

    A folder stands for the .json files in it whose names tell it. One file alone whose name does
    not is a test set.

    Raises:
        UserError: no file there; a name that does not tell; two files of one split.
    """
    found: dict[str, Path] = {}
    for source in sources:
        if not source.is_dir():
            files = {source: _split_of(source)}
            if files[source] is None and len(sources) > 1:
                raise UserError(
                    f"{source}: its name does not tell its split: put train, dev or test into it"
                )
        else:
            files = _files_in(source)
        for file, split in files.items():
            split = split or TEST
            if other := found.get(split):
                raise UserError(
                    f"{other} and {file}: two files of the split {split}: name the files to "
                    "prepare, one a split"
                )
            found[split] = file
    return {split: found[split] for split in SPLIT_WORDS if split in found}


def _files_in(folder: Path) -> dict[Path, Optional[str]]:
    files = {
        path: _split_of(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and plain_name(path).suffix == SUFFIX
    }
    told = {path: split for path, split in files.items() if split is not None}
    if not told and len(files) != 1:
        what = "none of its .json files has train, dev or test in its name" if files else "no .json"
        raise UserError(f"{folder}: {what}: name the files to prepare")
    return {**told} or files


def _split_of(path: Path) -> Optional[str]:
    words = set(re.split("[^a-z]+", plain_name(path).stem))
    found = [split for split, names in SPLIT_WORDS.items() if words & {*names}]
    return found[0] if len(found) == 1 else None


def prepare(
    files: Mapping[str, Path],
    destination: Path,
    tokenizer: Tokenizer,
    skip_broken: bool = False,
    encode_all: Optional[EncodeAll] = None,
    report_position: Callable[[int], None] = lambda position: None,
) -> Prepared:
    """Prepare the file of each split, into an empty folder.

    ``skip_broken``: pass over broken questions and paragraphs. ``encode_all`` encodes by
    ``ParagraphEncoder``, in order, perhaps in other processes. ``report_position`` gets the
    position in all files, one behind the other.

    Raises:
        UserError: as ``SquadReader``; a question or a context without a token.
    """
    encode_all = encode_all or partial(map, ParagraphEncoder(tokenizer))
    tokenizer.save(destination)
    splits, summaries, before = {}, {}, 0
    for split, path in files.items():
        reader = SquadReader(path, skip_broken, behind(before, report_position))
        folder = destination / split
        folder.mkdir()
        encoded = encode_all(_chunks(reader))
        splits[split], summaries[split] = _write(folder, reader, encoded, tokenizer)
        before += path.stat().st_size
    prepared = PreparedSquad(splits)
    write_description(destination, prepared)
    write_sums(destination)
    return Prepared(prepared, summaries)


def _chunks(paragraphs: Iterable[Paragraph]) -> Iterator[list[Paragraph]]:
    chunk: list[Paragraph] = []
    characters = 0
    for paragraph in paragraphs:
        chunk.append(paragraph)
        characters += len(paragraph.context)
        if characters >= CHARACTERS_AT_ONCE:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _write(
    folder: Path, reader: SquadReader, encoded: Iterable[Encoded], tokenizer: Tokenizer
) -> tuple[PreparedSplit, SplitSummary]:
    """Write what was encoded of a file."""
    counts: list[PieceCounts] = []
    with _SplitWriter(folder, len(tokenizer.symbols)) as writer:
        for part in encoded:
            for problem in part.broken:
                reader.pass_over(problem)
            for paragraph in part.paragraphs:
                writer.add(paragraph)
            counts.append(part.counts)
    if not writer.paragraphs:
        raise UserError(f"{reader.path}: no question in it that is not broken: nothing to prepare")
    split = PreparedSplit(
        reader.path.name,
        len(writer.contexts.sizes),
        len(writer.paragraphs),
        writer.answered,
        writer.impossible,
        reader.has_gold,
    )
    query_lengths = np.array(writer.questions.sizes) - ENDS
    context_lengths = np.array(writer.contexts.sizes)[writer.paragraphs] - ENDS
    windows = make_windows(query_lengths, context_lengths, Reading())
    warning = total_of(counts).warning(tokenizer.unknown)
    return split, SplitSummary(len(windows.first), writer.changed, reader.skipped, warning)


class _SplitWriter(contextlib.ExitStack):
    """The open files of a split, to which paragraphs are added."""

    def __init__(self, folder: Path, vocabulary_size: int):
        super().__init__()
        self.paragraphs: list[int] = []
        self.answered = 0
        self.impossible = 0
        self.changed: list[str] = []
        enter = self.enter_context
        self.contexts = enter(LineWriter(folder / CONTEXTS, vocabulary_size))
        self.questions = enter(LineWriter(folder / QUESTIONS, vocabulary_size))
        kinds: dict[str, tuple[Any, tuple[int, ...]]] = {
            OFFSETS: (np.int32, (2,)),
            PARAGRAPHS: (np.int32, ()),
            ANSWERS: (np.int32, (2,)),
            IMPOSSIBLE: (np.bool_, ()),
        }
        self._arrays = {
            name: enter(array_file(folder / f"{name}.npy", kind, *columns))
            for name, (kind, columns) in kinds.items()
        }
        self._texts = {
            name: enter((folder / name).open("w", encoding="utf-8", newline="\n"))
            for name in (CONTEXT_TEXTS, QUESTION_TEXTS, CHANGED_ANSWERS)
        }

    def add(self, paragraph: EncodedParagraph) -> None:
        number, asked = len(self.contexts.sizes), paragraph.questions
        self.contexts.add(paragraph.tokens)
        self.paragraphs += [number] * len(asked)
        columns = {
            OFFSETS: paragraph.offsets,
            PARAGRAPHS: [number] * len(asked),
            ANSWERS: [each.answer for each in asked],
            IMPOSSIBLE: [each.question.is_impossible for each in asked],
        }
        for name, column in columns.items():
            self._arrays[name].append(np.array(column))
        self._write(CONTEXT_TEXTS, paragraph.context)
        for each in asked:
            self._add_question(each)

    def _add_question(self, encoded: EncodedQuestion) -> None:
        name, text, answers, is_impossible = encoded.question
        self.questions.add(encoded.tokens)
        self.answered += bool(answers)
        self.impossible += is_impossible
        row = {"id": name, "question": text, "answers": [answer.text for answer in answers]}
        self._write(QUESTION_TEXTS, {**row, "is_impossible": is_impossible})
        if encoded.changed is not None:
            self.changed.append(name)
            given = {"id": name, "answer": answers[0].text, "tokens": encoded.changed}
            self._write(CHANGED_ANSWERS, given)

    def _write(self, name: str, value: object) -> None:
        self._texts[name].write(json.dumps(value, ensure_ascii=False) + "\n")
