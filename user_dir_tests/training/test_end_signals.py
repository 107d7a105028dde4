"""Processes that are asked to end, in whatever they are: status, line, and how long they take."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import convbert_plugin

pytestmark = [pytest.mark.survival, pytest.mark.usefixtures("signals_of_a_terminal")]

# What a command of fairseq is known by; "ready" is when it is to be asked.
COMMAND = """
import os, signal, sys, threading, time
from convbert_plugin.training import end_signals
__package__ = "fairseq_cli"
end_signals.SECONDS_OF_ONE_REQUEST, end_signals.SECONDS_TO_LEAVE = 0.4, 0.6
def ready():
    print("ready", flush=True)
def main():
    global __package__
    end_signals.listen()
"""
WAITS = """
    ready()
    time.sleep(60)
main()
"""
# As in a collective whose peer is gone: no Python code runs, and a handler has no turn.
IS_STUCK = """
    import hashlib
    ready()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 30)
main()
"""
WRITES = """
    with end_signals.undisturbed():
        ready()
        time.sleep(0.3)
        print("written", flush=True)
    print("gone on", flush=True)
main()
"""
# As while an update is finished.
IS_PUT_OFF = """
    end_signals.say_where(lambda: "at update 3", put_off=True)
    ready()
    while time.sleep(0.01) is None:
        if end_signals.asked_to_leave() and len(sys.argv) > 1:
            end_signals.leave(end_signals.asked_to_leave())
main()
"""
SWALLOWS = """
    ready()
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
main()
"""
# As a loader's worker, forked by a thread of its own; only what its parent sends ends it.
FORKS = """
    def fork():
        global worker
        worker = os.fork()
        if not worker:
            time.sleep(60)
    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.system(f"kill -{number} {worker}")
    time.sleep(0.2)
    print(os.waitpid(worker, os.WNOHANG) == (0, 0))
    os.kill(worker, signal.SIGTERM)
    print(os.waitpid(worker, 0) == (worker, 0))
main()
"""
IS_OVER = """
    __package__ = None
    ready()
    time.sleep(60)
main()
"""


@pytest.fixture
def started():
    processes = []

    def start(program, *words, ignored=()):
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND + program, *words],
            env={**os.environ, "PYTHONPATH": str(Path(convbert_plugin.__file__).parents[1])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: [signal.signal(number, signal.SIG_IGN) for number in ignored],
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def ask(process, *numbers, after=0.0):
    """Send signals with a pause between them; status, output, line and seconds of the end."""
    assert process.stdout.readline() == "ready\n"
    begin = time.monotonic()
    for position, number in enumerate(numbers):
        time.sleep(after if position else 0)
        process.send_signal(number)
    output, errors = process.communicate(timeout=20)
    return process.returncode, output, errors, time.monotonic() - begin


WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}
STATUS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129, "SIGUSR1": 138}


@pytest.mark.parametrize("name", STATUS)
def test_each_signal_has_its_word_and_status(started, name):
    status, _, errors, seconds = ask(started(WAITS), getattr(signal, name))
    assert (status, errors) == (STATUS[name], f"{WORDS.get(name, 'given notice')}\n")
    assert seconds < 0.5


@pytest.mark.parametrize("program", [IS_STUCK, SWALLOWS], ids=["stuck", "swallows"])
def test_it_ends_even_where_python_has_no_turn_or_the_end_is_swallowed(started, program):
    status, _, errors, seconds = ask(started(program), signal.SIGTERM)
    assert (status, errors) == (143, "terminated\n")
    assert 0.6 <= seconds < 3


def test_what_is_written_is_finished_first(started):
    status, output, errors, _ = ask(started(WRITES), signal.SIGINT)
    assert (status, output, errors) == (130, "written\n", "interrupted\n")


def test_who_trains_ends_it_in_its_own_time(started):
    status, _, errors, _ = ask(started(IS_PUT_OFF, "leaves"), signal.SIGUSR1)
    assert (status, errors) == (138, "given notice at update 3\n")


def test_asked_again_it_ends_at_once(started):
    status, _, errors, seconds = ask(started(IS_PUT_OFF), signal.SIGTERM, signal.SIGTERM, after=0.6)
    assert (status, errors) == (143, "terminated at update 3\n")
    assert seconds < 1.5


def test_what_a_launcher_passes_on_is_the_same_request(started):
    process = started(IS_PUT_OFF)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.0)


def test_under_nohup_a_hang_up_stays_ignored(started):
    process = started(WAITS, ignored=[signal.SIGHUP])
    status, _, errors, _ = ask(process, signal.SIGHUP, signal.SIGTERM, after=0.1)
    assert (status, errors) == (143, "terminated\n")


def test_a_worker_of_a_loader_obeys_its_parent_alone(started):
    output, errors = started(FORKS).communicate(timeout=20)
    assert (output, errors) == ("True\nTrue\n", "")


def test_after_the_command_signals_do_what_they_did(started):
    status, _, errors, _ = ask(started(IS_OVER), signal.SIGTERM)
    assert (status, errors) == (-signal.SIGTERM, "")
