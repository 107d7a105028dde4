"""Read lines of token ids as fairseq-preprocess writes them, with distrust.

fairseq maps these files into memory, so that a disk that fails, or a file that is written anew
while it is read, ends a run by SIGBUS without a word; here each line is read.
"""

import bisect
import mmap
import os
import struct
import threading
import weakref
import zlib
from pathlib import Path
from typing import Hashable, Iterator, Sequence, Union

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from convbert_plugin.data.indexed_writing import MAGIC, VERSION
from convbert_plugin.errors import UserError

HEADER = struct.Struct(f"<{len(MAGIC)}sQBQ")
# What fairseq calls the kinds of whole numbers.
KINDS = {
    code: np.dtype(kind)
    for code, kind in (
        *((1, np.uint8), (2, np.int8), (3, np.int16), (4, np.int32), (5, np.int64)),
        *((8, np.uint16), (9, np.uint32), (10, np.uint64)),
    )
}
OF_ANOTHER_FORMAT = b"TNTIDX\0\0"
LINES_AT_ONCE = 1 << 20
BYTES_AT_ONCE = 1 << 20


class UnreadableLine(Exception):
    """What ``UserError`` is to be where fairseq's threads and torch's workers ask for examples.

    They hand on what is an ``Exception`` alone, and the workers with their traceback before it.
    """

    @property
    def line(self) -> str:
        return str(self).strip().rpartition(f"{type(self).__name__}: ")[2]


def unreadable(line: str) -> BaseException:
    """The error for a line that cannot be read, whoever asks for it."""
    is_main = threading.current_thread() is threading.main_thread() and get_worker_info() is None
    return UserError(line) if is_main else UnreadableLine(line)


class LineFile:
    """The lines [n] of ``path`` .bin and .idx, and their ``sizes`` [n].

    ``remedy``: what makes such files, for errors. ``separator``: what lines end in. ``content``:
    what stands for all that both files hold, where it is known.

    Raises:
        UserError: files that are missing, cannot be read, are damaged, or do not belong together.
    """

    def __init__(self, path: Union[str, Path], remedy: str, separator: int):
        self.path, self.remedy, self.separator = str(path), remedy, separator
        self.content: Hashable = None
        self._opened: dict[str, int] = {}
        self._states: dict[str, tuple[int, int]] = {}
        for file in (self.data_path, self.index_path):
            if not os.path.isfile(file):
                raise UserError(f"{file} is missing: make it with {remedy}, or name another split")
        try:
            self._open()
        except OSError as error:
            raise self._not_read(error) from None

    @property
    def data_path(self) -> str:
        return f"{self.path}.bin"

    @property
    def index_path(self) -> str:
        return f"{self.path}.idx"

    @property
    def tokens(self) -> int:
        return self._bytes // self.kind.itemsize

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Tensor:
        """The token ids [T] of one line."""
        ids = self.ids(index)
        if ids[-1] != self.separator:
            raise unreadable(_changed(self.data_path))
        return torch.from_numpy(ids)

    def ids(self, index: int) -> np.ndarray:
        """The same, whatever it ends in."""
        begin, size = int(self.starts[index]), int(self.sizes[index]) * self.kind.itemsize
        if not 0 <= begin < begin + size <= self._bytes:
            raise unreadable(str(self._damaged(f"is damaged at line {index + 1:,}")))
        try:
            content = os.pread(self._file, size, begin)
        except OSError as error:
            raise unreadable(str(self._not_read(error))) from None
        if len(content) < size:
            raise unreadable(_changed(self.data_path))
        return np.frombuffer(content, self.kind).astype(np.int64)

    # For workers that are not forked.
    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.remedy, self.separator)

    def check_unchanged(self) -> None:
        """Raise UserError where an open file was written to since, and holds something else.

        It may have been touched, or copied over itself.
        """
        now = {path: _state(file) for path, file in self._opened.items()}
        written = [path for path, state in now.items() if state != self._states[path]]
        if not written:
            return
        is_cut = any(now[path][0] != self._states[path][0] for path in written)
        if is_cut or self._content_now() != self.content:
            raise UserError(_changed(written[0]))
        self._states = now

    def parts(self) -> Iterator[tuple[int, np.ndarray]]:
        """All tokens in their order, in parts: the number of the first, and the ids.

        A part is overwritten by the next.
        """
        buffer = np.empty(BYTES_AT_ONCE // self.kind.itemsize, self.kind)
        begin = 0
        while count := self._read_into(buffer, begin) // self.kind.itemsize:
            yield begin, buffer[:count]
            begin += count

    def index_content(self) -> int:
        """What stands for the index."""
        content, index = 0, np.frombuffer(self._index, np.uint8)
        for begin in range(0, len(index), BYTES_AT_ONCE):
            content = added_content(content, index[begin : begin + BYTES_AT_ONCE])
        return content

    def _content_now(self) -> int:
        content = self.index_content()
        for _, ids in self.parts():
            content = added_content(content, ids)
        return content

    def _read_into(self, buffer: np.ndarray, begin: int) -> int:
        place = begin * self.kind.itemsize
        try:
            return os.preadv(self._file, [buffer.view(np.uint8).data], place)
        except OSError as error:
            raise self._not_read(error) from None

    def lines_up_to(self, token: int) -> int:
        """How many lines begin at tokens up to the one of a number."""
        # numpy's search would copy all of what is not aligned.
        return bisect.bisect_right(self.starts, token * self.kind.itemsize)

    def _open(self) -> None:
        with open(self.index_path, "rb") as file:
            header = file.read(HEADER.size)
        if header.startswith(OF_ANOTHER_FORMAT):
            raise UserError(
                f"{self.data_path}: this format has no random access: binarize with --dataset-impl "
                "mmap"
            )
        if len(header) < HEADER.size:
            raise self._damaged("is cut short")
        magic, version, code, count = HEADER.unpack(header)
        if (magic, version) != (MAGIC, VERSION) or code not in KINDS:
            raise self._damaged("is no index of binarized lines")
        self.kind = KINDS[code]
        expected = HEADER.size + count * (np.int32().itemsize + np.int64().itemsize)
        if os.path.getsize(self.index_path) != expected:
            raise self._damaged("is cut short, or longer than it says")
        index = self._keep_open(self.index_path)
        self._index = mmap.mmap(index, 0, prot=mmap.PROT_READ)
        self.sizes = np.frombuffer(self._index, np.int32, count, HEADER.size)
        self.starts = np.frombuffer(self._index, np.int64, count, HEADER.size + self.sizes.nbytes)
        self._file = self._keep_open(self.data_path)
        self._bytes = os.fstat(self._file).st_size
        last = int(self.sizes[-1]) * self.kind.itemsize if count else 0
        if self._bytes != (int(self.starts[-1]) + last if count else 0):
            raise UserError(
                f"{self.data_path} does not fit its .idx, or is cut short: make both with "
                f"{self.remedy}"
            )

    def _keep_open(self, path: str) -> int:
        file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, file)
        self._opened[path], self._states[path] = file, _state(file)
        return file

    def check_index(self) -> None:
        """Raise UserError unless each line begins where the one before ends."""
        end = 0
        for begin in range(0, len(self), LINES_AT_ONCE):
            sizes = self.sizes[begin : begin + LINES_AT_ONCE].astype(np.int64)
            ends = end + np.cumsum(sizes * self.kind.itemsize)
            starts = self.starts[begin : begin + LINES_AT_ONCE]
            if sizes.min() < 1 or starts[0] != end or not np.array_equal(starts[1:], ends[:-1]):
                raise self._damaged("is damaged: lines of it overlap, or none holds some tokens")
            end = int(ends[-1])

    def _not_read(self, error: OSError) -> UserError:
        return UserError(
            f"{error.filename or self.data_path}: cannot be read ({error.strerror}): mend that, or "
            f"make it anew with {self.remedy}"
        )

    def _damaged(self, what: str) -> UserError:
        return UserError(
            f"{self.index_path}: {what}: make it and {self.data_path} with {self.remedy}"
        )


class JoinedLines:
    """The lines of several files, one after the other."""

    @property
    def content(self) -> tuple:
        return tuple(file.content for file in self.files)

    def __init__(self, files: Sequence[LineFile]):
        self.files = files
        self.sizes = np.concatenate([file.sizes for file in files])
        self._ends = np.cumsum([len(file) for file in files])

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Tensor:
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self.files[number][index - int(self._ends[number]) + len(self.files[number])]

    def check_unchanged(self) -> None:
        for file in self.files:
            file.check_unchanged()


def added_content(content: int, part: np.ndarray) -> int:
    """What stands for all that came before a part, and the part: four times as fast as its crc."""
    words = part.view(np.uint8)
    whole = len(words) // 8 * 8
    summed = int(words[:whole].view(np.uint64).sum()), zlib.crc32(words[whole:].tobytes())
    return zlib.crc32(repr(summed).encode(), content)


def _state(file: int) -> tuple[int, int]:
    """What changes where an open file is written to."""
    status = os.fstat(file)
    return status.st_size, status.st_mtime_ns


def _changed(path: str) -> str:
    return (
        f"{path}: was changed while the run read it: start the run again when it is whole, and it "
        "goes on from its last checkpoint"
    )
