"""A folder that appears as a whole or not at all."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Iterator

from convbert_plugin.errors import UserError


@contextlib.contextmanager
def whole_folder(destination) -> Iterator[Path]:
    """An empty folder beside ``destination``, which takes its name only if all goes well.

    What a link at ``destination`` leads to is made, or taken, in its place.

    Raises:
        UserError: something stands at ``destination`` already, other than an empty folder that
            can be replaced; no folder can be made there.
    """
    destination = Path(os.path.realpath(destination))
    if destination.is_symlink():
        raise UserError(f"{destination}: a link that leads to itself: choose another folder")
    if destination.exists():
        _check_replaceable(destination)
    part = destination.with_name(f".{destination.name}.{os.getpid()}.part")
    missing = [folder for folder in (part.parent, *part.parent.parents) if not folder.exists()]
    try:
        _make(part, destination)
        yield part
        if destination.exists():
            destination.rmdir()
        part.rename(destination)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        with contextlib.suppress(OSError):
            for folder in missing:
                folder.rmdir()
        raise


def _make(part: Path, destination: Path) -> None:
    try:
        part.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"{destination}: cannot be made ({error.strerror}): choose another folder"
        ) from None


def _check_replaceable(folder: Path) -> None:
    if not folder.is_dir() or any(folder.iterdir()):
        raise UserError(f"{folder}: there already: choose another folder, or remove it")
    # Whoever stands in it would be left in a folder that is gone.
    if folder.samefile(os.curdir) or os.path.ismount(folder):
        raise UserError(
            f"{folder}: cannot be replaced by a new folder, because it is the current one or a "
            "mount point: name a folder in it"
        )
