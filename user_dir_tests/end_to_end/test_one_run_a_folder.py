"""Two trainings in one folder, as processes: the second is refused while the first lives."""

import gc
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from convbert_plugin.training.run_lock import LOCK_FILE
from user_dir_tests.end_to_end.conftest import RECIPE, TASK, TINY

pytestmark = [pytest.mark.pretraining, pytest.mark.survival]

SECONDS = 120
LONG = ("--max-update", "100000", "--save-interval-updates", "5", "--keep-interval-updates", "1")


@pytest.fixture
def start(corpus, forked, tmp_path):
    """Start a training in a folder; killed at the end of the test."""
    started = []

    def begin(folder, *options):
        words = (corpus.data, *TASK, *TINY, *RECIPE, *LONG, "--save-dir", folder, *options)
        with open(tmp_path / f"log{len(started)}", "w") as log:
            command = ["fairseq-train", *map(str, words)]
            process = subprocess.Popen(
                command, env=forked, stdout=log, stderr=subprocess.PIPE, text=True
            )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


def wait_for(comes):
    end = time.monotonic() + SECONDS
    while not comes():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_second_is_refused_until_the_first_is_no_more(
    corpus, start, fairseq_train, fairseq_validate, tmp_path
):
    folder, last = tmp_path / "run", tmp_path / "run" / "checkpoint_last.pt"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    # In the same moment: one of them trains.
    both = [start(way) for way in (folder, tmp_path / "link")]
    wait_for(lambda: any(process.poll() is not None for process in both))
    wait_for(last.exists)
    holder = json.loads((folder / LOCK_FILE).read_text())["process"]
    os.kill(holder, signal.SIGSTOP)
    [refused] = [process for process in both if process.poll() is not None]
    told = refused.stderr.read()
    assert refused.wait() == 1
    assert f": another run is training there (process {holder} of " in told.splitlines()[-1]
    assert "Traceback" not in told
    # Who reads, and who writes nothing, is let in.
    assert fairseq_validate(corpus.data, last)["valid"]
    fairseq_train(corpus.data, folder, "--no-save", "--reset-optimizer", "--max-update", "1")
    assert is_alive(holder)
    os.kill(holder, signal.SIGKILL)
    wait_for(lambda: not is_alive(holder))
    assert (folder / LOCK_FILE).exists()
    fairseq_train(corpus.data, folder, "--max-update", "1")
    # What trained is still there, in this process.
    gc.collect()
    assert not (folder / LOCK_FILE).exists()


def is_alive(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return state.rpartition(")")[2].split()[0] != "Z"
