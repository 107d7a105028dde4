"""A disk that takes no more while a run trains, for a while or to its end."""

import os
import resource
import shutil

import fairseq_cli.train
import pytest
import torch

from convbert_plugin.files.pretraining_records import read_pretraining_record
from convbert_plugin.training.run_lock import LOCK_FILE

pytestmark = [pytest.mark.pretraining, pytest.mark.survival]

LAST, BEST = "checkpoint_last.pt", "checkpoint_best.pt"
FULL = "cannot be written (File too large): make room, or choose another place"
SAVING = (
    *("--save-interval-updates", "2", "--keep-interval-updates", "1"),
    *("--total-num-update", "30", "--warmup-updates", "5"),
)


@pytest.fixture
def disk():
    """Lets a file have so many bytes and no more, all where none are given."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size=before[0]: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def at_validation(monkeypatch):
    """Has something happen before the checkpoints of some updates, and says their scores."""
    validate = fairseq_cli.train.validate

    def validate_so(happens, scores=None):
        def replaced(cfg, trainer, *arguments):
            update = trainer.get_num_updates()
            happens.get(update, lambda: None)()
            return [scores[update]] if scores else validate(cfg, trainer, *arguments)

        monkeypatch.setattr(fairseq_cli.train, "validate", replaced)

    return validate_so


def updates_in(folder):
    """After how many updates each checkpoint there was written, as torch reads it."""
    states = {path.name: torch.load(path, weights_only=True) for path in folder.glob("*.pt")}
    return {name: state["optimizer_history"][-1]["num_updates"] for name, state in states.items()}


def test_a_disk_that_is_full_for_a_while(
    corpus, fairseq_train, tmp_path, disk, at_validation, caplog
):
    whole = fairseq_train(corpus.data, tmp_path / "whole", *SAVING, "--max-update", "8")
    folder, seen = tmp_path / "run", []

    def look():
        seen.append(updates_in(folder))

    kept = {LAST: 2, BEST: 2, "checkpoint_1_2.pt": 2}
    at_validation({4: lambda: disk(100_000), 6: look, 8: disk})
    run = fairseq_train(corpus.data, folder, *SAVING, "--max-update", "8")
    assert seen == [kept]
    assert updates_in(folder) == {LAST: 8, BEST: 8, "checkpoint_1_8.pt": 8}
    assert run.logs["train_inner"][-1]["loss"] == whole.logs["train_inner"][-1]["loss"]
    for part in ("model", "last_optimizer_state"):
        ours, theirs = ([*tensors(r.checkpoint()[part])] for r in (run, whole))
        assert all(map(torch.equal, ours, theirs))
    told = [record.message for record in caplog.records if "not saved" in record.message]
    assert told == [
        f"update {n} is not saved, training goes on and tries again: "
        f"{folder / f'checkpoint_1_{n}.pt'}: {FULL}"
        for n in (4, 6)
    ]
    assert "Traceback" not in caplog.text
    assert not [path for path in folder.iterdir() if path.suffix in (".tmp", ".part")]


def test_a_record_that_could_not_be_written_is_written_later(
    corpus, fairseq_train, tmp_path, disk, at_validation, caplog
):
    folder, seen = tmp_path / "run", []

    def look():
        seen.append(read_pretraining_record(folder / "pretraining.json")["points"][-1]["updates"])

    at_validation({4: lambda: disk(1000), 6: look, 8: disk})
    fairseq_train(corpus.data, folder, *SAVING, "--max-update", "8")
    assert seen == [2]
    record = read_pretraining_record(folder / "pretraining.json")
    assert [point["updates"] for point in record["points"]] == list(range(1, 9))
    assert record["ended"] == "max_update"
    assert f"{folder / 'pretraining.json'}: {FULL}" in caplog.text
    assert "Traceback" not in caplog.text


def tensors(value):
    if isinstance(value, torch.Tensor):
        yield value
    for held in value.values() if isinstance(value, dict) else ():
        yield from tensors(held)


def test_a_disk_that_stays_full(corpus, fairseq_train, tmp_path, disk, at_validation, caplog):
    at_validation({4: lambda: disk(100_000)})
    with pytest.raises(SystemExit) as ended:
        fairseq_train(corpus.data, tmp_path / "run", *SAVING, "--max-update", "6")
    newest = tmp_path / "run" / "checkpoint_1_6.pt"
    assert ended.value.code == (
        f"update 6, the last one, is not saved: {newest}: {FULL} (the same command goes on from "
        "the newest checkpoint)"
    )
    assert "update 4 is not saved, training goes on" in caplog.text
    assert set(updates_in(tmp_path / "run").values()) == {2}
    at_validation({4: disk})
    run = fairseq_train(corpus.data, tmp_path / "run", *SAVING, "--max-update", "6")
    assert len(run.logs["train_inner"]) == 4


@pytest.mark.parametrize(
    ("scores", "best"),
    # The second is on no disk; what is as good as none is none.
    [({2: 3.0, 4: 1.0, 6: 2.0}, 6), ({2: 3.0, 4: 1.0, 6: 4.0}, 2)],
)
def test_the_best_score_is_one_that_is_on_the_disk(
    corpus, fairseq_train, tmp_path, disk, at_validation, scores, best
):
    at_validation({4: lambda: disk(100_000), 6: disk}, scores)
    fairseq_train(corpus.data, tmp_path / "run", *SAVING, "--max-update", "6")
    assert updates_in(tmp_path / "run") == {LAST: 6, BEST: best, "checkpoint_1_6.pt": 6}
    state = torch.load(tmp_path / "run" / LAST, weights_only=True)
    assert state["extra_state"]["best"] == scores[best]


def test_a_best_one_that_could_not_be_copied_is_copied_later(
    corpus, fairseq_train, tmp_path, at_validation, monkeypatch
):
    copy = shutil.copyfileobj

    def fail(source, target, *_):
        target.write(source.read(1000))
        raise OSError(28, "No space left on device")

    happens = {
        4: lambda: monkeypatch.setattr(shutil, "copyfileobj", fail),
        6: lambda: monkeypatch.setattr(shutil, "copyfileobj", copy),
    }
    at_validation(happens, {2: 3.0, 4: 1.0, 6: 2.0})
    fairseq_train(corpus.data, tmp_path / "run", *SAVING, "--max-update", "6")
    assert updates_in(tmp_path / "run") == {LAST: 6, BEST: 4, "checkpoint_1_6.pt": 6}


def test_what_is_left_is_saved_after_the_last_epoch(
    corpus, fairseq_train, tmp_path, disk, at_validation
):
    """Where fairseq saves in every second epoch, and three are trained."""
    options = ("--save-interval", "2", "--max-epoch", "3", "--total-num-update", "100")
    epochs = 16
    at_validation({2 * epochs: lambda: disk(100_000), 3 * epochs: disk})
    fairseq_train(corpus.data, tmp_path / "run", *options)
    assert updates_in(tmp_path / "run")[LAST] == 3 * epochs
    at_validation({2 * epochs: lambda: disk(100_000)})
    with pytest.raises(SystemExit, match="update 48, the last one, is not saved: "):
        fairseq_train(corpus.data, tmp_path / "other", *options)
    assert not updates_in(tmp_path / "other")


def test_a_folder_that_is_removed_is_made_anew(corpus, fairseq_train, tmp_path, at_validation):
    folder = tmp_path / "run"
    at_validation({4: lambda: shutil.rmtree(folder)})
    fairseq_train(corpus.data, folder, *SAVING, "--max-update", "6")
    assert updates_in(folder) == {LAST: 6, BEST: 6, "checkpoint_1_6.pt": 6}
    assert {"dict.txt", "vocab.txt", LOCK_FILE} <= {path.name for path in folder.iterdir()}


def test_a_folder_that_is_read_only_for_a_while(
    corpus, fairseq_train, tmp_path, at_validation, caplog
):
    folder = tmp_path / "run"
    (tmp_path / "probe").mkdir(mode=0o555)
    if os.access(tmp_path / "probe", os.W_OK):
        pytest.skip("root may write anywhere")
    at_validation({4: lambda: folder.chmod(0o555), 6: lambda: folder.chmod(0o755)})
    fairseq_train(corpus.data, folder, *SAVING, "--max-update", "6")
    assert updates_in(folder) == {LAST: 6, BEST: 6, "checkpoint_1_6.pt": 6}
    [line] = [record.message for record in caplog.records if "not saved" in record.message]
    assert f"{folder / 'checkpoint_1_4.pt'}: cannot be made (Permission denied)" in line
