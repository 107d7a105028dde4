"""What is written in the working folder is seen, also where it is gone again."""

import os
import subprocess
import sys

import pytest

from convbert_plugin.training.run_lock import lock_run
from user_dir_tests.working_folder import WorkingFolder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    place = tmp_path / "place"
    (place / "checkpoints").mkdir(parents=True)
    monkeypatch.chdir(place)
    watched = WorkingFolder(place)
    yield watched
    watched.is_watched = False


def leave_elsewhere(folder):
    (folder.parent / "beside").write_text("a")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "a").write_text("a")
    assert os.path.exists("checkpoints")
    with open(os.devnull, "w") as nothing:
        nothing.write("a")


def lock_and_let_go(_):
    lock_run("checkpoints").release()


def write_over(folder):
    (folder.parent / "a").write_text("a")
    os.replace("../a", "b")


def write_in_another_process(_):
    subprocess.run([sys.executable, "-ISc", "open('c', 'w')"], check=True)


@pytest.mark.parametrize(
    ("action", "seen"),
    [
        (leave_elsewhere, []),
        (lock_and_let_go, ["checkpoints/run.lock"]),
        (lambda _: os.makedirs("d/e"), ["d", "d/e"]),
        (write_over, ["b"]),
        (write_in_another_process, ["c"]),
    ],
)
def test_what_is_seen(folder, tmp_path, action, seen):
    action(tmp_path / "place")
    assert folder.news() == seen
    assert folder.news() == []
