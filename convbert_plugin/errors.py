"""Mistakes of the user, and words for odd values in their lines."""

import contextlib
import os
import re
import reprlib
import sys
from types import FrameType
from typing import Iterator, Optional, Sequence

LONGEST_SHOWN = 200
MOST_NAMES = 12
# In the line of a worker that ends because another did, whose line says why.
ANOTHER_IS_GONE = "another worker is gone"

NO_LETTER = re.compile(r"[\0-\x1f\x7f-\x9f\u2028\u2029]")

_CUT = reprlib.Repr()
_CUT.maxstring = _CUT.maxlong = _CUT.maxother = 60


class UserError(BaseException):
    """A mistake of the user, told in one line that says what to do.

    From Python it is a ``ValueError``. Under one of fairseq's commands it is a ``SystemExit``, so
    that the command ends with the line on stderr and status 1: what the trainer and hydra do about
    exceptions would hide it.
    """

    def __new__(cls, line: str) -> "UserError":
        kind = cls
        if cls is UserError:
            kind = UserExit if under_a_command_of_fairseq() else UserValueError
        return super().__new__(kind, line)

    def __init__(self, line: str):
        # A name in it may hold what ends a line, or what a terminal obeys.
        super().__init__(NO_LETTER.sub(lambda found: repr(found[0])[1:-1], line))


class UserValueError(UserError, ValueError):
    """It for who calls from Python."""


class UserExit(UserError, SystemExit):
    """It at the end of a command."""


def under_a_command_of_fairseq(frame: Optional[FrameType] = None) -> bool:
    """Whether one of them has called, from however far above ``frame``: that of the caller."""
    frame = frame or sys._getframe()
    while frame is not None:
        # The name of the module may be "__main__".
        if frame.f_globals.get("__package__") == "fairseq_cli":
            return True
        frame = frame.f_back
    return False


@contextlib.contextmanager
def mistakes_end_the_program() -> Iterator[None]:
    """For a command: a mistake of the user ends it with its line on stderr and status 1."""
    try:
        yield
    except UserError as error:
        raise UserExit(str(error)) from None


@contextlib.contextmanager
def errors_of_files_told() -> Iterator[None]:
    """Tell what the system says of a file, such as that it may not be read.

    Raises:
        UserError: in its place.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        advice = ": see to its permissions, or name another" * isinstance(error, PermissionError)
        raise UserError(f"{os.fsdecode(error.filename)}: {error.strerror}{advice}") from None


def shown(value: object) -> str:
    """``value`` as an error line shows it: as Python writes it, and never long."""
    try:
        words = " ".join(_CUT.repr(value).split())
        return words if len(words) <= LONGEST_SHOWN else f"{words[:LONGEST_SHOWN]}..."
    # Nothing is promised of what stands in a file, not even that it can be written out.
    except Exception:
        return f"of the type {type(value).__name__}"


def readable(name: str) -> str:
    """A name from a file as an error line shows it: as it is, if it is short and on one line."""
    return name if name.isprintable() and len(name) <= LONGEST_SHOWN else shown(name)


def counted(number: int, thing: str) -> str:
    """So many things, in words: "1 row", "2,000 rows"."""
    return f"{number:,} {thing}" + "s" * (number != 1)


def listed(names: Sequence[str]) -> str:
    """Names from a file as an error line shows them: the first ones, if they are many."""
    words = ", ".join(map(readable, names[:MOST_NAMES]))
    rest = len(names) - MOST_NAMES
    return words if rest <= 0 else f"{words} and {rest:,} more"
