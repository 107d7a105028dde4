"""Open the lines that fairseq-preprocess binarized, and see that they are what they should be."""

import logging
import os
from typing import Protocol, Union

import numpy as np
from fairseq.data import Dictionary
from torch import Tensor

from convbert_plugin.data.indexed_reading import JoinedLines, LineFile, added_content
from convbert_plugin.errors import UserError, counted
from convbert_plugin.files.text_files import PathLike

logger = logging.getLogger(__name__)

StoredLines = Union[LineFile, JoinedLines]

# Lines of a file that are looked at where the whole is not yet read.
LINES_GLANCED_AT = 64


class IndexedLines(Protocol):
    """Binarized lines [n] and their lengths; each is token ids [T] that end in the separator."""

    @property
    def sizes(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Tensor: ...


def open_lines(
    path: PathLike,
    vocabulary: Dictionary,
    combine: bool = False,
    remedy: str = "fairseq-preprocess",
) -> StoredLines:
    """Indexed lines of ``path`` (.bin and .idx; with ``combine`` also path1, path2, ...).

    All of them are read once, and seen to hold ids of the vocabulary. ``remedy`` is what makes such
    files, for the error.

    Raises:
        UserError: files that are missing, damaged, without text or of another vocabulary.
    """
    files = _files(path, vocabulary, combine, remedy)
    for file in files:
        file.check_index()
        file.content = _checked_content(file, vocabulary)
    logger.info(f"{path}: {counted(sum(map(len, files)), 'line')}")
    return files[0] if len(files) == 1 else JoinedLines(files)


def glance_at_lines(
    path: PathLike,
    vocabulary: Dictionary,
    combine: bool = False,
    remedy: str = "fairseq-preprocess",
) -> None:
    """See early that ``open_lines`` will probably open a path, however large its files are.

    Raises:
        UserError: as ``open_lines``, as far as the sizes of files and some of their lines tell.
    """
    for file in _files(path, vocabulary, combine, remedy):
        count = min(len(file), LINES_GLANCED_AT)
        for index in np.linspace(0, len(file) - 1, count).astype(int).tolist():
            ids = file.ids(index)
            _check_ids(file, vocabulary, ids, int(file.starts[index]) // file.kind.itemsize)
            if ids[-1] != vocabulary.eos():
                raise _not_ended(file, vocabulary, index + 1)


def _files(path: PathLike, vocabulary: Dictionary, combine: bool, remedy: str) -> list[LineFile]:
    """The files of a path, opened; there is text in them."""
    paths = _parts_told(str(path)) if combine else [str(path)]
    files = [LineFile(each, remedy, vocabulary.eos()) for each in paths]
    if sum(file.tokens - len(file) for file in files) == 0:
        raise UserError(f"{path}.bin: no text in it; binarize a corpus that has some")
    return files


def parts_of(path: str) -> list[str]:
    """It, and with numbers behind it those that fairseq takes as one with it."""
    paths = [path]
    while _is_there(following := f"{path}{len(paths)}"):
        paths.append(following)
    return paths


def _parts_told(path: str) -> list[str]:
    """The same, with a word on what is left out."""
    paths = parts_of(path)
    following, beyond = (f"{path}{len(paths) + more}" for more in (0, 1))
    if _is_there(beyond):
        logger.warning(f"{beyond}.bin: is left out, for {following}.bin is missing before it")
    return paths


def _is_there(path: str) -> bool:
    """One of both files is enough: what lacks the other is to be told."""
    return any(os.path.lexists(f"{path}{suffix}") for suffix in (".bin", ".idx"))


def _checked_content(file: LineFile, vocabulary: Dictionary) -> int:
    """What stands for a file, all tokens of which are seen to be sound."""
    content, last = file.index_content(), file.tokens - 1
    for first, ids in file.parts():
        _check_ids(file, vocabulary, ids, first)
        # Of the lines that end here, those that begin with what follows, and the very last one.
        begin, end = file.lines_up_to(first), file.lines_up_to(first + len(ids))
        ends = file.starts[begin:end] // file.kind.itemsize - 1 - first
        if first <= last < first + len(ids):
            ends = np.append(ends, last - first)
        others = np.flatnonzero(ids[ends] != vocabulary.eos())
        if len(others):
            raise _not_ended(file, vocabulary, begin + int(others[0]))
        content = added_content(content, ids)
    return content


def _check_ids(file: LineFile, vocabulary: Dictionary, ids: np.ndarray, first: int) -> None:
    """Of tokens from number ``first`` on."""
    lowest = int(ids.min()) if file.kind.kind == "i" else 0
    if lowest >= 0 and int(ids.max()) < len(vocabulary):
        return
    place = int(np.flatnonzero((ids < 0) | (ids >= len(vocabulary)))[0])
    raise UserError(
        f"{file.data_path}: token {int(ids[place])} on line {file.lines_up_to(first + place):,} is "
        f"not among the {len(vocabulary):,} of dict.txt; this data is damaged, or was made with "
        f"another vocabulary: binarize it again with {file.remedy}"
    )


def _not_ended(file: LineFile, vocabulary: Dictionary, line: int) -> UserError:
    return UserError(
        f"{file.data_path}: line {line:,} does not end in {vocabulary[vocabulary.eos()]}; this "
        "data is damaged, or was made with another vocabulary: binarize it again with "
        f"{file.remedy} and this dict.txt"
    )


def document_count(sizes: np.ndarray) -> int:
    """Runs of lines [n] that are not empty, an empty one being an end-of-sequence token alone."""
    is_text = sizes > 1
    return int(is_text[0]) + int((is_text[1:] & ~is_text[:-1]).sum())
