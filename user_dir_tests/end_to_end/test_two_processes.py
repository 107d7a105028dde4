"""Two processes on CPUs, begun from a checkpoint and resumed on the way, against one process."""

import pytest

from user_dir_tests.end_to_end.unrounded import unrounded_updates

pytestmark = [pytest.mark.pretraining, pytest.mark.survival]

# The gradients of two halves are added in another order.
TOLERANCE = 1e-6
RELATIVE = 1e-5


def test_two_processes_equal_one_with_two_batches_an_update(
    corpus, fairseq_train, train_on_two, usual_arguments, pretrained, tmp_path
):
    arguments = (
        *("--finetune-from-model", pretrained.folder / "checkpoint_last.pt"),
        *("--dropout", "0", "--attention-dropout", "0", "--total-num-update", "9"),
    )
    with unrounded_updates() as updates:
        one = fairseq_train(
            corpus.data, tmp_path / "one", *arguments, "--update-freq", "2", "--max-update", "4"
        )
    # Clipping and Adam hide a factor of the gradient: its norm does not.
    norms = []
    for stop in ("2", "4"):
        usual = (corpus.data, *usual_arguments, "--save-dir", tmp_path / "two")
        numbers = train_on_two(*usual, *arguments, "--max-update", stop)
        norms += [update["gnorm"] for update in numbers]
    assert norms == pytest.approx([update["gnorm"] for update in updates], rel=RELATIVE)
    two = one._replace(folder=tmp_path / "two")
    assert two.checkpoint()["optimizer_history"][-1]["num_updates"] == 4
    ours, theirs = two.checkpoint()["model"], one.checkpoint()["model"]
    for name, tensor in ours.items():
        assert (tensor - theirs[name]).abs().max() <= TOLERANCE, name
    # What is logged is summed over both.
    ours, theirs = (run.checkpoint("checkpoint_best.pt")["extra_state"] for run in (two, one))
    assert ours["val_loss"] == pytest.approx(theirs["val_loss"], abs=1e-3)
