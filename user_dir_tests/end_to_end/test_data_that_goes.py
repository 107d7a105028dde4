"""Data that disappear, or are changed, while a run reads them: one line, and nothing is lost."""

import multiprocessing
import os
import shutil

import pytest
import torch
from fairseq.trainer import Trainer

pytestmark = [pytest.mark.pretraining, pytest.mark.survival]

# No checkpoint but those of an end before the time; the schedule has to be the same for all runs.
USUAL = ("--save-interval", "100", "--total-num-update", "60", "--warmup-updates", "5")
NO_VALIDATION = ("--disable-validation",)


@pytest.fixture
def at_update(monkeypatch):
    """Let something happen once when so many updates are made."""

    def happens(number, action):
        train_step, actions = Trainer.train_step, [action]

        def step(self, *arguments, **options):
            result = train_step(self, *arguments, **options)
            if self.get_num_updates() == number and actions:
                actions.pop()()
            return result

        monkeypatch.setattr(Trainer, "train_step", step)

    return happens


@pytest.fixture
def shards(corpus, tmp_path):
    """Two shards: the data, and the same with what is held out to train on."""
    first, second = (shutil.copytree(corpus.data, tmp_path / name) for name in ("a", "b"))
    for suffix in ("bin", "idx"):
        shutil.copy(second / f"valid.{suffix}", second / f"train.{suffix}")
    return first, second


@pytest.fixture
def run(fairseq_train, tmp_path):
    def run(data, name, *arguments):
        data = ":".join(map(str, data))
        return fairseq_train(data, tmp_path / name, *USUAL, *NO_VALIDATION, *arguments)

    return run


def ends_in(line_begins, action):
    with pytest.raises(SystemExit) as ended:
        action()
    line = ended.value.code
    assert line.startswith(line_begins), line
    assert "\n" not in line
    return line


def assert_goes_on(run, data, name, *arguments):
    """To what it would have been without the break."""
    resumed = run(data, name, *arguments)
    whole = run(data, "whole", *arguments)
    for part in ("model", "last_optimizer_state"):
        ours, theirs = (tensors_of(each.checkpoint()[part]) for each in (resumed, whole))
        assert len(ours) == len(theirs) > 0
        assert all(map(torch.equal, ours, theirs))


def tensors_of(value):
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else ()
    return [tensor for part in parts for tensor in tensors_of(part)]


def updates_of(folder):
    state = torch.load(folder / "checkpoint_last.pt", weights_only=True)
    return state["optimizer_history"][-1]["num_updates"], state["extra_state"]["train_iterator"]


def test_a_shard_that_is_gone_when_its_epoch_comes(run, shards, at_update, tmp_path):
    second = shards[1]
    at_update(2, lambda: os.rename(second / "train.idx", tmp_path / "train.idx"))
    line = ends_in(f"{second / 'train.idx'} is missing: ", lambda: run(shards, "run"))
    assert "fairseq-preprocess" in line
    updates, place = updates_of(tmp_path / "run")
    assert (place["epoch"], place["iterations_in_epoch"]) == (2, 0)
    # It is told again before anything is trained.
    ends_in(f"{second / 'train.idx'} is missing: ", lambda: run(shards, "run"))
    os.rename(tmp_path / "train.idx", second / "train.idx")
    assert_goes_on(run, shards, "run", "--max-update", updates + 3)


def test_a_shard_that_holds_other_text_when_its_epoch_comes_again(run, shards, at_update, tmp_path):
    first = shards[0]

    def exchange():
        for suffix in ("bin", "idx"):
            os.replace(first / f"valid.{suffix}", first / f"train.{suffix}")

    at_update(2, exchange)
    ends_in(
        f"{first / 'train.bin'}: holds other text than when this run read it before: ",
        lambda: run(shards, "run"),
    )
    updates, place = updates_of(tmp_path / "run")
    assert (place["epoch"], place["iterations_in_epoch"]) == (3, 0)
    resumed = run(shards, "run", "--max-update", updates + 1)
    assert len(resumed.logs["train_inner"]) == 1


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_file_that_is_cut_while_it_is_read(run, shards, at_update, tmp_path, workers):
    data, file = shards[:1], shards[0] / "train.bin"
    content = file.read_bytes()
    at_update(1, lambda: os.truncate(file, 100))
    options = ("--update-freq", "3", "--batch-size", "3", "--data-buffer-size", "2")
    words = f"{file}: was changed while the run read it: start the run again when it is whole"
    ends_in(words, lambda: run(data, "run", *options, "--num-workers", workers))
    updates, place = updates_of(tmp_path / "run")
    assert (place["epoch"], place["iterations_in_epoch"]) == (1, 3 * updates)
    file.write_bytes(content)
    assert_goes_on(run, data, "run", *options, "--max-update", updates + 2)


def test_a_file_that_is_cut_in_an_earlier_epoch(run, corpus, at_update, tmp_path):
    """All that is left of this one is read already."""
    data = [shutil.copytree(corpus.data, tmp_path / "data")]
    options = ("--batch-size", "1000", "--data-buffer-size", "0")
    at_update(1, lambda: os.truncate(data[0] / "train.bin", 100))
    words = f"{data[0] / 'train.bin'}: was changed while the run read it: "
    ends_in(words, lambda: run(data, "run", *options))
    assert updates_of(tmp_path / "run")[1]["epoch"] == 2


def test_a_validation_set_that_is_cut(fairseq_train, corpus, at_update, tmp_path):
    data = shutil.copytree(corpus.data, tmp_path / "data")
    at_update(2, lambda: os.truncate(data / "valid.bin", 100))
    saving = ("--save-interval-updates", "3", "--max-update", "9")
    ends_in(
        f"{data / 'valid.bin'}: was changed while the run read it: ",
        lambda: fairseq_train(data, tmp_path / "run", *USUAL, *saving),
    )
    assert updates_of(tmp_path / "run")[0] == 3
    # What was cut off there is made up for.
    shutil.copy(corpus.data / "valid.bin", data)
    resumed = fairseq_train(data, tmp_path / "run", *USUAL, *saving, "--max-update", "4")
    assert [log["valid_num_updates"] for log in resumed.logs["valid"]] == ["3", "4"]


def test_a_process_that_reads_and_is_killed(run, shards, at_update, tmp_path):
    def kill():
        for process in multiprocessing.active_children():
            process.kill()

    at_update(2, kill)
    options = ("--num-workers", "1", "--data-buffer-size", "1", "--batch-size", "2")
    line = ends_in(
        "a process of --num-workers has gone (",
        lambda: run(shards[:1], "run", *options),
    )
    assert line.endswith("start the run again, with less of them where memory was short")
    assert updates_of(tmp_path / "run")[0] >= 2


def test_what_is_wrong_with_a_later_shard_is_told_at_the_start(run, shards):
    first, second = shards
    os.truncate(second / "train.bin", 100)
    ends_in(f"{second / 'train.bin'} does not fit its .idx", lambda: run(shards, "run"))
    ends_in(f"{first}:: a shard without a name", lambda: run([first, ""], "run"))


def test_the_tokenizer_of_the_data_may_go_once_it_is_read(run, corpus, at_update, tmp_path):
    data = [shutil.copytree(corpus.data, tmp_path / "data")]
    held = {file.name: file.read_bytes() for file in data[0].glob("*token*")}
    held["vocab.txt"] = (data[0] / "vocab.txt").read_bytes()
    at_update(1, lambda: shutil.rmtree(data[0]))
    folder = run(data, "run", "--max-update", "2").folder
    assert {name: (folder / name).read_bytes() for name in held} == held
