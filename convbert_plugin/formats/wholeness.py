"""Whether a file that torch wrote is whole, and what it says beside its numbers.

torch writes an archive, whose directory stands at the end and holds a checksum of every record: a
file that was cut, or of which a bit has flipped, is known by that. Nothing here runs or builds
anything.
"""

import functools
import io
import itertools
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Iterator, Optional

from convbert_plugin.files.text_files import PathLike
from convbert_plugin.formats.pickle_reading import OddPickle, PickleReader

ZIP_MAGIC = b"PK\x03\x04"
PICKLE = "data.pkl"
# A checkpoint of convbert_base has 800 records and a pickle of 200 kB.
MOST_RECORDS = 100_000
LONGEST_PICKLE = 1 << 26
# Before the name of an archive's first record stand its lengths; the record follows it.
HEADER = struct.Struct("<26xHH")
# What torch wrote before 1.6: a number, a version, notes of the system, the values, their storages.
PICKLES_OF_OLD, VALUES_OF_OLD = 5, 3


def damage_of(path: PathLike) -> str:
    """What shows that a file is not as torch wrote it, in words; "" where it is whole.

    All of it is read; for a file that has not changed, no more than once.
    """
    return _damage(str(path), version_of(path))


def version_of(path: PathLike) -> tuple:
    """What is another after every change of a file."""
    state = os.stat(path)
    return state.st_ino, state.st_size, state.st_mtime_ns


@functools.lru_cache(maxsize=64)
def _damage(path: str, version: tuple) -> str:
    try:
        if not os.path.getsize(path):
            return "empty"
        if not is_archive(path):
            return _damage_of_a_pickle(path)
        if not zipfile.is_zipfile(path):
            return "cut short"
        with zipfile.ZipFile(path) as archive:
            return _damage_in(archive, os.path.getsize(path))
    except OSError as error:
        return f"not to be read ({error.strerror})"
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError) as error:
        return f"damaged ({error})"


def _damage_of_a_pickle(path: str) -> str:
    """As torch wrote before 1.6, with no checksum; what is a pickle may still not be one of it."""
    with open(path, "rb") as file:
        if file.read(1) == pickle.PROTO:
            return ""
    try:
        plain_values(path)
    except ValueError as error:
        return f"damaged, or no checkpoint ({error})"
    return ""


def _damage_in(archive: zipfile.ZipFile, size: int) -> str:
    records = archive.infolist()
    # torch stores its tensors as they are; a packed record may unfold to any size.
    if packed := [record.filename for record in records if record.compress_type]:
        return f"no checkpoint: {packed[0]} in it is compressed, as none has it"
    if len(records) > MOST_RECORDS:
        return f"no checkpoint: has {len(records):,} records"
    if sum(record.file_size for record in records) > size:
        return "damaged (its records overlap)"
    if broken := archive.testzip():
        return f"damaged ({broken} does not match its checksum)"
    return ""


def is_archive(path: PathLike) -> bool:
    """Whether torch reads a file as the archive that it writes since 1.6."""
    with open(path, "rb") as file:
        return file.read(len(ZIP_MAGIC)) == ZIP_MAGIC


def plain_values(path: PathLike) -> Any:
    """What a file holds, as ``PickleReader.read``; of an archive, the pickle by torch's name.

    Raises:
        ValueError: it cannot be read, by its words.
    """
    reader = PickleReader(os.path.getsize(path))
    try:
        values = [reader.read(stream) for stream in _pickles(Path(path))]
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise OddPickle(str(error)) from None
    if not values:
        raise OddPickle(f"there is no {PICKLE} in it")
    return values[0] if is_archive(path) else values[VALUES_OF_OLD]


def _pickles(path: Path) -> Iterator[BinaryIO]:
    with open(path, "rb") as file:
        if not is_archive(path):
            yield from itertools.repeat(file, PICKLES_OF_OLD)
            return
        with zipfile.ZipFile(file) as archive:
            for record in archive.infolist():
                # torch looks for it whatever the case of its letters.
                if record.filename.lower().endswith(PICKLE):
                    if record.file_size > LONGEST_PICKLE:
                        raise OddPickle(f"its {record.filename} is {record.file_size:,} bytes long")
                    yield io.BytesIO(archive.read(record))


def updates_of(path: PathLike) -> Optional[int]:
    """After how many updates a checkpoint was written, also one of which the end is missing.

    None where nothing says it.
    """
    try:
        with open(path, "rb") as file:
            file.seek(HEADER.size + sum(HEADER.unpack(file.read(HEADER.size))))
            values = PickleReader(1 << 62).read(file)
        updates = values["optimizer_history"][-1]["num_updates"]
    except (OSError, ValueError, LookupError, TypeError, struct.error):
        return None
    return updates if type(updates) is int else None
