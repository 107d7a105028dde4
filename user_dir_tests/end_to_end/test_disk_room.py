"""Whether there is room for a checkpoint is said before training, by what will be written."""

import shutil

import pytest

from convbert_plugin.training import disk_room

pytestmark = [pytest.mark.pretraining, pytest.mark.survival]

INTERVALS = ("--save-interval-updates", "2", "--keep-interval-updates", "1")
LARGE = ("--max-positions", "20000", "--max-update", "2")
# What a file holds beside tensors.
BESIDE = 300_000


@pytest.fixture
def free(monkeypatch):
    """Says how many bytes of a disk are free."""

    def say(count, total=1 << 40):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: (total, total - count, count))

    return say


@pytest.fixture
def estimates(monkeypatch):
    """What is estimated as trainings begin."""
    made, estimate = [], disk_room.checkpoint_bytes

    def noted(trainer):
        made.append(estimate(trainer))
        return made[-1]

    monkeypatch.setattr(disk_room, "checkpoint_bytes", noted)
    return made


@pytest.mark.parametrize(
    "options",
    [(), ("--no-save-optimizer-state",), ("--optimizer", "adam"), ("--objective", "masked_lm")],
)
def test_the_estimate_is_the_size_of_what_is_written(
    corpus, fairseq_train, tmp_path, estimates, options
):
    run = fairseq_train(corpus.data, tmp_path / "run", *LARGE, *options)
    size = (run.folder / "checkpoint_last.pt").stat().st_size
    assert size - BESIDE < estimates[0] <= size
    # Of a run that goes on, the state of its optimizer says it.
    fairseq_train(corpus.data, run.folder, *LARGE, *options, "--max-update", "3")
    assert abs(estimates[1] - estimates[0]) < 1000


@pytest.mark.parametrize(
    ("options", "begun", "files"),
    [
        (INTERVALS, False, 3),
        (INTERVALS, True, 2),
        ((), False, 2),
        ((), True, 1),
        (("--disable-validation",), False, 1),
        ((*INTERVALS, "--no-last-checkpoints"), False, 2),
    ],
)
def test_a_disk_without_room_is_told_before_training(
    corpus, fairseq_train, pretrained, tmp_path, free, estimates, options, begun, files
):
    folder = pretrained.folder if begun else tmp_path / "run"
    free(0)
    with pytest.raises(SystemExit) as ended:
        fairseq_train(corpus.data, folder, *options, "--max-update", "4")
    need = files * estimates[-1]
    assert ended.value.code == (
        f"--save-dir {folder}: 0.0 MB are free there, and the next checkpoint takes "
        f"{need / 1e6:.1f} MB ({files} file{'s' * (files > 1)}): make room, or choose another "
        "folder"
    )
    free(need)
    fairseq_train(corpus.data, folder, *options, "--max-update", "4")


def test_what_writes_nothing_asks_for_no_room(corpus, fairseq_train, pretrained, free):
    free(0)
    fairseq_train(corpus.data, pretrained.folder, "--max-update", "4", "--no-save")
    fairseq_train(corpus.data, pretrained.folder, "--max-update", "2")
    # Of a file system that does not say, nothing is known.
    free(0, total=0)
    fairseq_train(corpus.data, pretrained.folder, "--max-update", "3")
