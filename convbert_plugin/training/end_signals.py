"""Signals that ask a process to end: told in one line, with a status of its own, nothing torn.

Python answers a signal between two steps of its main thread, which may be waiting for a peer or a
device meanwhile: another thread sees that the process ends all the same.
"""

import atexit
import contextlib
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, Callable, Iterator, NoReturn, Optional

from convbert_plugin.errors import under_a_command_of_fairseq

# Ctrl-C, a call of kill, a terminal that is closed.
END_SIGNALS = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "hung up",
}
# What clusters send besides before they take a machine away.
OF_TRAINING = {**END_SIGNALS, signal.SIGUSR1: "given notice"}
# A launcher passes on what its processes get from the terminal or the cluster too.
SECONDS_OF_ONE_REQUEST = 1.0
SECONDS_TO_LEAVE = 5.0
POLL_SECONDS = 0.1


class _Request:
    """What was asked of this process, and what holds it up."""

    def __init__(self) -> None:
        self.number = 0
        self.writers = 0
        # Whether who trains ends the process; what it says of where it stands.
        self.is_put_off = False
        self.place: Callable[[], str] = str
        self.line = ""
        self.is_ending = False


_request = _Request()
# The signals that are heard, and what each did before.
_before: dict[int, Any] = {}
_forked_in_command = False


def listen() -> None:
    """From here on a command of fairseq leaves when asked to; what is ignored stays ignored."""
    global _request
    if threading.current_thread() is not threading.main_thread() or not _in_command():
        return
    _request = _Request()
    if _before:
        return
    for number in OF_TRAINING:
        # Who handles them has reasons.
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            _before[number] = signal.signal(number, _hear)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading,), daemon=True).start()
    os.register_at_fork(
        before=_begin_fork,
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _before),
        after_in_child=_follow_parent,
    )


def say_where(place: Callable[[], str], put_off: bool = False) -> None:
    """Let the line say where the process stands.

    Where it is put off, a signal is noted alone: who has called ends the process by ``leave``.
    """
    _request.place, _request.is_put_off = place, put_off


def asked_to_leave() -> int:
    """The number of the signal that asked this process to end, as soon as it may; else 0."""
    return 0 if _request.writers else _request.number


def is_put_off() -> bool:
    """Whether who has called ``say_where`` is to end the process, and may now."""
    return _request.is_put_off and not _request.writers


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """A signal waits until what is done here is done."""
    _request.writers += 1
    try:
        yield
    finally:
        _request.writers -= 1
    if asked_to_leave() and not _request.is_put_off:
        leave(_request.number)


def leave(number: int, place: str = "") -> NoReturn:
    """End the process with the status of a signal, and its line last on stderr."""
    if not _request.line:
        _request.number, _request.line = number, _line(number, place or _request.place())
        is_told = _wait_for_processes(number)
        # What is shown of progress is closed on the way out.
        atexit.register(_say, "" if is_told else _request.line)
    raise SystemExit(128 + number)


def _hear(number: int, frame: Optional[FrameType]) -> None:
    if not (_in_command() or _request.is_ending):
        _as_before(number, frame)
        return
    # Whether it insists is for the watch to see.
    if _request.number:
        return
    _request.number = number
    if asked_to_leave() and not _request.is_put_off:
        leave(number)


def _as_before(number: int, frame: Optional[FrameType]) -> None:
    before = _before[number]
    if callable(before):
        before(number, frame)
    else:
        signal.signal(number, before)
        os.kill(os.getpid(), number)


def _in_command() -> bool:
    """Whether a command of fairseq is what the main thread does."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return under_a_command_of_fairseq(frame)


def _line(number: int, place: str) -> str:
    return f"{OF_TRAINING[signal.Signals(number)]}{place and ' '}{place}"


def _say(line: str) -> None:
    _request.is_ending = True
    if line:
        _write(line)


def _write(line: str) -> None:
    # After a hang-up nobody may be there to read it.
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode())


def _wait_for_processes(number: int) -> bool:
    """Ask those to end that fairseq has started, one a GPU: each may save, and has its own line.

    Whether there were any.
    """
    started = [child for child in multiprocessing.active_children() if not child.daemon]
    _request.writers += 1
    for child in started:
        os.kill(child.pid or 0, number)
    for child in started:
        child.join()
    _request.writers -= 1
    return bool(started)


def _watch(pipe: int) -> None:
    """End the process where it is asked again, or its main thread does not come to it."""
    while True:
        number = os.read(pipe, 1)[0]
        if number in _before and _in_command():
            asked = waited = time.monotonic()
            while (now := time.monotonic()) - waited < SECONDS_TO_LEAVE:
                if _request.writers or (_request.is_put_off and not _request.line):
                    waited = now
                if not select.select([pipe], [], [], POLL_SECONDS)[0]:
                    continue
                if os.read(pipe, 1)[0] in _before and now - asked > SECONDS_OF_ONE_REQUEST:
                    break
            if _request.is_ending or _in_command():
                _end_at_once(number)


def _end_at_once(number: int) -> NoReturn:
    for child in multiprocessing.active_children():
        child.kill()
    if not _request.is_ending:
        _write(_request.line or _line(number, _request.place()))
    os._exit(128 + number)


def _begin_fork() -> None:
    global _forked_in_command
    _forked_in_command = _in_command()
    signal.pthread_sigmask(signal.SIG_BLOCK, _before)


def _follow_parent() -> None:
    """In a process that was forked amid a command: its parent ends it, whatever the group is sent.

    A loader's worker would otherwise be gone before the update that is to be finished.
    """
    signal.set_wakeup_fd(-1)
    handled = dict(_before)
    _before.clear()
    if _forked_in_command and handled.pop(signal.SIGTERM, None) is not None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        threading.Thread(target=_end_with_parent, daemon=True).start()
    for number, before in handled.items():
        signal.signal(number, signal.SIG_IGN if _forked_in_command else before)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)


def _end_with_parent() -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)
