"""Arrays written to .npy files row by row, so that none is ever whole in memory."""

import contextlib
import struct
from pathlib import Path
from typing import Any, BinaryIO, Iterator

import numpy as np

# Its length does not depend on how many rows there will be.
HEADER_BYTES = 128


class ArrayFile:
    """A file of an array [rows, *columns] that is open."""

    def __init__(self, file: BinaryIO, kind: np.dtype, columns: tuple[int, ...]):
        self._file = file
        self.kind = kind
        self.columns = columns
        self.rows = 0

    def append(self, rows: np.ndarray) -> None:
        self._file.write(rows.astype(self.kind).tobytes())
        self.rows += len(rows)


@contextlib.contextmanager
def array_file(path: Path, kind: Any, *columns: int) -> Iterator[ArrayFile]:
    """A .npy file of an array [rows, *columns], to which rows are appended."""
    with open(path, "wb") as file:
        file.write(bytes(HEADER_BYTES))
        array = ArrayFile(file, np.dtype(kind), columns)
        yield array
        file.seek(0)
        file.write(_header(array.kind, (array.rows, *columns)))


def _header(kind: np.dtype, shape: tuple[int, ...]) -> bytes:
    """What stands before the numbers. Source: numpy's format 1.0."""
    words = {"descr": kind.str, "fortran_order": False, "shape": shape}
    begin = b"\x93NUMPY\x01\x00"
    text = str(words).ljust(HEADER_BYTES - len(begin) - 3) + "\n"
    return begin + struct.pack("<H", len(text)) + text.encode("latin1")
