"""Trainings that are asked to end by a signal, and what they go on to be."""

import json
import subprocess
from pathlib import Path

import pytest

import convbert_plugin

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
