"""Trainings that are asked to end by a signal, and what they go on to be."""

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

import convbert_plugin
from convbert_plugin.training import leaving
from user_dir_tests.end_to_end.conftest import free_port

pytestmark = [pytest.mark.pretraining, pytest.mark.survival]

CHECKOUT = Path(convbert_plugin.__file__).parents[1]


@pytest.mark.slow
def test_a_few_of_all_cases(forked, corpus):
    """Amid a validation, with two workers; at the end of an epoch, before it is validated."""
    words = ("--begin", "10", "--every", "78", "--data", corpus.data)
    command = ["python", "-m", "user_dir_tests.end_to_end.ended_by_signals", *map(str, words)]
    done = subprocess.run(command, cwd=CHECKOUT, env=forked, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    right = ("by the signal's status", "one line", "at once", "saved", "resumed", "equal")
    wrong = ("left", "unfinished", "torn")
    assert seen["cases"] == 2
    assert [seen[name] for name in right] == [2] * 6, done.stdout
    assert [seen[name] for name in wrong] == [0] * 3, done.stdout


def test_of_two_workers_one_is_asked_and_both_leave_after_the_same_update(
    corpus, forked, usual_arguments, tmp_path
):
    command = [
        *("fairseq-train", corpus.data, *usual_arguments, "--save-dir", tmp_path / "two"),
        *("--max-update", "9999", "--save-on-signal", "--distributed-world-size", "2"),
        *("--distributed-init-method", f"tcp://localhost:{free_port()}", "--distributed-no-spawn"),
        *("--distributed-backend", "gloo", "--ddp-backend", "legacy_ddp", "--distributed-rank"),
    ]
    processes = []
    for rank in ("0", "1"):
        with (tmp_path / f"log{rank}").open("w") as log:
            words = [*map(str, command), rank]
            processes.append(
                subprocess.Popen(words, env=forked, stdout=log, stderr=subprocess.PIPE, text=True)
            )
    while '"num_updates": "2"' not in (tmp_path / "log0").read_text():
        assert processes[0].poll() is None
        time.sleep(0.01)
    processes[1].terminate()
    lines = [process.communicate(timeout=60)[1].splitlines()[-1] for process in processes]
    assert [process.returncode for process in processes] == [143, 143]
    path = tmp_path / "two" / "checkpoint_last.pt"
    update = int(re.fullmatch(r"terminated at update (\d+)", lines[1])[1])
    saved = f"terminated at update {update}, saved in {path}: the same command goes on from there"
    assert lines[0] == saved
    state = torch.load(path, weights_only=True)
    assert state["optimizer_history"][-1]["num_updates"] == update


def test_who_is_asked_is_counted_with_the_signal():
    asked = leaving.ONE_WORKER + 10
    assert leaving.number_of(0.0) == 0
    for workers in (1, 2, 7, 1000):
        assert leaving.number_of(torch.tensor(float(workers * asked), dtype=torch.float64)) == 10
    # By different signals.
    assert leaving.number_of(2 * leaving.ONE_WORKER + 10 + 1) == signal.SIGTERM
