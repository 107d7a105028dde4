"""The one class for mistakes of the user, and words for odd values in its lines."""

import reprlib
from typing import Sequence

LONGEST_SHOWN = 200
MOST_NAMES = 12

_CUT = reprlib.Repr()
_CUT.maxstring = _CUT.maxlong = _CUT.maxother = 60


class UserError(SystemExit):
    """A mistake of the user, told in one line that says what to do.

    It is a ``SystemExit``, so that ``fairseq-train`` and the ``convbert`` command end with that
    line on stderr and status 1, without a traceback. (Where fairseq itself starts one process a
    GPU, torch's own traceback follows the line.)
    """


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


def listed(names: Sequence[str]) -> str:
    """Names from a file as an error line shows them: the first ones, if they are many."""
    words = ", ".join(map(readable, names[:MOST_NAMES]))
    rest = len(names) - MOST_NAMES
    return words if rest <= 0 else f"{words} and {rest:,} more"
