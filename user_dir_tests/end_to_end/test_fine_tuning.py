"""What fine-tuning tasks share, on a made-up one: it is trained, recorded, resumed, reported."""

import json

import fairseq_cli.train
import pytest
import torch

from convbert_plugin.cli import main as convbert
from convbert_plugin.data.binarized import open_lines
from convbert_plugin.models.convbert import ConvBertModel
from user_dir_tests.end_to_end.conftest import TINY, USER_DIR, Run
from user_dir_tests.end_to_end.marked_words import MarkedWords, share_found

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


def record_of(run):
    return json.loads((run.folder / "scores.json").read_text())


def test_it_is_trained_from_a_checkpoint_and_recorded(pretrained, find_words, corpus, tmp_path):
    source = pretrained.folder / "checkpoint_last.pt"
    run = find_words(tmp_path / "run", "--max-update", "8", "--finetune-from-model", source)
    record = record_of(run)
    assert record.pop("validations")[-1].keys() == {"subset", "updates", "loss", "found"}
    assert record == {
        "task": "last noun",
        "metrics": ["found"],
        "seed": 3,
        "model": {"arch": "convbert_small", "layers": 2},
        "start": {
            "kind": "trained here",
            "checkpoint": str(source),
            "objective": "replaced_token_detection",
            "updates": 2,
        },
    }
    entries = record_of(run)["validations"]
    assert 0 < entries[0]["found"] < entries[1]["found"]
    assert [(entry["subset"], entry["updates"]) for entry in entries] == [
        ("valid", 4),
        ("valid", 8),
    ]
    model = ConvBertModel.from_pretrained(run.folder, "checkpoint_last.pt")
    model = getattr(model, "model", model).eval()
    lines = open_lines(corpus.data / "valid", model.vocabulary)
    share = share_found(model, MarkedWords(lines, model.vocabulary, place=-1))
    assert entries[-1]["found"] == pytest.approx(share)
    best = [log["valid_best_found"] for log in run.logs["valid"][1:]]
    shares = [entry["found"] for entry in entries]
    assert [float(value) for value in best] == pytest.approx([max(shares)], abs=1e-3)
    checkpoint = run.checkpoint("checkpoint_best.pt")
    assert checkpoint["extra_state"]["val_loss"] == max(shares)
    assert type(checkpoint["extra_state"]["best"]) is float


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
    find_words(tmp_path / "runs" / "a", "--max-update", "4")
    assert convbert(["report", str(tmp_path / "runs"), str(tmp_path / "report.html")]) == 0
    (group,) = json.loads((tmp_path / "report.json").read_text())["groups"]
    assert (group["task"], group["label"], group["classification_head"]) == (
        *("last noun", "random weights"),
        None,
    )
    assert [row["metric"] for row in group["scores"]] == ["found"]
