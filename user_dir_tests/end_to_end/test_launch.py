"""The script that runs a command as several processes: how these begin, and how all of them end."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convbert_plugin.errors import ANOTHER_IS_GONE

pytestmark = pytest.mark.survival

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "distributed"
# The script with less patience.
IMPATIENT = (
    f"import sys; sys.path.insert(0, {str(FOLDER)!r}); import launch; "
    "launch.STOPPING = ((0.3, launch.signal.SIGTERM), (0.6, launch.signal.SIGKILL)); launch.main()"
)
FOLLOWS = f"echo '{ANOTHER_IS_GONE} (Connection closed by peer)' >&2; exit 1"


@pytest.fixture
def launch():
    """Start a script of bash as so many processes."""
    started = []

    def start(script, workers=2):
        words = [sys.executable, "-c", IMPATIENT, str(workers), "bash", "-c", script, "worker"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(words, **pipes, text=True, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def ended(launch):
    """What became of such a script: its status, its output and its errors by lines."""

    def run(script, workers=2):
        process = launch(script, workers)
        output, errors = process.communicate(timeout=30)
        return process.returncode, output.splitlines(), errors.splitlines()

    return run


def when_ready(process, workers):
    for _ in range(workers):
        assert "ready" in process.stdout.readline()


def test_each_is_told_its_place(ended):
    told = 'echo "$RANK of $WORLD_SIZE at $MASTER_ADDR:$MASTER_PORT with $OMP_NUM_THREADS: $*"'
    status, output, errors = ended(told, workers=3)
    assert (status, errors) == (0, [])
    threads = os.environ.get("OMP_NUM_THREADS", max(1, len(os.sched_getaffinity(0)) // 3))
    ports = set()
    for rank, line in enumerate(sorted(output, key=lambda line: line.startswith("["))):
        prefix = f"[{line[1]}] " if rank else ""
        number = line[1] if rank else "0"
        found = re.fullmatch(
            rf"{re.escape(prefix)}{number} of 3 at 127.0.0.1:(\d+) with {threads}: "
            rf".*--distributed-world-size 3 --distributed-rank {number} .*--distributed-no-spawn.*",
            line,
        )
        assert found, line
        ports.add(found[1])
    assert len(ports) == 1


def test_the_line_and_status_of_the_one_that_failed_are_those_of_all(ended):
    fails = "sleep 0.2; echo reading >&2; echo 'dict.txt: no such file' >&2; exit 3"
    status, _, errors = ended(f"[ $RANK = 1 ] && {{ {fails}; }}; {FOLLOWS}", workers=3)
    assert status == 3
    assert errors == ["[1] reading", "[1] dict.txt: no such file"]


def test_what_all_say_alike_is_said_once(ended):
    status, _, errors = ended("echo 'no such file' >&2; exit 1")
    assert status == 1
    assert errors[-1] in ("no such file", "[1] no such file")
    assert len(errors) <= 2


def test_one_is_killed_and_the_others_do_not_listen(ended):
    begin = time.monotonic()
    status, _, errors = ended(
        "trap '' TERM; [ $RANK = 1 ] && kill -KILL $$; while :; do sleep 0.1; done"
    )
    assert status == 128 + signal.SIGKILL
    assert errors == ["worker 1 of 2 was killed by SIGKILL: all were stopped"]
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_passed_on_and_all_have_their_time_to_leave(launch, number):
    """The first has a checkpoint to write, for longer than those that fail are waited for."""
    leave = f"[ $RANK = 0 ] && sleep 1; echo saved by $RANK >&2; exit {128 + number}"
    process = launch(f"trap '{leave}' {number:d}; echo ready; while :; do sleep 0.1; done")
    when_ready(process, 2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert sorted(errors.splitlines()) == ["[1] saved by 1", "saved by 0"]


def test_no_worker_outlives_the_script(launch):
    process = launch("echo ready $$; while :; do sleep 0.1; done")
    workers = [int(process.stdout.readline().split()[-1]) for _ in range(2)]
    process.kill()
    end = time.monotonic() + 5
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < end
        time.sleep(0.02)
