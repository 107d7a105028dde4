"""What fine-tuning tasks share, on a made-up one: it is trained, recorded, resumed, reported."""

import json

import fairseq_cli.train
import pytest
import torch

from convbert_plugin.cli import main as convbert
from convbert_plugin.data.binarized import open_lines
from convbert_plugin.files.fingerprints import fingerprint_of
from convbert_plugin.models.convbert import ConvBertModel
from user_dir_tests.end_to_end.conftest import TINY, USER_DIR, Run, record_of
from user_dir_tests.end_to_end.marked_words import MarkedWords, mean_loss, share_found

pytestmark = [pytest.mark.glue, pytest.mark.survival]

USUAL = (
    *("--user-dir", USER_DIR, "--task", "marked_words", "--criterion", "marked_words", *TINY),
    *("--optimizer", "convbert_adamw", "--lr-scheduler", "convbert_linear", "--lr", "1.5e-4"),
    *("--batch-size", "32", "--cpu", "--num-workers", "0", "--seed", "3", "--log-format", "json"),
    *("--no-epoch-checkpoints", "--save-interval-updates", "4", "--total-num-update", "12"),
    *("--best-checkpoint-metric", "found", "--maximize-best-checkpoint-metric"),
)


@pytest.fixture
def find_words(corpus, run_fairseq):
    def run(folder, *arguments):
        arguments = (corpus.data, *USUAL, "--save-dir", folder, *arguments)
        return Run(folder, run_fairseq(fairseq_cli.train, *arguments))

    return run


def model_of(run):
    return ConvBertModel.from_pretrained(run.folder, "checkpoint_last.pt").model.eval()


def test_it_is_trained_from_a_checkpoint_and_recorded(pretrained, find_words, corpus, tmp_path):
    source = pretrained.folder / "checkpoint_last.pt"
    run = find_words(tmp_path / "run", "--max-update", "8", "--finetune-from-model", source)
    record = record_of(run)
    assert record.pop("validations")[-1].keys() == {"subset", "updates", "loss", "found"}
    settings, data, model = (record.pop(name) for name in ("settings", "data", "model"))
    # What two runs that are alike may differ in.
    assert record.pop("environment").keys() == {
        *("processor", "gpu", "threads", "world_size", "python", "torch", "fairseq", "plugin"),
        "commit",
    }
    assert record["start"].pop("weights") == fingerprint_of([source])
    assert record == {
        "task": "last noun",
        "metrics": ["found"],
        "seed": 3,
        "start": {
            "kind": "trained here",
            "checkpoint": str(source),
            "objective": "replaced_token_detection",
            "updates": 2,
        },
    }
    assert model["arch"] == "convbert_small"
    assert (model["layers"], model["conv_kernel_size"], model["conv_type"]) == (
        2,
        3,
        "span_dynamic",
    )
    # What USUAL and TINY say, and defaults, by the names of fairseq's options.
    assert settings.items() >= {
        "lr": [1.5e-4], "batch_size": 32, "max_update": 8, "total_num_update": 12,
        "optimizer": "convbert_adamw", "lr_scheduler": "convbert_linear",
        "criterion": "marked_words", "weight_decay": 0.01, "layer_lr_decay": 1.0,
        "warmup_updates": 0, "update_freq": [1], "clip_norm": 0.0, "dropout": 0.1,
        "noun": "last", "train_subset": "train", "torch": torch.__version__,
    }.items()  # fmt: skip
    # Nothing that may differ between runs that are alike.
    assert not settings.keys() & {"seed", "save_dir", "data", "num_workers", "restore_file"}
    assert data == {
        "vocabulary": model_of(run).vocabulary.fingerprint(),
        **{
            split: fingerprint_of(corpus.data / f"{split}.{end}" for end in ("bin", "idx"))
            for split in ("train", "valid")
        },
    }
    entries = record_of(run)["validations"]
    assert 0 < entries[0]["found"] < entries[1]["found"]
    assert [(entry["subset"], entry["updates"]) for entry in entries] == [
        ("valid", 4),
        ("valid", 8),
    ]
    model = model_of(run)
    lines = open_lines(corpus.data / "valid", model.vocabulary)
    marked = MarkedWords(lines, model.vocabulary, place=-1)
    share = share_found(model, marked)
    assert entries[-1]["found"] == pytest.approx(share)
    # Every digit, where the log shows four places.
    assert entries[-1]["loss"] == pytest.approx(mean_loss(model, marked), rel=1e-5)
    best = [log["valid_best_found"] for log in run.logs["valid"][1:]]
    shares = [entry["found"] for entry in entries]
    assert [float(value) for value in best] == pytest.approx([max(shares)], abs=1e-3)
    checkpoint = run.checkpoint("checkpoint_best.pt")
    assert checkpoint["extra_state"]["val_loss"] == max(shares)
    assert type(checkpoint["extra_state"]["best"]) is float


def test_left_before_its_first_score_it_records_from_where_it_began(
    pretrained, find_words, tmp_path
):
    source = pretrained.folder / "checkpoint_last.pt"
    begun = ("--finetune-from-model", source)
    find_words(tmp_path / "run", "--max-update", "1", "--disable-validation", *begun)
    assert not (tmp_path / "run" / "scores.json").exists()
    for updates in ("2", "3"):
        run = find_words(tmp_path / "run", "--max-update", updates, *begun)
        start = record_of(run)["start"]
        assert (start["checkpoint"], start["updates"]) == (str(source), 2)
        # As a run that is left again.
        (run.folder / "scores.json").unlink()


def test_a_time_to_train_for_is_one_of_the_settings(find_words, tmp_path):
    budget = ("--budget-minutes", "1e-9", "--total-num-update", "0")
    record = record_of(find_words(tmp_path / "run", *budget))
    assert [entry["updates"] for entry in record["validations"]] == [1]
    settings = record["settings"]
    assert (settings["budget_minutes"], settings["stop_time_hours"]) == (1e-9, 0)


def test_a_run_that_is_cut_off_goes_on_as_if_it_were_not(find_words, tmp_path):
    whole = find_words(tmp_path / "whole", "--max-update", "12")
    parts = find_words(tmp_path / "parts", "--max-update", "8")
    # What was scored beyond the checkpoint that is left is forgotten.
    (parts.folder / "checkpoint_1_4.pt").replace(parts.folder / "checkpoint_last.pt")
    parts = find_words(tmp_path / "parts", "--max-update", "12")
    theirs = parts.checkpoint()["model"]
    for name, tensor in whole.checkpoint()["model"].items():
        assert torch.equal(tensor, theirs[name]), name
    assert record_of(parts) == record_of(whole)
    assert "patience" not in record_of(whole)["settings"]
    assert [entry["updates"] for entry in record_of(whole)["validations"]] == [4, 8, 10, 12]


def last_line(run_it):
    with pytest.raises(SystemExit) as ended:
        run_it()
    assert "\n" not in ended.value.code
    return ended.value.code


def test_the_folder_of_another_task_and_wrong_scores_are_refused(find_words, corpus, tmp_path):
    find_words(tmp_path / "run", "--max-update", "4")
    line = last_line(lambda: find_words(tmp_path / "run", "--noun", "first"))
    assert "holds first noun, the checkpoint is of a run on last noun: choose another" in line
    # Before it trains, and not when it is validated.
    (tmp_path / "run" / "scores.json").write_text("{")
    line = last_line(lambda: find_words(tmp_path / "run", "--max-update", "8"))
    assert line.startswith(f"{tmp_path}/run/scores.json: damaged")
    line = last_line(lambda: find_words(tmp_path / "a", "--best-checkpoint-metric", "accuracy"))
    assert line.startswith("--best-checkpoint-metric accuracy: last noun has loss, found")
    line = last_line(lambda: find_words(tmp_path / "a", "--best-checkpoint-metric", "loss"))
    assert line == "--best-checkpoint-metric loss goes without --maximize-best-checkpoint-metric"


def test_checkpoints_of_earlier_versions_name_their_task(find_words, tmp_path):
    run = find_words(tmp_path / "run", "--max-update", "4")
    checkpoint = run.checkpoint()
    state = checkpoint["extra_state"]["MarkedWordsTask"]
    assert state["task"] == "last noun"
    state["glue_task"] = state.pop("task")
    torch.save(checkpoint, run.folder / "checkpoint_last.pt")
    line = last_line(lambda: find_words(run.folder, "--noun", "first"))
    assert "holds first noun, the checkpoint is of a run on last noun" in line
    find_words(run.folder, "--max-update", "8")
    assert [entry["updates"] for entry in record_of(run)["validations"]] == [4, 8]


def test_it_is_reported_beside_others(find_words, tmp_path):
    run = find_words(tmp_path / "runs" / "a", "--max-update", "4", "--patience", "9")
    assert record_of(run)["settings"]["patience"] == 9
    assert convbert(["report", str(tmp_path / "runs"), str(tmp_path / "report.html")]) == 0
    (group,) = json.loads((tmp_path / "report.json").read_text())["groups"]
    assert (group["task"], group["label"], group["classification_head"]) == (
        *("last noun", "random weights"),
        None,
    )
    assert [row["metric"] for row in group["scores"]] == ["found"]
