"""Text files: plain or compressed, read in blocks of whole lines."""

import gzip
import lzma
import os
import re
import zlib
from pathlib import Path
from typing import BinaryIO, Callable, Iterator, NamedTuple, Union

from convbert_plugin.errors import UserError

PathLike = Union[str, os.PathLike]

BLOCK_BYTES = 1 << 20
# A line is tokenized as a whole, so memory is bounded only if lines are.
LONGEST_LINE_BYTES = 1 << 23
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
DECOMPRESSORS: dict[bytes, Callable] = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\x00": lzma.open}
ODD_WHITESPACE = re.compile(r"[^\S ]")


class Block(NamedTuple):
    """Whole lines of one file; ``first_line`` counts from 1."""

    path: str
    first_line: int
    data: bytes

    def lines(self) -> list[str]:
        """The lines without their ends. Raises UserError where the bytes are not UTF-8."""
        return split_lines(decode_utf8(self.data, self.path, self.first_line))


def decode_utf8(data: bytes, path: PathLike, first_line: int = 1) -> str:
    """Decode; a UserError names path, line, byte and column (in characters, from 1)."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        start = data.rfind(b"\n", 0, error.start) + 1
        line = first_line + data.count(b"\n", 0, error.start)
        column = len(data[start : error.start].decode("utf-8")) + 1
        raise UserError(
            f"{path}:{line}: not UTF-8 (byte 0x{data[error.start]:02x} at column {column}): "
            "convert the file first, for example with `iconv -f LATIN1 -t UTF-8`"
        ) from None


def split_lines(text: str) -> list[str]:
    r"""Split at "\n" and "\r\n" alone: \x85 or \u2028 are characters of a line, as for fairseq."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line[:-1] if line.endswith("\r") else line for line in lines]


def check_is_file(path: PathLike) -> None:
    """Raise UserError unless ``path`` can be read as a file (a pipe will do)."""
    if not os.path.exists(path):
        raise UserError(f"{path}: no such file")
    if os.path.isdir(path):
        raise UserError(f"{path}: a folder, where a file is expected")


def read_file(path: PathLike) -> bytes:
    """The bytes of a regular file. Raises UserError for anything else: a pipe might never end."""
    check_is_file(path)
    if not os.path.isfile(path):
        raise UserError(f"{path}: a pipe or a device, where a regular file is expected: replace it")
    return Path(path).read_bytes()


def read_text(path: PathLike) -> str:
    """The text of a regular file of UTF-8, without a byte order mark; errors as ``read_file``."""
    return decode_utf8(read_file(path), path).removeprefix("\ufeff")


def read_blocks(
    path: PathLike, report_position: Callable[[int], None] = lambda position: None
) -> Iterator[Block]:
    """Yield the text of a plain, gzip or xz file in blocks of about 1 MiB of whole lines.

    The kind is told by the first bytes, not by the name. A byte order mark is dropped.
    ``report_position`` gets the position in the file on disk, so compressed bytes.
    Errors: a missing file, a corrupt or truncated archive, a line of more than 8 MiB.
    """
    check_is_file(path)
    with open(path, "rb") as raw:
        magic = raw.peek(6)
        opener = next((o for m, o in DECOMPRESSORS.items() if magic.startswith(m)), None)
        stream = opener(raw) if opener else raw
        first_line = 1
        while data := _read_whole_lines(stream, path, first_line, opener is not None):
            if raw.seekable():
                report_position(raw.tell())
            lines = data.count(b"\n")
            yield Block(str(path), first_line, data.removeprefix(BYTE_ORDER_MARK))
            first_line += lines


def _read_whole_lines(stream: BinaryIO, path: PathLike, first_line: int, packed: bool) -> bytes:
    try:
        data = stream.read(BLOCK_BYTES)
        rest = b"" if data.endswith(b"\n") else stream.readline(LONGEST_LINE_BYTES)
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        if not packed:
            raise
        raise UserError(
            f"{path}: a corrupt or truncated archive ({error}): fetch or pack it again"
        ) from None
    if len(rest) == LONGEST_LINE_BYTES and not rest.endswith(b"\n"):
        raise UserError(
            f"{path}:{first_line + data.count(10)}: a line of more than "
            f"{LONGEST_LINE_BYTES >> 20} MiB: put one paragraph or sentence on a line"
        )
    return data + rest
