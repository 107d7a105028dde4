"""Which of the checkpoints in a folder a run goes on from."""

import os
import time

import pytest
import torch

from convbert_plugin.formats.run_checkpoints import newest_checkpoint, remove_unfinished
from convbert_plugin.formats.wholeness import damage_of, updates_of

pytestmark = pytest.mark.survival

CUT = "cut"
LAST = "checkpoint_last.pt"


def leave(folder, *files):
    """Checkpoints of so many updates by their names, one written after the other."""
    for second, (name, updates, *damage) in enumerate(files):
        state = {"model": torch.zeros(99), "optimizer_history": [{"num_updates": updates}]}
        torch.save(state, folder / name)
        if damage:
            os.truncate(folder / name, 0 if updates is None else 900)
        os.utime(folder / name, (second, second))
        # Longer than a tick of the file system's clock.
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("left", "taken", "words"),
    [
        ([("checkpoint_1_5.pt", 5), (LAST, 5)], LAST, ""),
        # Killed between writing and copying.
        (
            [(LAST, 5), ("checkpoint_1_9.pt", 9)],
            "checkpoint_1_9.pt",
            f"{LAST} is older: going on from checkpoint_1_9.pt (update 9): no update is done again",
        ),
        # Put there by a user who went back.
        ([("checkpoint_1_9.pt", 9), (LAST, 5)], LAST, ""),
        (
            [("checkpoint_1_5.pt", 5), ("checkpoint_1_9.pt", 9), (LAST, 9, CUT)],
            "checkpoint_1_9.pt",
            f"{LAST} is cut short: going on from checkpoint_1_9.pt (update 9): no update is done "
            "again",
        ),
        (
            [("checkpoint2.pt", 5), ("checkpoint_best.pt", 4), (LAST, 6, CUT)],
            "checkpoint2.pt",
            f"{LAST} is cut short: going on from checkpoint2.pt (update 5): 1 update is done again",
        ),
        (
            [(LAST, 1005), ("checkpoint_1_2009.pt", None, CUT)],
            LAST,
            f"checkpoint_1_2009.pt is empty: going on from {LAST} (update 1,005): 1,004 updates "
            "are done again",
        ),
        (
            [("checkpoint.best_loss_3.1400.pt", 5), (LAST, None, CUT)],
            "checkpoint.best_loss_3.1400.pt",
            f"{LAST} is empty: going on from checkpoint.best_loss_3.1400.pt (update 5): what came "
            "after it is done again",
        ),
        (
            [("checkpoint_best.pt", 5), ("model.pt", 9), ("checkpoint_old.pt", 9)],
            "checkpoint_best.pt",
            f"{LAST} is missing: going on from checkpoint_best.pt (update 5): no update is done "
            "again",
        ),
        ([(LAST, None, CUT), ("checkpoint_1_9.pt", 9, CUT)], LAST, ""),
    ],
)
def test_the_newest_whole_one_is_taken(tmp_path, left, taken, words):
    leave(tmp_path, *left)
    found = newest_checkpoint(tmp_path)
    assert found.path == tmp_path / taken
    assert found.notice == (f"{tmp_path}: {words}" if words else "")


def test_a_last_one_that_was_moved_there_is_gone_back_to(tmp_path):
    """It is as old as it was."""
    leave(tmp_path, ("checkpoint_1_5.pt", 5), (LAST, 9), ("checkpoint_best.pt", 9))
    (tmp_path / "checkpoint_1_5.pt").replace(tmp_path / LAST)
    assert newest_checkpoint(tmp_path) == (tmp_path / LAST, "")


@pytest.mark.parametrize("place", [".", "missing"])
def test_where_there_is_none(tmp_path, place):
    assert newest_checkpoint(tmp_path / place) is None
    assert remove_unfinished(tmp_path / place) == []


def test_every_cut_shows_and_updates_are_read_from_what_is_left(tmp_path):
    path = tmp_path / LAST
    leave(tmp_path, (LAST, 7))
    size = path.stat().st_size
    assert damage_of(path) == ""
    known = []
    for length in range(size - 1, 0, -1):
        os.truncate(path, length)
        os.utime(path, (length, length))
        assert damage_of(path), length
        known.append(updates_of(path))
    # The pickle is the first that torch writes.
    assert set(known[: size - 900]) == {7}
    assert known[-1] is None


def test_only_what_a_run_was_writing_is_removed(tmp_path):
    cut = [".checkpoint_last.pt.12.part", "checkpoint_1_9.pt.tmp", ".checkpoint_best.pt.9.part"]
    cut += [".pretraining.json.7.part", ".scores.json.12.part"]
    kept = [
        "checkpoint_1_9.pt",
        "pretraining.json",
        ".notes.txt.12.part",
        "checkpoint_1.tmp",
        "model.pt.tmp",
        ".part",
    ]
    for name in (*cut, *kept):
        (tmp_path / name).touch()
    assert {path.name for path in remove_unfinished(tmp_path)} == set(cut)
    assert {path.name for path in tmp_path.iterdir()} == set(kept)
