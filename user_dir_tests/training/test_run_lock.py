"""Who holds a folder, seen from other processes."""

import errno
import fcntl
import gc
import os
import select
import signal
import subprocess
import sys
import time

import pytest

from convbert_plugin.errors import UserError
from convbert_plugin.training.run_lock import LOCK_FILE, lock_run

pytestmark = pytest.mark.survival

SECONDS = 20


def in_a_fork(action):
    """What an action returns in a process of its own, as text."""
    read, write = os.pipe()
    process = os.fork()
    if not process:
        try:
            told = str(action())
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(write, told.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        told = file.read()
    os.waitpid(process, 0)
    return told


def is_locked(folder):
    """What the system says, asked by a program that knows nothing of this package."""
    code = (
        "import fcntl, sys\n"
        "try: fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError: sys.exit(7)\n"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", code, folder / LOCK_FILE])
    assert done.returncode in (0, 7)
    return done.returncode == 7


def test_a_second_process_is_refused_while_the_first_holds_it(tmp_path):
    lock = lock_run(tmp_path)
    assert is_locked(tmp_path)
    told = in_a_fork(lambda: lock_run(tmp_path))
    assert told.startswith(
        f"UserValueError: {tmp_path}: another run is training there (process {os.getpid()} of "
    )
    assert told.endswith("): wait for its end, or choose another --save-dir")
    assert "\n" not in told
    lock.release()
    assert not list(tmp_path.iterdir())
    assert "RunLock" in in_a_fork(lambda: lock_run(tmp_path))


def test_other_ways_to_the_folder_lead_to_the_same_lock(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    lock = lock_run(tmp_path / "link")
    for way in ("run", folder, folder / ".." / "run", "link"):
        assert "another run is training there" in in_a_fork(lambda way=way: lock_run(way))
    lock.release()


def test_a_process_shares_its_lock_with_itself(tmp_path):
    locks = [lock_run(tmp_path), lock_run(tmp_path)]
    locks.pop()
    gc.collect()
    assert is_locked(tmp_path)
    locks.pop()
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_a_killed_process_holds_nothing_though_what_it_forked_lives_on(tmp_path):
    read, write = os.pipe()
    first = os.fork()
    if not first:
        lock = lock_run(tmp_path)
        worker = os.fork()
        if not worker:
            time.sleep(SECONDS)
            os._exit(0)
        os.write(write, str(worker).encode())
        signal.pause()
        lock.release()
    assert select.select([read], [], [], SECONDS)[0]
    worker = int(os.read(read, 20))
    assert is_locked(tmp_path)
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    os.kill(worker, 0)
    lock_run(tmp_path).release()
    os.kill(worker, signal.SIGKILL)


def test_never_two_at_once(tmp_path):
    """Eight processes take it in turn, and each removes the file at its end."""
    folder, inside = tmp_path / "run", tmp_path / "inside"
    folder.mkdir()

    def take_often():
        taken = 0
        while taken < 20:
            try:
                lock = lock_run(folder)
            except UserError:
                continue
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
            inside.unlink()
            lock.release()
            taken += 1

    processes = []
    for _ in range(8):
        processes.append(os.fork())
        if not processes[-1]:
            status = 1
            try:
                take_often()
                status = 0
            finally:
                os._exit(status)
    assert [os.waitpid(process, 0)[1] for process in processes] == [0] * 8
    assert not list(folder.iterdir())


def test_where_the_file_system_takes_no_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    lock = lock_run(tmp_path)
    assert lock.problem == (
        f"{tmp_path / LOCK_FILE}: cannot be locked on this file system (No locks available): see "
        "that no other run trains there"
    )
    lock.keep()
    assert lock.problem


def test_a_lock_that_is_held_over_smb(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UserError, match="another run is training there"):
        lock_run(tmp_path)


def test_what_stands_in_its_place(tmp_path):
    path, other = tmp_path / LOCK_FILE, tmp_path / "other"
    other.write_text("words")
    for make in (path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to(other)):
        make()
        with pytest.raises(UserError, match=rf"^{path}: cannot be locked \(.*\): remove it, or"):
            lock_run(tmp_path)
        path.rmdir() if path.is_dir() else path.unlink()
    assert other.read_text() == "words"


@pytest.mark.parametrize("note", [b"", b"\xff", b"[1]", b"null", b'{"host": 1}', b"[" * 5000])
def test_a_note_that_says_nothing(tmp_path, note):
    lock = lock_run(tmp_path)
    (tmp_path / LOCK_FILE).write_bytes(note)
    told = in_a_fork(lambda: lock_run(tmp_path))
    assert told.startswith(f"UserValueError: {tmp_path}: another run is training there: wait")
    lock.release()


def test_the_file_of_another_user_can_be_locked(tmp_path):
    path = tmp_path / LOCK_FILE
    path.write_text("")
    path.chmod(0o444)
    lock = lock_run(tmp_path)
    assert is_locked(tmp_path)
    lock.release()


def test_a_lock_whose_folder_was_removed_is_taken_anew(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    lock = lock_run(folder)
    (folder / LOCK_FILE).unlink()
    folder.rmdir()
    lock.keep()
    assert is_locked(folder)
    (folder / LOCK_FILE).unlink()
    with open(folder / LOCK_FILE, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another run is training there"):
            lock.keep()
    lock.keep()
    assert is_locked(folder)
    lock.release()


def test_a_run_that_cannot_begin_takes_no_lock_from_another_of_its_process(tmp_path):
    lock = lock_run(tmp_path)
    lock_run(tmp_path).release()
    assert "another run is training there" in in_a_fork(lambda: lock_run(tmp_path))
    lock.release()
    assert "RunLock" in in_a_fork(lambda: lock_run(tmp_path))
