"""One training a folder: a lock that keeps a second one out while the first lives.

It is the system's own lock (flock) on a file in the folder: it dies with its process, however that
ends, and reaches other machines as far as the file system takes such locks there.
"""

import contextlib
import fcntl
import json
import os
import socket
import stat
import weakref
from datetime import datetime
from pathlib import Path
from typing import Any

from convbert_plugin.errors import UserError, readable
from convbert_plugin.files.text_files import PathLike

LOCK_FILE = "run.lock"
# No link is followed: what it leads to would be written over.
HOW = os.O_NOFOLLOW | os.O_NONBLOCK
LONGEST_NOTE = 1000
UNLOCKED = -1


class RunLock:
    """The lock on a folder, held while this object and its process live.

    Its file says who holds it. ``problem``: why the folder is not locked, "" where it is.

    Raises:
        UserError: another process holds it; the file cannot be made.
    """

    # What happens at its end, or that of the process.
    _finalizer: Any

    def __init__(self, folder: PathLike):
        self.folder = Path(folder)
        self._path = self.folder.absolute() / LOCK_FILE
        self._take()
        self._holders = 1
        _held.add(self)

    def keep(self) -> None:
        """Take it anew where its file is gone, as with the folder; raises as the class does."""
        if not (self.problem or _is_at(self._path, self._descriptor)):
            self._finalizer()
            os.makedirs(self._path.parent, exist_ok=True)
            self._take()

    def release(self) -> None:
        """Let others in, and remove the file, unless another run of this process holds it too."""
        self._holders -= 1
        if not self._holders:
            self._finalizer()
            _held.discard(self)

    def leave_to_parent(self) -> None:
        """In a process that was forked: hold nothing, so that the lock ends with the parent."""
        if self._finalizer.detach() and self._descriptor != UNLOCKED:
            os.close(self._descriptor)

    def _take(self) -> None:
        self._descriptor, self.problem = UNLOCKED, ""
        descriptor = _open(self._path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The latter over SMB.
        except (BlockingIOError, PermissionError):
            holder = _holder(descriptor)
            os.close(descriptor)
            raise UserError(
                f"{self.folder}: another run is training there{holder}: wait for its end, or "
                "choose another --save-dir"
            ) from None
        except OSError as error:
            os.close(descriptor)
            self.problem = (
                f"{self._path}: cannot be locked on this file system ({error.strerror}): see that "
                "no other run trains there"
            )
            self._finalizer = weakref.finalize(self, lambda: None)
            return
        if not _is_at(self._path, descriptor):
            # Its holder has just removed it.
            os.close(descriptor)
            return self._take()
        _write_holder(descriptor)
        self._descriptor = descriptor
        self._finalizer = weakref.finalize(self, _release, self._path, descriptor, os.getpid())


_held: weakref.WeakSet[RunLock] = weakref.WeakSet()


def lock_run(folder: PathLike) -> RunLock:
    """The lock of this process on a folder that is there; raises as ``RunLock`` does."""
    for lock in _held:
        if lock.folder.exists() and lock.folder.samefile(folder):
            lock.keep()
            lock._holders += 1
            return lock
    return RunLock(folder)


def _open(path: Path) -> int:
    """The lock's file, opened; that of another user may be for reading alone."""
    try:
        try:
            descriptor = os.open(path, HOW | os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:
            descriptor = os.open(path, HOW | os.O_RDONLY)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        reason = "no regular file"
    except OSError as error:
        reason = str(error.strerror)
    raise UserError(
        f"{path}: cannot be locked ({reason}): remove it, or choose another --save-dir"
    ) from None


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


def _write_holder(descriptor: int) -> None:
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    note = {"host": socket.gethostname(), "process": os.getpid(), "since": since}
    # What is locked without a word on a full disk is locked all the same.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{json.dumps(note)}\n".encode())


def _holder(descriptor: int) -> str:
    """Who holds a lock, in words, as far as its file says."""
    try:
        note = json.loads(os.pread(descriptor, LONGEST_NOTE, 0))
        words = [readable(str(note[name])) for name in ("process", "host", "since")]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""
    return " (process {} of {}, since {})".format(*words)


def _release(path: Path, descriptor: int, process: int) -> None:
    if os.getpid() == process and _is_at(path, descriptor):
        with contextlib.suppress(OSError):
            os.unlink(path)
    os.close(descriptor)


def _leave_all_to_parent() -> None:
    for lock in list(_held):
        lock.leave_to_parent()
    _held.clear()


os.register_at_fork(after_in_child=_leave_all_to_parent)
