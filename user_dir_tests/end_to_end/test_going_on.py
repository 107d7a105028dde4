"""A training that goes on is the uninterrupted one, and one that goes on and on stays as it is."""

import subprocess
from pathlib import Path

import pytest

import convbert_plugin

pytestmark = [pytest.mark.pretraining, pytest.mark.glue, pytest.mark.squad, pytest.mark.survival]

CHECKOUT = Path(convbert_plugin.__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("kit", ["resuming_matrix --few", "growth --short"])
def test_a_kit_in_short(forked, kit):
    command = ["python", "-m", *f"user_dir_tests.end_to_end.{kit}".split()]
    done = subprocess.run(command, cwd=CHECKOUT, env=forked, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
