"""Files and folders that appear whole or not at all: also after a crash the old or the new stands.

Both are written beside their place, under a name of this process, brought to the disk, and renamed.
Where that fails, nothing is left behind: folders that were missing are made, and removed again.
Whoever reads a pipe gets all of a file, or nothing.
"""

import contextlib
import errno
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO, Callable, Iterator, Optional, Sequence

from convbert_plugin.errors import UserError
from convbert_plugin.files.text_files import PathLike

# What only writing meets; such an error names no file.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_READER = errno.EPIPE
# A file or folder while it is written, by its name and the number of the process.
PART = ".{}.{}.part"
UNFINISHED = re.compile(r"\.(.+)\.\d+\.part")
COPIED_AT_ONCE = 1 << 22


@contextlib.contextmanager
def whole_file(path: PathLike) -> Iterator[BinaryIO]:
    """Open a file for bytes, which takes the name ``path`` only if all goes well.

    What a link at ``path`` leads to is made, or replaced, in its place; into a pipe all is written
    at the end.

    Raises:
        UserError: what stands at ``path`` is neither a regular file nor a pipe with a name; it
            cannot be made or written there.
    """
    target = _real_path(path)
    if _is_open_file(Path(path)):
        raise UserError(f"{path}: an open file, which cannot be replaced: name one in a folder")
    if target.is_fifo():
        # First of all, so that a reader is not left waiting where nothing comes.
        with (
            _told(target, "written", target),
            open(target, "wb") as pipe,
            tempfile.TemporaryFile() as file,
        ):
            yield file
            file.seek(0)
            shutil.copyfileobj(file, pipe)
        return
    if target.exists() and not target.is_file():
        kind = "a folder" if target.is_dir() else "a device"
        raise UserError(f"{target}: {kind}, where a file is to be written: choose another name")
    with _beside(target, Path.touch) as part, open(part, "wb") as file:
        yield file


def check_place(path: PathLike) -> None:
    """Raise UserError where nothing can be written at ``path``: for before long work."""
    target = _real_path(path)
    if target.exists() and not (target.is_file() or target.is_dir()):
        return
    places = (target, *target.parents) if target.is_dir() else target.parents
    nearest = next(place for place in places if os.path.lexists(place))
    with _told(target, "made"), tempfile.TemporaryFile(dir=nearest):
        pass


def whole_copy(source: PathLike, destination: PathLike) -> None:
    """Copy a file; raises as ``whole_file`` does."""
    with open(source, "rb") as original, whole_file(destination) as copy:
        shutil.copyfileobj(original, copy, COPIED_AT_ONCE)


def unfinished_files(folder: Path, names: re.Pattern) -> list[Path]:
    """What processes that were cut off have left of the files of such names."""
    found = ((path, UNFINISHED.fullmatch(path.name)) for path in folder.iterdir())
    return [path for path, part in found if part and names.fullmatch(part[1])]


@contextlib.contextmanager
def whole_folder(destination: PathLike) -> Iterator[Path]:
    """An empty folder, which takes the name ``destination`` only if all goes well.

    What a link at ``destination`` leads to is made, or taken, in its place.

    Raises:
        UserError: something stands at ``destination`` already, other than an empty folder that
            can be replaced; it cannot be made or written there.
    """
    target = _real_path(destination)
    if target.exists():
        _check_replaceable(target)
    with _beside(target, Path.mkdir) as part:
        yield part


@contextlib.contextmanager
def whole_files(paths: Sequence[PathLike]) -> Iterator[list[BinaryIO]]:
    """Open files for bytes, which take their names, one after the other, only if all goes well.

    Raises:
        UserError: as ``whole_file``.
    """
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(whole_file(path)) for path in paths]
        yield files
        # What can fail fails before the first of them has its name.
        for path, file in zip(paths, files, strict=True):
            with _told(_real_path(path), "written"):
                file.flush()
                os.fsync(file.fileno())


def _real_path(path: PathLike) -> Path:
    real = Path(os.path.realpath(path))
    if real.is_symlink():
        raise UserError(f"{real}: a link that leads to itself: choose another name")
    return real


def _is_open_file(path: Path) -> bool:
    """Whether a path stands for what a process has open, as /dev/stdout does."""
    while Path("/proc") not in path.parent.resolve().parents:
        if not path.is_symlink():
            return False
        path = path.parent / path.readlink()
    return True


def _check_replaceable(folder: Path) -> None:
    if not folder.is_dir() or any(folder.iterdir()):
        raise UserError(f"{folder}: there already: choose another folder, or remove it")
    # Whoever stands in it would be left in a folder that is gone.
    if folder.samefile(os.curdir) or os.path.ismount(folder):
        raise UserError(
            f"{folder}: cannot be replaced by a new folder, because it is the current one or a "
            "mount point: name a folder in it"
        )


@contextlib.contextmanager
def _beside(target: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """A new file or folder beside ``target``, which takes its name if all goes well."""
    part = target.with_name(PART.format(target.name, os.getpid()))
    missing = [folder for folder in part.parents if not folder.exists()]
    try:
        with _told(target, "made"):
            # Of an earlier process that had this number and was killed.
            _remove(part)
            for folder in reversed(missing):
                folder.mkdir(exist_ok=True)
            make(part)
        with _told(target, "written", part):
            yield part
        with _told(target, "written"):
            _sync(part)
            os.replace(part, target)
    except BaseException:
        _remove(part)
        with contextlib.suppress(OSError):
            for folder in missing:
                folder.rmdir()
        raise
    for folder in (part, *missing):
        _sync_folder(folder.parent)


def _is_of(part: Path, error: OSError) -> bool:
    """Whether an error is one of writing ``part``, not of what is read for it."""
    if error.filename is None:
        return error.errno in (*NO_ROOM, NO_READER)
    path = Path(os.fsdecode(error.filename))
    return part in (path, *path.parents)


@contextlib.contextmanager
def _told(target: Path, verb: str, part: Optional[Path] = None) -> Iterator[None]:
    """Tell what kept ``target`` from being made; where ``part`` is given, errors of it alone."""
    try:
        yield
    except OSError as error:
        if part is not None and not _is_of(part, error):
            raise
        advice = "make room, or " if error.errno in NO_ROOM else ""
        raise UserError(
            f"{_final(target)}: cannot be {verb} ({error.strerror}): {advice}choose another place"
        ) from None


def _final(path: Path) -> Path:
    """Where a file will be when the folder that it is written in has its name."""
    parts = ((part, UNFINISHED.fullmatch(part)) for part in path.parts)
    return Path(*(found[1] if found else part for part, found in parts))


def _remove(part: Path) -> None:
    shutil.rmtree(part, ignore_errors=True)
    with contextlib.suppress(OSError):
        part.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Return when a file, or all that a folder holds, is on the disk."""
    if path.is_dir():
        for held in path.iterdir():
            _sync(held)
        _sync_folder(path)
    else:
        with open(path, "rb") as file:
            os.fsync(file)


def _sync_folder(path: Path) -> None:
    # Not every file system can, and what is written stands all the same.
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
