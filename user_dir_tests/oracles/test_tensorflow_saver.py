"""The tests go on where TensorFlow, which a few of them need, cannot be installed."""

import shutil
import subprocess

import pytest

from user_dir_tests.oracles import tensorflow_saver

pytestmark = pytest.mark.weights

# For `-m venv` it fails as where there is no network; else it shows that pytest would be called.
PYTHON = """#!/usr/bin/env bash
[ "$2" != venv ] || { echo "no network" >&2; exit 1; }
echo "$@"
"""


@pytest.fixture
def checkout(tmp_path):
    """What run.sh needs of a checkout, with a Python that cannot install anything."""
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "environment.sh").write_text("")
    oracles = tmp_path / "user_dir_tests" / "oracles"
    oracles.mkdir(parents=True)
    tests = tensorflow_saver.CHECKOUT / "user_dir_tests"
    shutil.copy(tests / "run.sh", oracles.parent)
    shutil.copy(tests / "oracles" / "tensorflow.txt", oracles)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    return tmp_path


def run_script(checkout, *arguments):
    command = ["bash", checkout / "user_dir_tests" / "run.sh", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("-m pytest -n auto ")
    return done


@pytest.mark.parametrize("wanted", [["all", "-x"], ["-x", "-m", "tensorflow"]])
def test_the_other_tests_run_where_it_cannot_be_fetched(checkout, wanted):
    done = run_script(checkout, *wanted)
    assert done.stdout.splitlines()[-1].endswith(" ".join(wanted).removeprefix("all "))
    warning = done.stderr.splitlines()[-1]
    assert warning.startswith("tests: warning: TensorFlow was not installed")


@pytest.mark.parametrize("wanted", [[], ["-m", "squad"], ["fast", "-x"]])
def test_nobody_gets_it_without_asking(checkout, wanted):
    done = run_script(checkout, *wanted)
    assert not done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("tests: ")]
    assert ["run.sh -m tensorflow" in line for line in told] == [True] * ("fast" not in wanted)
    assert ("not slow and not process" in done.stdout) is ("fast" in wanted)


def test_those_that_need_it_say_why_they_are_skipped(checkout, monkeypatch):
    monkeypatch.setattr(tensorflow_saver, "CHECKOUT", checkout)
    monkeypatch.setattr(tensorflow_saver.sys, "prefix", str(checkout))
    with pytest.raises(pytest.skip.Exception, match="TensorFlow is not there"):
        tensorflow_saver.tensorflow_python()
