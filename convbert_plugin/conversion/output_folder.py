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

    Raises:
        UserError: something stands at ``destination`` already, other than an empty folder.
    """
    destination = Path(destination).absolute()
    if destination.exists() and not (destination.is_dir() and not any(destination.iterdir())):
        raise UserError(f"{destination}: there already: choose another folder, or remove it")
    part = destination.with_name(f".{destination.name}.{os.getpid()}.part")
    missing = [folder for folder in (part.parent, *part.parent.parents) if not folder.exists()]
    try:
        part.mkdir(parents=True)
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
