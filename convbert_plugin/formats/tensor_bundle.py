"""TensorFlow's checkpoints of version 2 (tensor bundles), read without TensorFlow.

A bundle is PREFIX.index, a table in LevelDB's format from the names of variables to where their
values lie, and PREFIX.data-00000-of-00001 and so on, the values. Sources: TensorFlow's
core/util/tensor_bundle, core/protobuf/tensor_bundle.proto and core/lib/io/format.cc.
"""

import math
import re
from pathlib import Path
from typing import Any, Iterator, Mapping, NamedTuple, Optional, Union

import numpy as np
import torch
from google_crc32c import value as crc32c
from torch import Tensor

from convbert_plugin.errors import UserError
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.formats.finding import INDEX

# A file in which TensorFlow names the latest of a folder's checkpoints.
LATEST = "checkpoint"
TABLE_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
FOOTER_BYTES = 48
# What follows a block: how it is compressed (a byte), then its checksum.
TRAILER_BYTES = 5
CHECKSUM_DELTA = 0xA282EAD8
# The oldest reader that a bundle may ask for.
BUNDLE_VERSION = 1

# A base model with its optimizer has 2,000 variables, in an index of 100 kB.
MOST_INDEX_BYTES = 1 << 24
MOST_VARIABLES = 50_000
MOST_NAME_BYTES = 1_000
# As in TensorFlow.
MOST_DIMENSIONS = 254

READABLE = {1: torch.float32, 2: torch.float64, 14: torch.bfloat16, 19: torch.float16}
OTHER_DTYPES = {3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 9: "int64", 10: "bool"}

# Protobuf's wire types.
VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5
# What a field holds: its wire type, and what makes the value of one that is not there.
NUMBER, CHECKSUM = (VARINT, int), (FOUR_BYTES, int)
MESSAGE, MESSAGES = (BYTES, bytes), (BYTES, list)
# Number of a field -> its name and what it holds.
HEADER = {1: ("shards", NUMBER), 2: ("endianness", NUMBER), 3: ("version", MESSAGE)}
VERSION = {2: ("oldest_reader", NUMBER)}
ENTRY = {
    1: ("dtype", NUMBER),
    2: ("shape", MESSAGE),
    3: ("shard", NUMBER),
    4: ("offset", NUMBER),
    5: ("size", NUMBER),
    6: ("checksum", CHECKSUM),
    7: ("slices", MESSAGES),
}
SHAPE = {2: ("dimensions", MESSAGES)}
DIMENSION = {1: ("size", NUMBER)}


class Entry(NamedTuple):
    """Where the values of a variable lie; ``dtype`` is TensorFlow's number.

    ``slices``: the parts of one that is partitioned.
    """

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    slices: list


class TensorBundle:
    """The variables of one checkpoint; values stay on disk until they are read."""

    def __init__(self, prefix: Path, shards: int, entries: Mapping[str, Entry]):
        self.prefix = prefix
        self.shapes = {name: entry.shape for name, entry in entries.items()}
        self.dtypes = {name: _dtype_name(entry.dtype) for name, entry in entries.items()}
        self._shards = shards
        self._entries = entries

    def read(self, name: str) -> Tensor:
        """A copy of one variable's values, in its own dtype.

        Raises:
            UserError: there is no such variable; it is partitioned, or no floating-point numbers;
                its shard is missing, cut short or damaged.
        """
        if name not in self._entries:
            raise UserError(f"{self.prefix}: has no variable {name}")
        entry = self._entries[name]
        if entry.slices:
            raise UserError(
                f"{self.prefix}: {name} is partitioned: save it whole, from a graph without "
                "partitioners"
            )
        if entry.dtype not in READABLE:
            raise UserError(
                f"{self.prefix}: {name} is {self.dtypes[name]}, where floating-point numbers are "
                "expected"
            )
        dtype = READABLE[entry.dtype]
        numbers = math.prod(entry.shape)
        if entry.shard >= self._shards or entry.size != numbers * dtype.itemsize:
            raise UserError(
                f"{self.prefix}{INDEX}: damaged ({name} of shape {entry.shape} in {entry.size:,} "
                f"bytes of shard {entry.shard}): copy it again"
            )
        shard = f"{self.prefix}.data-{entry.shard:05d}-of-{self._shards:05d}"
        try:
            values = _read_values(Path(shard), entry, name)
        except OSError as error:
            raise UserError(f"{shard}: {error.strerror}") from None
        return values.view(dtype).reshape(entry.shape)


class _Malformed(Exception):
    """What is wrong with some bytes; whoever knows their file tells the user."""


def open_bundle(path: PathLike) -> TensorBundle:
    """The checkpoint of that prefix or ``.index`` file, or the latest one in that folder.

    Raises:
        UserError: no such checkpoint, several in a folder that names none as the latest, one of
            another kind, or a damaged index.
    """
    try:
        index = _find_index(Path(path))
        if index.stat().st_size > MOST_INDEX_BYTES:
            raise UserError(
                f"{index}: larger than the index of any checkpoint ({MOST_INDEX_BYTES:,} bytes)"
            )
        data = index.read_bytes()
    except OSError as error:
        raise UserError(f"{error.filename or path}: {error.strerror}") from None
    try:
        shards, entries = _read_index(data)
    except _Malformed as problem:
        raise UserError(f"{index}: {problem}") from None
    return TensorBundle(index.with_name(index.name.removesuffix(INDEX)), shards, entries)


def _find_index(path: Path) -> Path:
    if path.is_dir():
        return _find_index_in(path)
    index = path if path.suffix == INDEX else path.with_name(path.name + INDEX)
    if index.is_file():
        return index
    if path.is_file():
        raise UserError(f"{path}: {_other_kind(path)}")
    raise UserError(
        f"{index}: no such file; name a TensorFlow checkpoint by its prefix, such as "
        "folder/model.ckpt-1000000, or by the folder that it is in"
    )


def _find_index_in(folder: Path) -> Path:
    """The folder's latest checkpoint, or its only one."""
    latest = _latest_in(folder)
    if latest is not None and latest.is_file():
        return latest
    found = sorted(path for path in folder.glob(f"*{INDEX}") if path.is_file())
    if not found:
        raise UserError(f"{folder}: holds no TensorFlow checkpoint, of which one file is *{INDEX}")
    if len(found) > 1:
        names = ", ".join(path.name.removesuffix(INDEX) for path in found)
        raise UserError(f"{folder}: holds several checkpoints, name one of them: {names}")
    return found[0]


def _latest_in(folder: Path) -> Optional[Path]:
    state = folder / LATEST
    if not state.is_file():
        return None
    with open(state, encoding="utf-8", errors="replace") as file:
        found = re.search(r'^model_checkpoint_path: "(.*)"', file.read(MOST_INDEX_BYTES), re.M)
    # The folder that the file names is that of the machine where it was written.
    name = found and found[1].rpartition("/")[2]
    return folder / f"{name}{INDEX}" if name else None


def _other_kind(path: Path) -> str:
    """What a file is that is no index and no prefix of one."""
    with open(path, "rb") as file:
        head = file.read(len(HDF5_MAGIC))
        file.seek(-min(len(TABLE_MAGIC), path.stat().st_size), 2)
        tail = file.read()
    if head == HDF5_MAGIC:
        return "an HDF5 file, where a TensorFlow 1 checkpoint is expected"
    if tail == TABLE_MAGIC:
        return (
            "a checkpoint of version 1: save it again with tf.compat.v1.train.Saver, which writes "
            "version 2"
        )
    if re.search(r"\.(meta|data-\d+-of-\d+)$", path.name):
        return "one file of a checkpoint: name the checkpoint by what stands before the last dot"
    return f"no TensorFlow checkpoint: {path.name}{INDEX} is not beside it"


def _read_values(shard: Path, entry: Entry, name: str) -> Tensor:
    """The bytes of one variable, compared with their checksum."""
    if not shard.is_file():
        raise UserError(f"{shard}: missing, and {name} is in it: copy the checkpoint again")
    if entry.offset + entry.size > shard.stat().st_size:
        raise UserError(f"{shard}: cut short ({name} lies beyond its end): copy it again")
    values = torch.empty(entry.size, dtype=torch.uint8)
    with open(shard, "rb") as file:
        file.seek(entry.offset)
        count = file.readinto(values.numpy().data)
    if count != entry.size or _checksum(values.numpy()) != entry.checksum:
        raise UserError(f"{shard}: damaged ({name} does not match its checksum): copy it again")
    return values


def _read_index(data: bytes) -> tuple[int, dict[str, Entry]]:
    """The number of shards, and the entries by name."""
    rows = _table(data)
    key, value = next(rows, (None, b""))
    if key != b"":
        raise _Malformed("damaged, or no index of a TensorFlow checkpoint: it has no header")
    shards = _shards(value)
    entries = {}
    for key, value in rows:
        # Such keys are those of the parts of partitioned variables.
        if not key.startswith(b"\0"):
            entries[_name(key)] = _entry(value)
    return shards, entries


def _shards(header: bytes) -> int:
    fields = _fields(header, HEADER)
    if fields["endianness"]:
        raise _Malformed("written on a big-endian machine: save it again on a little-endian one")
    if _fields(fields["version"], VERSION)["oldest_reader"] > BUNDLE_VERSION:
        raise _Malformed("of a later version than 2: save it again with TensorFlow 1 or 2")
    return fields["shards"]


def _name(key: bytes) -> str:
    name = key.decode("utf-8", errors="replace")
    if not name.isprintable() or "\N{REPLACEMENT CHARACTER}" in name:
        raise _Malformed("damaged (the name of a variable is not text): copy it again")
    return name


def _entry(value: bytes) -> Entry:
    fields = _fields(value, ENTRY)
    dimensions = _fields(fields["shape"], SHAPE)["dimensions"]
    shape = tuple(_fields(dimension, DIMENSION)["size"] for dimension in dimensions)
    # Empty tensors too: torch multiplies the sizes of all dimensions.
    if len(shape) > MOST_DIMENSIONS or math.prod(max(1, size) for size in shape) >= 1 << 56:
        raise _Malformed("damaged (the shape of a variable is impossible): copy it again")
    return Entry(**{**fields, "shape": shape})


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The rows of a table, in the order of their keys."""
    footer = data[-FOOTER_BYTES:]
    if not footer.endswith(TABLE_MAGIC):
        raise _Malformed("cut short, or no index of a TensorFlow checkpoint: copy it again")
    handles = _Cursor(footer)
    # Of the table's own metadata, of which a bundle has none.
    _handle(handles)
    body = data[:-FOOTER_BYTES]
    block_end, last_key, count = 0, None, 0
    for _, handle in _rows(_block(body, *_handle(handles))):
        offset, size = _handle(_Cursor(handle))
        # Blocks that share bytes could unfold to more than the file holds.
        if offset < block_end:
            raise _Malformed("damaged (its blocks overlap): copy it again")
        block_end = offset + size
        for key, value in _rows(_block(body, offset, size)):
            count += 1
            if count > MOST_VARIABLES:
                raise _Malformed(f"holds more than {MOST_VARIABLES:,} variables: no checkpoint")
            if last_key is not None and key <= last_key:
                raise _Malformed("damaged (its names are not in order): copy it again")
            last_key = key
            yield key, value


def _handle(cursor: "_Cursor") -> tuple[int, int]:
    """Offset and size of a block."""
    return cursor.varint(), cursor.varint()


def _block(body: bytes, offset: int, size: int) -> bytes:
    end = offset + size
    if end + TRAILER_BYTES > len(body):
        raise _Malformed("damaged (a block lies beyond its end): copy it again")
    stored = int.from_bytes(body[end + 1 : end + TRAILER_BYTES], "little")
    # The byte that tells the compression belongs to the sum.
    if _checksum(body[offset : end + 1]) != stored:
        raise _Malformed("damaged (a block does not match its checksum): copy it again")
    if body[end]:
        raise _Malformed("compressed, which TensorFlow's own writer never does: save it again")
    return body[offset:end]


def _rows(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The rows of a block; a key leaves out what it shares with the one before it."""
    # For a binary search there are offsets at the end, and their number.
    offsets = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (offsets + 1)
    if end < 0:
        raise _Malformed("damaged (a block is too short): copy it again")
    cursor, key = _Cursor(block[:end]), b""
    while not cursor.at_end():
        shared, fresh, length = cursor.varint(), cursor.varint(), cursor.varint()
        if shared > len(key) or shared + fresh > MOST_NAME_BYTES:
            raise _Malformed("damaged (the name of a variable is impossible): copy it again")
        key = key[:shared] + cursor.take(fresh)
        yield key, cursor.take(length)


def _fields(message: bytes, known: Mapping[int, tuple[str, tuple]]) -> dict[str, Any]:
    """The known fields of a protobuf message, by name; the last where one is not repeated."""
    values = {name: absent() for name, (_, absent) in known.values()}
    cursor = _Cursor(message)
    while not cursor.at_end():
        number, wire_type = divmod(cursor.varint(), 8)
        value = cursor.value(wire_type)
        if number in known:
            name, (expected, kind) = known[number]
            if wire_type != expected:
                raise _Malformed("damaged, or an index of another kind: copy it again")
            if kind is list:
                values[name].append(value)
            else:
                values[name] = value
    return values


def _checksum(data: Union[bytes, np.ndarray]) -> int:
    """A CRC as the format stores it: turned, and moved by a constant."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + CHECKSUM_DELTA) & 0xFFFFFFFF


def _dtype_name(number: int) -> str:
    if number in READABLE:
        return str(READABLE[number]).removeprefix("torch.")
    return OTHER_DTYPES.get(number, f"of dtype number {number}")


class _Cursor:
    """Reads bytes from the first to the last, and never past it."""

    def __init__(self, data: bytes):
        self.data = data
        self.position = 0

    def at_end(self) -> bool:
        return self.position == len(self.data)

    def take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.data):
            raise _Malformed("damaged (a value ends beyond its place): copy it again")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def varint(self) -> int:
        """A number of at most ten bytes with seven bits each, the lowest first."""
        number = 0
        for shift in range(0, 64, 7):
            (byte,) = self.take(1)
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        raise _Malformed("damaged (a number is too long): copy it again")

    def value(self, wire_type: int) -> Union[int, bytes]:
        if wire_type == VARINT:
            return self.varint()
        if wire_type == BYTES:
            return self.take(self.varint())
        if wire_type in (FOUR_BYTES, EIGHT_BYTES):
            return int.from_bytes(self.take(4 if wire_type == FOUR_BYTES else 8), "little")
        raise _Malformed("damaged, or an index of another kind: copy it again")
