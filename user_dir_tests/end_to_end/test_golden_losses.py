"""Losses of a few updates are those that were recorded, and two commits are compared by more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import convbert_plugin
from user_dir_tests.end_to_end.golden_losses import NUMBERS, RECORD, TOLERANCE, UPDATES, losses

pytestmark = [pytest.mark.pretraining, pytest.mark.survival]

CHECKOUT = Path(convbert_plugin.__file__).parents[1]


@pytest.mark.parametrize("objective", NUMBERS)
def test_the_losses_are_those_of_the_record(corpus, monkeypatch, tmp_path, objective):
    recorded = json.loads(RECORD.read_text())[objective]
    ours = losses(monkeypatch, corpus.data, objective, tmp_path)
    assert ours.keys() == recorded.keys()
    for name, numbers in ours.items():
        assert len(numbers) == UPDATES
        assert numbers == pytest.approx(recorded[name], rel=TOLERANCE), name


def first_difference(tmp_path, ones, others):
    files = [tmp_path / name for name in ("ones.json", "others.json")]
    for file, updates in zip(files, (ones, others), strict=True):
        file.write_text(json.dumps(updates))
    script = CHECKOUT / "examples" / "first_difference.py"
    return subprocess.run(
        [sys.executable, script, "main", "HEAD", *files],
        env={"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
    )


UPDATES_OF_MAIN = [{"loss": 3.0, "gnorm": 1.5, "wps": 4.0}, {"loss": 2.0, "gnorm": 1.0, "wps": 5.0}]


def test_equal_updates(tmp_path):
    faster = [{**update, "wps": 9.0, "new": 1.0} for update in UPDATES_OF_MAIN]
    done = first_difference(tmp_path, UPDATES_OF_MAIN, faster)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "logged at HEAD alone: new\n2 updates equal to the bit: gnorm, loss\n"


def test_updates_that_differ_in_the_last_bit(tmp_path):
    others = [UPDATES_OF_MAIN[0], {**UPDATES_OF_MAIN[1], "loss": 2.0000000000000004}]
    done = first_difference(tmp_path, UPDATES_OF_MAIN, others)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "update 2: loss is 2.0 at main and 2.0000000000000004 at HEAD (relative: 2.2e-16)\n"
        "1 of 2 updates differ, by up to 2.2e-16 relative\n"
    )


def test_a_training_that_ended_early(tmp_path):
    done = first_difference(tmp_path, UPDATES_OF_MAIN, UPDATES_OF_MAIN[:1])
    assert (done.returncode, done.stderr) == (1, "2 updates of main, 1 of HEAD\n")


@pytest.fixture
def repository(tmp_path):
    """The checkout as a repository of two commits, of which the second changes a constant."""
    folder = tmp_path / "repository"
    folder.mkdir()
    copied = ("convbert_plugin", "examples", "user_dir_tests")
    subprocess.run(["cp", "-r", *(CHECKOUT / name for name in copied), folder], check=True)
    (folder / "examples" / "environment.sh").write_text("source examples/waiting.sh\n")
    git(folder, "init", "--quiet")
    git(folder, "add", "convbert_plugin", "examples", "user_dir_tests/end_to_end/unrounded.py")
    git(folder, "commit", "--quiet", "--message", "before")
    layer = folder / "convbert_plugin" / "modules" / "layer.py"
    assert "LAYER_NORM_EPS = 1e-12\n" in layer.read_text()
    layer.write_text(
        layer.read_text().replace("LAYER_NORM_EPS = 1e-12\n", "LAYER_NORM_EPS = 1e-4\n")
    )
    git(folder, "commit", "--quiet", "--all", "--message", "after")
    return folder


def git(folder, *words):
    author = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *author, *words], cwd=folder, check=True)


@pytest.mark.slow
def test_two_commits_are_compared(corpus, repository, forked):
    environment = {**forked, "COMPARED_DATA": str(corpus.data), "PYTHONPATH": str(repository)}

    def compare(*revisions):
        command = ["bash", "examples/compare_losses.sh", *revisions, "--max-update", "3"]
        return subprocess.run(
            command, cwd=repository, env=environment, capture_output=True, text=True
        )

    other = compare("HEAD~1", "HEAD")
    assert other.returncode == 1, other
    note, *lines, last = other.stderr.splitlines()
    assert note == "note: what is not committed is in neither of them, and not compared"
    assert all(line.startswith("update 1: ") for line in lines)
    assert [line for line in lines if line.startswith("update 1: loss is ")]
    assert last.startswith("3 of 3 updates differ, by up to ")
    done = compare("HEAD", "nowhere")
    assert (done.returncode, done.stderr) == (2, "nowhere: no commit of this checkout\n")
