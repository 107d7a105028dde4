"""Text files: plain or compressed, read in blocks of whole lines."""

import bz2
import codecs
import contextlib
import gzip
import io
import lzma
import os
import re
import unicodedata
import zlib
from io import BufferedReader
from pathlib import Path, PurePath
from typing import Callable, Iterator, Mapping, NamedTuple, Optional, TypeVar, Union

from convbert_plugin.errors import UserError, shown

PathLike = Union[str, os.PathLike]
Kind = TypeVar("Kind")

BLOCK_BYTES = 1 << 20
# A line is tokenized as a whole, so memory is bounded only if lines are.
LONGEST_LINE_BYTES = 1 << 23
# Of a file that is read as a whole: far beyond any vocabulary, tokenizer or record.
MOST_BYTES = 1 << 28
# As many bytes tell the kind of a file, by the tables that follow.
KIND_BYTES = 265
DECOMPRESSORS: dict[bytes, Callable] = {
    rb"\x1f\x8b": gzip.open,
    rb"\xfd7zXZ\x00": lzma.open,
    rb"BZh[1-9](1AY&SY|\x17rE8P\x90)": bz2.open,
}
OTHER_FILES = {
    rb"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it first with `zstd -d`",
    rb"\x04\x22\x4d\x18": "compressed with lz4: unpack it first with `lz4 -d`",
    rb"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it first with `7z x`",
    rb"PK\x03\x04": "a zip archive, or an office document: unpack it first, or save it as a text",
    rb"(?s).{257}ustar(  )?\0": "a tar archive: unpack it first with `tar -xf`",
    rb"%PDF-": "a PDF document: make a text of it first, for example with `pdftotext`",
}
# The mark of UTF-32 begins with that of UTF-16.
WIDE_ENCODINGS = {
    rb"\xff\xfe\0\0|\0\0\xfe\xff": "UTF-32",
    rb"\xff\xfe|\xfe\xff": "UTF-16",
}
# So many control bytes among the first ones, zeros among them, are those of UTF-16 without its mark
# (4 stands beside each letter of Cyrillic), or of no text.
FIRST_BYTES, MOST_CONTROL_BYTES = 8000, 1 / 8
CONTROL_BYTE = re.compile(rb"[\0-\x08\x0e-\x1f]")
UNMARKED, FAR_MORE = ("UTF-16LE", "UTF-16BE"), 4
ASCII = re.compile(r"[\t\n\r -~]")
# The last of them is a line feed by the wrong order.
NO_TEXT = re.compile(r"[\0-\x08\x0e-\x1f\x7f\ufffd\u0a00]")
PACKED = re.compile(r"\.(gz|xz|bz2|zst|lz4|zip)$")
# Half of a pair of \u escapes, which is no character.
HALF_PAIR = re.compile(r"[\ud800-\udfff]")
ODD_WHITESPACE = re.compile(r"[^\S ]")
NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|nan)", re.ASCII | re.IGNORECASE)


class Block(NamedTuple):
    """Whole lines of one file; ``first_line`` counts from 1."""

    path: str
    first_line: int
    data: bytes

    def text(self) -> str:
        """The text. Raises UserError where the bytes are not UTF-8."""
        return decode_utf8(self.data, self.path, self.first_line)

    def lines(self) -> list[str]:
        """The lines without their ends; errors as ``text``."""
        return split_lines(self.text())


def decode_utf8(data: bytes, path: PathLike, first_line: int = 1) -> str:
    """Decode; a UserError names path, line, byte and column (in characters, from 1)."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        start = data.rfind(b"\n", 0, error.start) + 1
        line = first_line + data.count(b"\n", 0, error.start)
        column = len(data[start : error.start].decode("utf-8")) + 1
        likely = _kind(data, WIDE_ENCODINGS) or _unmarked(data[:FIRST_BYTES]) or "LATIN1"
        raise UserError(
            f"{path}:{line}: not UTF-8 (byte 0x{data[error.start]:02x} at column {column}): "
            f"convert the file first, for example with `iconv -f {likely} -t UTF-8`"
        ) from None


def split_lines(text: str) -> list[str]:
    r"""Split at "\n" and "\r\n" alone: \x85 or \u2028 are characters of a line, as for fairseq."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line[:-1] if line.endswith("\r") else line for line in lines]


def number(word: str) -> float:
    """The number that a word is to everyone. Raises ValueError: `0_3` is one to Python alone."""
    if not NUMBER.fullmatch(word):
        raise ValueError(f"{word!r} is no number")
    return float(word)


def composed(text: str) -> str:
    """The text with é and the like as one character each, so that equal words are equal."""
    return unicodedata.normalize("NFC", text)


def plain_name(path: PathLike) -> PurePath:
    """The name of a file in small letters, without the ending that tells how it is packed."""
    return PurePath(PACKED.sub("", PurePath(path).name.lower()))


def files_named(folder: Path, name: str) -> list[Path]:
    """The file of this name in a folder; else those whose ``plain_name`` it is."""
    if (folder / name).is_file():
        return [folder / name]
    paths = (path for path in folder.iterdir() if plain_name(path).name == name)
    return sorted(filter(Path.is_file, paths))


def check_is_file(path: PathLike) -> None:
    """Raise UserError unless ``path`` can be read as a file (a pipe will do)."""
    if not os.path.exists(path):
        raise UserError(f"{path or shown(path)}: no such file")
    if os.path.isdir(path):
        raise UserError(f"{path}: a folder, where a file is expected")


def read_file(path: PathLike) -> bytes:
    """The bytes of a regular file. Raises UserError for anything else: a pipe might never end."""
    check_is_file(path)
    if not os.path.isfile(path):
        raise UserError(f"{path}: a pipe or a device, where a regular file is expected: replace it")
    if (size := os.path.getsize(path)) > MOST_BYTES:
        raise UserError(
            f"{path}: {size:,} bytes, where at most {MOST_BYTES:,} are read: is it another file?"
        )
    return Path(path).read_bytes()


def read_text(path: PathLike) -> str:
    """The text of a regular file of UTF-8, without a byte order mark; errors as ``read_file``."""
    return decode_utf8(read_file(path), path).removeprefix("\ufeff")


def read_blocks(
    path: PathLike, report_position: Callable[[int], None] = lambda position: None
) -> Iterator[Block]:
    """Yield the text of a file in blocks of about 1 MiB of whole lines, as UTF-8.

    It may be compressed (gzip, xz, bzip2), which its first bytes tell and not its name; a byte
    order mark tells of UTF-16 and UTF-32, and is dropped. ``report_position`` gets the position in
    the file on disk, so compressed bytes. Errors: a missing file, one that is no text, a corrupt or
    truncated archive, a line of more than 8 MiB.
    """
    check_is_file(path)
    with open(path, "rb") as raw, _told(path):
        stream = _as_utf8(_unpacked(raw, path))
        first_line = 1
        while data := _read_whole_lines(stream, path, first_line):
            if first_line == 1 and (problem := _no_utf8(data[:FIRST_BYTES])):
                raise UserError(f"{path}: {problem}")
            if raw.seekable():
                report_position(raw.tell())
            yield Block(str(path), first_line, data)
            first_line += data.count(b"\n")


def check_is_plain_text(path: PathLike) -> None:
    """Raise UserError unless a regular file is UTF-8 throughout, neither compressed nor marked."""
    check_is_file(path)
    if not os.path.isfile(path):
        raise UserError(f"{path}: a pipe or a device, where a regular file is expected: replace it")
    with open(path, "rb") as raw:
        start = raw.peek(FIRST_BYTES)
        if _kind(start, DECOMPRESSORS):
            raise UserError(f"{path}: compressed: unpack it first")
        if problem := _kind(start, OTHER_FILES) or _no_utf8(start[:FIRST_BYTES]):
            raise UserError(f"{path}: {problem}")
        line = 1
        while data := _read_whole_lines(raw, path, line):
            decode_utf8(data, path, line)
            line += data.count(b"\n")


def behind(before: int, report_position: Callable[[int], None]) -> Callable[[int], None]:
    """A call that reports the position in a file as that behind so many bytes of others."""
    return lambda position: report_position(before + position)


@contextlib.contextmanager
def open_characters(
    path: PathLike, report_position: Callable[[int], None] = lambda position: None
) -> Iterator[Callable[[int], str]]:
    """A call that gives the next characters of a file, up to so many, whatever its lines are.

    Nothing at the end. Else as ``read_blocks``.
    """
    check_is_file(path)
    with open(path, "rb") as raw, _told(path):
        stream = _as_utf8(_unpacked(raw, path))
        if not isinstance(stream, _Recoded) and (problem := _no_utf8(stream.peek(FIRST_BYTES))):
            raise UserError(f"{path}: {problem}")
        decoder = codecs.getincrementaldecoder("utf-8")()
        done = 0

        def read(size: int) -> str:
            nonlocal done
            data = stream.read(size)
            if raw.seekable():
                report_position(raw.tell())
            held, _ = decoder.getstate()
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                place = done - len(held) + error.start
                raise UserError(
                    f"{path}: not UTF-8 (byte 0x{error.object[error.start]:02x} at position "
                    f"{place:,}): convert the file first, for example with `iconv -f LATIN1 -t "
                    "UTF-8`"
                ) from None
            done += len(data)
            return text

        yield read


class _Recoded:
    """A stream of another encoding, read as UTF-8; sizes are in characters."""

    def __init__(self, stream: BufferedReader, encoding: str):
        self.text = io.TextIOWrapper(stream, encoding, newline="\n")

    def read(self, size: int) -> bytes:
        return self.text.read(size).encode()

    def readline(self, size: int) -> bytes:
        return self.text.readline(size).encode()


def _kind(beginning: bytes, kinds: Mapping[bytes, Kind]) -> Optional[Kind]:
    return next((kind for pattern, kind in kinds.items() if re.match(pattern, beginning)), None)


def _no_utf8(start: bytes) -> Optional[str]:
    """What the first bytes of a file are where they are no UTF-8, and what to do."""
    if problem := _kind(start, OTHER_FILES):
        return problem
    if 0 not in start or len(CONTROL_BYTE.findall(start)) <= MOST_CONTROL_BYTES * len(start):
        return None
    if likely := _unmarked(start):
        return (
            f"{likely} without a byte order mark: convert it first, for example with `iconv -f "
            f"{likely} -t UTF-8`"
        )
    return (
        "no text, by its many zero and control bytes: make a text of it first, or remove the zero "
        "ones with `tr -d '\\0'`"
    )


def _unmarked(start: bytes) -> Optional[str]:
    """The UTF-16 without its mark that these bytes are: by one order far more of them is ASCII."""
    counts = {}
    for name in UNMARKED:
        text = codecs.getincrementaldecoder(name)("replace").decode(start)
        counts[name] = 0 if NO_TEXT.search(text) else len(ASCII.findall(text))
    likely, other = sorted(UNMARKED, key=counts.__getitem__, reverse=True)
    return likely if counts[likely] > FAR_MORE * counts[other] else None


def _unpacked(raw: BufferedReader, path: PathLike) -> BufferedReader:
    beginning = raw.peek(KIND_BYTES)
    if problem := _kind(beginning, OTHER_FILES):
        raise UserError(f"{path}: {problem}")
    opener = _kind(beginning, DECOMPRESSORS)
    return opener(raw) if opener else raw


def _as_utf8(stream: BufferedReader) -> Union[BufferedReader, _Recoded]:
    beginning = stream.peek(KIND_BYTES)
    if encoding := _kind(beginning, WIDE_ENCODINGS):
        return _Recoded(stream, encoding)
    if beginning.startswith(codecs.BOM_UTF8):
        stream.read(len(codecs.BOM_UTF8))
    return stream


@contextlib.contextmanager
def _told(path: PathLike) -> Iterator[None]:
    """Tell what is wrong with a file that is compressed, or in another encoding than UTF-8."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: broken {error.encoding.upper()}, which its byte order mark says it is "
            f"({error.reason}): save it again, as UTF-8"
        ) from None
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        # An error of the system has a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(
            f"{path}: a corrupt or truncated archive ({error}): fetch or pack it again"
        ) from None


def _read_whole_lines(
    stream: Union[BufferedReader, _Recoded], path: PathLike, first_line: int
) -> bytes:
    data = stream.read(BLOCK_BYTES)
    rest = b"" if data.endswith(b"\n") else stream.readline(LONGEST_LINE_BYTES)
    if len(rest) >= LONGEST_LINE_BYTES and not rest.endswith(b"\n"):
        raise UserError(
            f"{path}:{first_line + data.count(10)}: a line of more than "
            f"{LONGEST_LINE_BYTES >> 20} MiB: put one paragraph or sentence on a line"
        )
    return data + rest
