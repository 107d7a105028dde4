"""Several processes on CPUs: against one, begun from a checkpoint, resumed, and ended."""

import re
import subprocess
from pathlib import Path

import pytest
import torch

from convbert_plugin.files.pretraining_records import read_pretraining_record
from user_dir_tests.end_to_end import exact_gradients, started_by_fairseq
from user_dir_tests.end_to_end.conftest import free_port
from user_dir_tests.end_to_end.unrounded import unrounded_updates

pytestmark = [pytest.mark.pretraining, pytest.mark.survival]

LAUNCH = Path(__file__).resolve().parents[2] / "examples" / "distributed" / "launch.py"
# The gradients of two halves are added in another order.
TOLERANCE = 1e-6
RELATIVE = 1e-5
EXACT = 1e-10
NO_DROPOUT = ("--dropout", "0", "--attention-dropout", "0")
NOTHING_KEPT = ("--disable-validation", "--no-save")


@pytest.fixture
def launched(forked):
    """Run a command as so many processes; what it printed."""

    def run(workers, *command, status=0):
        words = ["python", LAUNCH, str(workers), *map(str, command)]
        done = subprocess.run(words, env=forked, capture_output=True, text=True, timeout=200)
        assert done.returncode == status, done.stderr
        return done

    return run


def test_two_processes_equal_one_with_two_batches_an_update(
    corpus, fairseq_train, train_on_two, usual_arguments, pretrained, tmp_path, caplog
):
    """Begun from a checkpoint, resumed by two, and then by the one."""
    arguments = (
        *("--finetune-from-model", pretrained.folder / "checkpoint_last.pt"),
        *(*NO_DROPOUT, "--total-num-update", "9"),
    )
    alone = (*arguments, "--update-freq", "2", "--max-update", "6")
    with unrounded_updates() as updates:
        one = fairseq_train(corpus.data, tmp_path / "one", *alone)
    # Clipping and Adam hide a factor of the gradient: its norm does not.
    norms = []
    for stop in ("2", "4"):
        usual = (corpus.data, *usual_arguments, "--save-dir", tmp_path / "two")
        numbers = train_on_two(*usual, *arguments, "--max-update", stop)
        norms += [update["gnorm"] for update in numbers]
    with unrounded_updates() as resumed:
        two = fairseq_train(corpus.data, tmp_path / "two", *alone)
    norms += [update["gnorm"] for update in resumed]
    last = tmp_path / "two" / "checkpoint_last.pt"
    assert f"{last}: 2 workers got to this place of the epoch, and 1 go on from it" in caplog.text
    assert norms == pytest.approx([update["gnorm"] for update in updates], rel=RELATIVE)
    ours, theirs = (read_pretraining_record(run.folder / "pretraining.json") for run in (two, one))
    # Pads are those of batches, and what each has seen is that of both.
    for count in ("updates", "tokens", "slots"):
        assert [point[count] for point in ours["points"]] == [
            point[count] for point in theirs["points"]
        ]
    assert ours["environment"]["before"] == [{"world_size": 2}]
    assert two.checkpoint()["optimizer_history"][-1]["num_updates"] == 6
    ours, theirs = two.checkpoint()["model"], one.checkpoint()["model"]
    for name, tensor in ours.items():
        assert (tensor - theirs[name]).abs().max() <= TOLERANCE, name
    # What is logged is summed over both.
    ours, theirs = (run.checkpoint("checkpoint_best.pt")["extra_state"] for run in (two, one))
    assert ours["val_loss"] == pytest.approx(theirs["val_loss"], abs=1e-3)


def test_two_and_four_processes_have_the_gradients_of_one(
    corpus, fairseq_train, launched, usual_arguments, tmp_path
):
    """In float64, of two updates, each of four batches."""
    usual = (*NO_DROPOUT, *NOTHING_KEPT, "--max-update", "2", "--seed", "5")
    with exact_gradients.exact_gradients() as expected:
        fairseq_train(corpus.data, tmp_path / "one", *usual, "--update-freq", "4")
    for workers in (2, 4):
        file = tmp_path / f"{workers}.pt"
        words = (corpus.data, *usual_arguments, *usual, "--save-dir", tmp_path / "several")
        command = ("python", exact_gradients.__file__, file, *words)
        launched(workers, *command, "--update-freq", str(4 // workers))
        found = torch.load(file)
        assert len(found) == len(expected) == 2
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.keys() == theirs.keys()
            for name, gradient in ours.items():
                assert gradient.dtype == torch.float64
                assert (gradient - theirs[name]).abs().max() <= EXACT, name
        # What the two updates have in common would not show.
        name = max(found[0], key=lambda name: found[0][name].abs().max())
        assert (found[0][name] - found[1][name]).abs().max() > 1e-3


def test_a_mistake_under_several_processes_is_one_line(launched, usual_arguments, tmp_path):
    words = (tmp_path / "none", *usual_arguments, "--save-dir", tmp_path / "run")
    done = launched(2, "fairseq-train", *words, status=1)
    assert re.fullmatch(rf"(\[1\] )?{re.escape(str(tmp_path / 'none'))}.*\n", done.stderr)


def test_a_mistake_in_a_worker_that_fairseq_started_is_the_last_line(
    corpus, forked, usual_arguments, tmp_path
):
    """Of two GPUs, which CPUs stand for; torch's own traceback is no news."""
    words = (
        *(corpus.data, *usual_arguments, "--save-dir", tmp_path, "--restore-file", "none.pt"),
        *("--distributed-world-size", "2", "--distributed-backend", "gloo"),
        *("--ddp-backend", "legacy_ddp"),
        *("--distributed-init-method", f"tcp://localhost:{free_port()}"),
    )
    command = ["python", started_by_fairseq.__file__, *map(str, words)]
    done = subprocess.run(command, env=forked, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "--restore-file none.pt: no such file"
    assert "Traceback" not in done.stderr
    assert "distributed init (rank 0)" in done.stdout
