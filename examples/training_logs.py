"""Why a command failed, by the end of its log."""

import signal
from pathlib import Path

# What hydra says last, whatever went wrong, and what it says around it.
HYDRAS_LAST_LINE = "Set the environment variable HYDRA_FULL_ERROR"
HYDRAS_KEY = "full_key: "
HYDRAS_DETAILS = (
    *(HYDRAS_LAST_LINE, HYDRAS_KEY, "reference_type=", "object_type=", "See https://hydra.cc/"),
)


def signal_words(number: int) -> str:
    """The name of a signal, and what may have sent it."""
    name = signal.Signals(number).name
    return f"{name}, perhaps for want of memory" if number == signal.SIGKILL else name


def last_words(log: Path, begin: int) -> str:
    """The last line of a log, from byte ``begin`` on, that says something.

    Of a mistake in an override hydra tells the option apart from what is wrong with it.
    """
    text = log.read_bytes()[begin:].decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "nothing was printed"
    option = ""
    if lines[-1].startswith(HYDRAS_LAST_LINE):
        options = [line.removeprefix(HYDRAS_KEY) for line in lines if line.startswith(HYDRAS_KEY)]
        option = "".join(f"{name}: " for name in options[-1:])
    said = [line for line in lines if not line.startswith(HYDRAS_DETAILS)]
    return option + (said or lines)[-1]
