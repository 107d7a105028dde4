"""The checkpoints that a run has left in its folder, and which of them the next start goes on from.

An archive that torch wrote shows itself whether it is whole. What is not was cut by a machine that
went away, or a disk that was full: it is passed over for the newest one that is.
"""

import re
from pathlib import Path
from typing import Iterator, NamedTuple, Optional

from convbert_plugin.errors import counted
from convbert_plugin.files.pretraining_records import PRETRAINING_FILE
from convbert_plugin.files.records import RECORD_FILE
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.files.whole_output import unfinished_files
from convbert_plugin.formats.finding import LAST_CHECKPOINT
from convbert_plugin.formats.wholeness import damage_of, updates_of

# As fairseq names them, by epoch, or epoch and update; and what it wrote before it renamed it.
NAME = re.compile(r"checkpoint(?:\d+|_\d+_(\d+)|_last|_best|\.best_.+)\.pt")
UNFINISHED = ".tmp"
RECORDS = re.compile("|".join(map(re.escape, (RECORD_FILE, PRETRAINING_FILE))))


class Found(NamedTuple):
    """A checkpoint to go on from; ``notice``: why it and not the last one, "" where it is that."""

    path: Path
    notice: str = ""


class _Left(NamedTuple):
    """One that was left: the updates that went into it, -1 where nothing says how many."""

    path: Path
    updates: int
    written: int


def newest_checkpoint(folder: PathLike) -> Optional[Found]:
    """The newest whole checkpoint of a run, or, where none is, the one that a user would look at.

    A whole checkpoint_last.pt that was put there, or written, after one of more updates is one to
    go back to.
    """
    last = Path(folder) / LAST_CHECKPOINT
    paths = list(_named(Path(folder), NAME))
    if last in paths and not damage_of(last):
        paths = [path for path in paths if path == last or _is_later(path, last)]
        if paths == [last]:
            return Found(last)
    left = sorted(map(_look_at, paths), key=lambda one: _rank(one, last), reverse=True)
    damaged: list[tuple[_Left, str]] = []
    for one in left:
        if not (damage := damage_of(one.path)):
            return Found(one.path, _notice(one, damaged, last))
        damaged.append((one, damage))
    return Found(left[0].path) if left else None


def _rank(one: _Left, last: Path) -> tuple:
    is_last = one.path == last
    # A last one that says nothing is told of.
    return is_last and one.updates < 0, one.updates, is_last, one.written


def _written(path: Path) -> int:
    return path.stat().st_mtime_ns


def _is_later(path: Path, other: Path) -> bool:
    """Whether it was both written and put in its place after another."""
    one, two = path.stat(), other.stat()
    return one.st_mtime_ns > two.st_mtime_ns and one.st_ctime_ns > two.st_ctime_ns


def _look_at(path: Path) -> _Left:
    updates = updates_of(path)
    if updates is None:
        named = NAME.fullmatch(path.name)
        updates = int(named[1]) if named and named[1] else -1
    return _Left(path, updates, _written(path))


def _named(folder: Path, names: re.Pattern) -> Iterator[Path]:
    if folder.is_dir():
        yield from (
            path for path in folder.iterdir() if names.fullmatch(path.name) and path.is_file()
        )


def _notice(one: _Left, damaged: list[tuple[_Left, str]], last: Path) -> str:
    if one.path == last and not damaged:
        return ""
    reasons = [f"{other.path.name} is {damage}" for other, damage in damaged]
    if not last.exists():
        reasons.append(f"{last.name} is missing")
    elif not damaged:
        reasons.append(f"{last.name} is older")
    reached = [other.updates for other, _ in damaged]
    lost = max([0, *(updates - one.updates for updates in reached)])
    again = f"{counted(lost, 'update')} {'is' if lost == 1 else 'are'} done again"
    if not lost:
        again = "what came after it" if -1 in reached else "no update"
        again += " is done again"
    return (
        f"{last.parent}: {'; '.join(reasons)}: going on from {one.path.name} (update "
        f"{one.updates:,}): {again}"
    )


def remove_unfinished(folder: PathLike) -> list[Path]:
    """Remove what a run was writing when it was cut off; the files."""
    folder = Path(folder)
    if not folder.is_dir():
        return []
    cut = unfinished_files(folder, NAME) + unfinished_files(folder, RECORDS)
    cut += _named(folder, re.compile(NAME.pattern + re.escape(UNFINISHED)))
    for path in cut:
        path.unlink(missing_ok=True)
    return cut
