"""Runs that are cut off at any moment lose no more than what came after their last checkpoint."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
import torch

import convbert_plugin
from user_dir_tests.end_to_end.killing import INTERVAL

pytestmark = [pytest.mark.pretraining, pytest.mark.survival]

CHECKOUT = Path(convbert_plugin.__file__).parents[1]
LAST, BEST, OLDER, NEWER = (f"checkpoint_{name}.pt" for name in ("last", "best", "1_2", "1_4"))
# The schedule has to be the same wherever a run stops.
SAVING = (
    *("--save-interval-updates", "2", "--keep-interval-updates", "2"),
    *("--total-num-update", "30", "--warmup-updates", "5"),
)


@pytest.fixture
def seen_while_killing(forked, corpus):
    """What the kit has seen; what may never be has not been."""

    def run(*words):
        command = ["python", "-m", "user_dir_tests.end_to_end.killing", *words]
        command += ["--data", str(corpus.data)]
        done = subprocess.run(command, cwd=CHECKOUT, env=forked, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout.splitlines()[-1])
        assert seen["bytes a checkpoint"] > 10_000_000
        assert seen["resumed"] == seen["resumed from the newest"] > 0
        assert seen["runs to their end"] == seen["runs equal to the bit"] > 0
        assert seen["most updates done again"] <= INTERVAL
        torn = (f"{name} torn" for name in (LAST, BEST))
        never = ("begun anew beside a checkpoint", "unfinished files at the end", "failed")
        assert not any(map(seen.get, (*torn, *never))), seen
        return seen

    return run


@pytest.mark.slow
def test_a_dozen_kills(seen_while_killing):
    assert seen_while_killing("--kills", "12", "--seed", "5")["kills"] == 12


@pytest.mark.slow
def test_one_of_two_processes_is_killed(seen_while_killing):
    words = ("--processes", "2", "--kills", "2", "--updates", "7", "--seed", "5")
    seen = seen_while_killing(*words)
    assert seen["kills"] == seen["others that ended in one line"] == 2


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def cut_all_but_the_older(folder):
    for name in (LAST, BEST, NEWER):
        cut(folder / name)


def empty_the_last(folder):
    os.truncate(folder / LAST, 0)


def lose_the_last(folder):
    (folder / LAST).unlink()
    # What was being written at the time, by this version or an earlier one.
    for name in (f"{NEWER}.tmp", f".{LAST}.123.part"):
        (folder / name).write_bytes(b"half")


@pytest.mark.parametrize(
    ("spoil", "why", "begins_at", "again"),
    [
        (cut_all_but_the_older, f"{LAST} is cut short; ", 2, "2 updates are done again"),
        (empty_the_last, f"{LAST} is empty: ", 4, "what came after it is done again"),
        (lose_the_last, f"{LAST} is missing: ", 4, "no update is done again"),
    ],
)
def test_the_next_start_takes_the_newest_whole_checkpoint(
    corpus, fairseq_train, tmp_path, caplog, spoil, why, begins_at, again
):
    whole = fairseq_train(corpus.data, tmp_path / "whole", *SAVING, "--max-update", "6")
    fairseq_train(corpus.data, tmp_path / "parts", *SAVING, "--max-update", "4")
    spoil(tmp_path / "parts")
    resumed = fairseq_train(corpus.data, tmp_path / "parts", *SAVING, "--max-update", "6")
    assert len(resumed.logs["train_inner"]) == 6 - begins_at
    [line] = [r.message for r in caplog.records if "going on from" in r.message]
    assert line.startswith(f"{tmp_path / 'parts'}: {why}")
    assert f"(update {begins_at}): " in line
    assert line.endswith(again)
    ours, theirs = resumed.checkpoint(), whole.checkpoint()
    assert all(torch.equal(ours["model"][name], theirs["model"][name]) for name in theirs["model"])
    # But for the folder.
    for state in (ours, theirs):
        del state["cfg"]["checkpoint"]["save_dir"], state["cfg"]["task"]["save_dir"]
    assert ours["cfg"] == theirs["cfg"]
    assert not [*resumed.folder.glob("*.tmp"), *resumed.folder.glob(".*.part")]


def test_a_best_one_that_was_not_yet_copied_is_not_lost(corpus, fairseq_train, tmp_path):
    """Killed once checkpoint_1_4.pt was written; at a rate of 1 no later one is better."""
    fairseq_train(corpus.data, tmp_path / "run", *SAVING, "--max-update", "2")
    before = {name: (tmp_path / "run" / name).read_bytes() for name in (LAST, BEST)}
    run = fairseq_train(corpus.data, tmp_path / "run", *SAVING, "--max-update", "4")
    newest = (run.folder / NEWER).read_bytes()
    assert (run.folder / BEST).read_bytes() == newest
    for name, content in {**before, NEWER: newest}.items():
        (run.folder / name).write_bytes(content)
        time.sleep(0.01)
    worse = ("--max-update", "6", "--lr", "1")
    run = fairseq_train(corpus.data, tmp_path / "run", *SAVING, *worse)
    assert (run.folder / BEST).read_bytes() == newest
    assert run.checkpoint()["optimizer_history"][-1]["num_updates"] == 6


def test_a_run_that_was_cut_off_at_its_end_is_completed(corpus, fairseq_train, pretrained):
    (pretrained.folder / LAST).unlink()
    best = (pretrained.folder / BEST).read_bytes()
    run = fairseq_train(corpus.data, pretrained.folder, "--max-update", "2")
    assert "train_inner" not in run.logs
    assert (pretrained.folder / LAST).read_bytes() == best


def test_without_any_whole_one_it_says_so(corpus, fairseq_train, pretrained):
    for path in pretrained.folder.glob("*.pt"):
        cut(path)
    with pytest.raises(SystemExit) as ended:
        fairseq_train(corpus.data, pretrained.folder, "--max-update", "3")
    assert ended.value.code == f"{pretrained.folder / LAST}: cut short: copy it again"


def test_another_task_in_the_folder_is_no_beginning(corpus, fairseq_train, pretrained):
    """Where there is no checkpoint_last.pt of this run."""
    (pretrained.folder / LAST).unlink()
    state = pretrained.checkpoint(BEST)
    state["cfg"]["task"]["_name"] = "glue"
    torch.save(state, pretrained.folder / BEST)
    run = fairseq_train(corpus.data, pretrained.folder, "--max-update", "1")
    assert len(run.logs["train_inner"]) == 1
