"""What a pretraining run records of itself as it goes, and goes on."""

import shutil

import pytest
import torch
from fairseq.trainer import Trainer

from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.files.fingerprints import fingerprint_of
from convbert_plugin.files.pretraining_records import TIMES, read_pretraining_record
from convbert_plugin.training import recording

pytestmark = [pytest.mark.experiments, pytest.mark.survival]

# Of 16 batches an epoch, 8 updates.
EVERY_OTHER = ("--update-freq", "2", "--log-interval", "3", "--save-interval-updates", "4")
SCHEDULE = ("--total-num-update", "30", "--warmup-updates", "5")


def recorded(run):
    return read_pretraining_record(run.folder / "pretraining.json")


def without_times(record):
    """What two equal runs leave."""
    rows = {
        part: [{name: row[name] for name in row if name not in TIMES} for row in record[part]]
        for part in ("points", "validations")
    }
    return {**record, **rows}


@pytest.fixture
def counted(monkeypatch):
    """Tokens and slots after each update, counted one by one in the batches that are trained on."""
    counts = {}
    train_step = Trainer.train_step

    def counting_step(trainer, samples, *arguments):
        logged = train_step(trainer, samples, *arguments)
        pad = trainer.task.source_dictionary.pad()
        tokens, slots = counts.get(trainer.get_num_updates() - 1, (0, 0))
        for sample in samples:
            ids = sample["net_input"]["src_tokens"].flatten().tolist()
            tokens += sum(id != pad for id in ids)
            slots += len(ids)
        counts[trainer.get_num_updates()] = (tokens, slots)
        return logged

    monkeypatch.setattr(Trainer, "train_step", counting_step)
    return counts


def test_points_are_the_lines_of_the_log_with_what_was_seen_by_then(
    corpus, fairseq_train, tmp_path, counted
):
    run = fairseq_train(corpus.data, tmp_path / "run", *EVERY_OTHER, "--max-update", "10")
    record = recorded(run)
    assert [point["updates"] for point in record["points"]] == [3, 6, 9]
    for point, line in zip(record["points"], run.logs["train_inner"], strict=True):
        assert (point["tokens"], point["slots"]) == counted[point["updates"]]
        assert point.keys() > {"loss", "generator_loss", "discriminator_auc", "lr", "gnorm", "wps"}
        for name in point.keys() - {*TIMES, "updates", "tokens", "slots"}:
            assert point[name] == pytest.approx(float(line[name]), rel=1e-3, abs=2e-3), name
    assert [row["updates"] for row in record["validations"]] == [4, 8, 10]
    for row, line in zip(record["validations"], run.logs["valid"], strict=True):
        assert row["subset"] == "valid"
        assert row["tokens"] == counted[row["updates"]][0]
        assert row["discriminator_auc"] == pytest.approx(
            float(line["valid_discriminator_auc"]), abs=1e-4
        )
    seconds = [row["seconds"] for row in record["points"]]
    assert seconds == sorted(seconds)
    assert record["ended"] == "max_update"
    assert_it_says_what_makes_the_run(record, corpus)


def assert_it_says_what_makes_the_run(record, corpus):
    assert record["objective"] == "replaced_token_detection"
    assert (record["seed"], record["start"]) == (3, {"kind": "random weights"})
    model, settings = record["model"], record["settings"]
    # The released width of a small model's generator.
    assert model.items() >= {"arch": "convbert_small", "layers": 2, "generator_size": 0.25}.items()
    assert settings.items() >= {
        "lr": [2e-3], "update_freq": [2], "batch_size": 8, "tokens_per_sample": 24,
        "mask_prob": 0.15, "dropout": 0.1, "max_update": 10, "discriminator_weight": 50.0,
    }.items()  # fmt: skip
    assert not settings.keys() & {"seed", "save_dir", "data", "objective", "skip_nonfinite"}
    vocabulary = Vocabulary.load(corpus.data / "dict.txt")
    lines = (corpus.pieces / "train.txt").read_text().splitlines()
    data = record["data"]
    assert data["vocabulary_size"] == len(vocabulary)
    assert data["train_tokens"] == sum(len(line.split()) for line in lines)
    assert 0.85 < data["used_share"] < 0.95
    for split in ("train", "valid"):
        assert data[split] == fingerprint_of(
            corpus.data / f"{split}.{end}" for end in ("bin", "idx")
        )
    environment = record["environment"]
    assert environment["torch"] == torch.__version__
    assert (environment["gpu"], environment["world_size"]) == (None, 1)


@pytest.mark.parametrize("arguments", [(), ("--objective", "masked_lm", "--full-blocks")])
def test_a_resumed_run_leaves_the_record_of_the_uninterrupted_one(
    corpus, fairseq_train, tmp_path, arguments, counted
):
    data = corpus.data
    if arguments:
        shard = shutil.copytree(data, tmp_path / "shard")
        for suffix in ("bin", "idx"):
            shutil.copy(data / f"valid.{suffix}", shard / f"train.{suffix}")
        data = f"{data}:{shard}"
    usual = (*SCHEDULE, *EVERY_OTHER, *arguments)
    whole = fairseq_train(data, tmp_path / "whole", *usual, "--max-update", "14")
    expected = recorded(whole)
    assert expected["points"][-1]["updates"] == 12
    counts = dict(counted)
    # Within an epoch, and between two lines of the log; from before what was recorded last.
    folder = tmp_path / "parts"
    parts = fairseq_train(data, folder, *usual, "--max-update", "13")
    seconds = recorded(parts)["points"][0]["seconds"]
    last = folder / "checkpoint_last.pt"
    next(folder.glob("checkpoint_1_4.pt")).replace(last)
    parts = fairseq_train(data, folder, *usual, "--max-update", "14")
    found = recorded(parts)
    assert without_times(found) == without_times(expected)
    assert found["points"][0]["seconds"] == seconds
    assert [point["seconds"] for point in found["points"]] == sorted(
        point["seconds"] for point in found["points"]
    )
    for point in found["points"]:
        assert (point["tokens"], point["slots"]) == counts[point["updates"]]
    before = (folder / "pretraining.json").read_bytes()
    # Finished: nothing is trained.
    fairseq_train(data, folder, *usual, "--max-update", "14")
    assert (folder / "pretraining.json").read_bytes() == before


def test_a_run_without_lines_in_its_log_has_an_end(corpus, fairseq_train, tmp_path):
    usual = ("--log-interval", "100", "--max-update", "2", "--disable-validation")
    run = fairseq_train(corpus.data, tmp_path / "run", *usual)
    record = recorded(run)
    assert (record["points"], record["validations"]) == ([], [])
    assert record["ended"] == "max_update"
    assert "valid" not in record["data"]
    fairseq_train(corpus.data, tmp_path / "none", *usual, "--no-save")
    assert not (tmp_path / "none" / "pretraining.json").exists()


ENDS = {
    "max_epoch": ("--max-epoch", "1"),
    "stop_min_lr": ("--stop-min-lr", "1.97e-3", "--max-epoch", "3"),
    "patience": ("--patience", "1", "--lr", "1e-9", "--validate-interval-updates", "2"),
    "stop_time_hours": ("--stop-time-hours", "1e-9"),
}


@pytest.mark.parametrize("end", ENDS)
def test_it_says_how_a_run_ended(corpus, fairseq_train, tmp_path, end):
    limits = ("--total-num-update", "99", "--log-interval", "100", "--update-freq", "8")
    run = fairseq_train(corpus.data, tmp_path / "run", *limits, *ENDS[end])
    assert recorded(run)["ended"] == end


def test_a_run_begun_from_a_checkpoint_says_so(corpus, pretrained, fairseq_train, tmp_path):
    source = pretrained.folder / "checkpoint_last.pt"
    begun = ("--finetune-from-model", source, "--log-interval", "2")
    for updates in ("2", "4"):
        run = fairseq_train(corpus.data, tmp_path / "run", *begun, "--max-update", updates)
        start = recorded(run)["start"]
        assert (start["checkpoint"], start["updates"]) == (str(source), 2)
        assert start["weights"] == fingerprint_of([source])
    assert [point["updates"] for point in recorded(run)["points"]] == [2, 4]


def test_a_run_that_an_earlier_version_began_counts_from_where_it_goes_on(
    corpus, pretrained, fairseq_train, counted
):
    state = pretrained.checkpoint()
    del state["extra_state"][recording.SEEN]
    del state["extra_state"]["metrics"]["train_inner"]
    torch.save(state, pretrained.folder / "checkpoint_last.pt")
    (pretrained.folder / "pretraining.json").unlink()
    run = fairseq_train(corpus.data, pretrained.folder, "--max-update", "4")
    record = recorded(run)
    assert record["counted_from"] == 2
    assert [(point["updates"], point["tokens"]) for point in record["points"]] == [
        (updates, counted[updates][0]) for updates in (3, 4)
    ]


def test_a_damaged_record_ends_a_start_in_one_line(corpus, pretrained, fairseq_train):
    path = pretrained.folder / "pretraining.json"
    path.write_text("{")
    with pytest.raises(SystemExit) as ended:
        fairseq_train(corpus.data, pretrained.folder, "--max-update", "4")
    assert str(ended.value).startswith(f"{path}: damaged, or not the record of a pretraining run")
