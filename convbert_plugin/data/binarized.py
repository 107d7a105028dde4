"""Open the lines that fairseq-preprocess binarized, and see that they are what they should be."""

import os
import struct
from typing import Protocol

import numpy as np
from fairseq.data import Dictionary, data_utils
from torch import Tensor

from convbert_plugin.errors import UserError
from convbert_plugin.files.text_files import PathLike

# Lines whose token ids are compared with the vocabulary when data is opened.
LINES_CHECKED = 1000


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
) -> IndexedLines:
    """Indexed lines of ``path`` (.bin and .idx; with ``combine`` also path1, path2, ...).

    ``remedy`` is what makes such files, for the error.

    Raises:
        UserError: files that are missing, damaged, without text or of another vocabulary.
    """
    for file in (f"{path}.bin", f"{path}.idx"):
        if not os.path.isfile(file):
            raise UserError(f"{file} is missing: make it with {remedy}, or name another split")
    if os.path.getsize(f"{path}.bin") == 0:
        raise UserError(f"{path}.bin: no text in it; binarize a corpus that has some")
    try:
        lines = data_utils.load_indexed_dataset(str(path), vocabulary, combine=combine)
        has_random_access = not getattr(lines, "supports_prefetch", False)
        if has_random_access:
            lines[len(lines) - 1]
    except (AssertionError, ValueError, struct.error):
        raise UserError(
            f"{path}.bin does not fit its .idx, or is cut short: make both with {remedy}"
        ) from None
    if not has_random_access:
        raise UserError(
            f"{path}.bin: this format has no random access: binarize with --dataset-impl mmap"
        )
    _check_lines(f"{path}.bin", lines, vocabulary)
    return lines


def document_count(sizes: np.ndarray) -> int:
    """Runs of lines [n] that are not empty, an empty one being an end-of-sequence token alone."""
    is_text = sizes > 1
    return int(is_text[0]) + int((is_text[1:] & ~is_text[:-1]).sum())


def _check_lines(path: str, lines: IndexedLines, vocabulary: Dictionary) -> None:
    nonempty = np.flatnonzero(np.asarray(lines.sizes) > 1)
    if not len(nonempty):
        raise UserError(f"{path}: no text in it; binarize a corpus that has some")
    for index in nonempty[np.linspace(0, len(nonempty) - 1, LINES_CHECKED).astype(int)]:
        line = lines[int(index)]
        if line.max() >= len(vocabulary):
            raise UserError(
                f"{path}: token {int(line.max())} is not among the {len(vocabulary):,} of "
                "dict.txt; this data was made with another vocabulary: binarize it again"
            )
        if line[-1] != vocabulary.eos():
            raise UserError(
                f"{path}: line {index + 1} does not end in {vocabulary[vocabulary.eos()]}; this "
                "data was made with another vocabulary: binarize it again with this dict.txt"
            )
