"""Sums of the files in a folder, in a file that ``sha256sum --check`` takes too."""

import hashlib
import re
from pathlib import Path
from typing import Callable

from convbert_plugin.errors import UserError
from convbert_plugin.files.text_files import PathLike, read_text
from convbert_plugin.files.whole_output import whole_file

SUMS_FILE = "SHA256SUMS"
ROW = re.compile("([0-9a-f]{64})  (.+)")


def write_sums(folder: PathLike) -> None:
    """Write down what every file below a folder holds."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    rows = [f"{_sum(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    with whole_file(Path(folder) / SUMS_FILE) as file:
        file.write("".join(rows).encode())


def check_sums(folder: PathLike, is_asked_for: Callable[[Path], bool], maker: str) -> None:
    """See that files of a folder hold what ``maker`` wrote, where it has written that down.

    ``is_asked_for``: whether one is to be looked at, by its path in the folder.

    Raises:
        UserError: one that is missing, or holds something else.
    """
    sums = Path(folder) / SUMS_FILE
    # Earlier versions wrote none.
    if not sums.exists():
        return
    for row in filter(None, read_text(sums).split("\n")):
        found = ROW.fullmatch(row)
        if not found:
            raise UserError(f"{sums}: damaged: make the folder anew with {maker}")
        expected, name = found.groups()
        path = Path(folder) / name
        if is_asked_for(Path(name)) and not (path.is_file() and _sum(path) == expected):
            raise UserError(
                f"{path}: is not what {maker} wrote: copy it again, or make the folder anew (or, "
                f"if you have changed it yourself, remove {sums})"
            )


def _sum(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): mend that") from None
