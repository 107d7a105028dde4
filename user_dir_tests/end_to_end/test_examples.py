"""The scripts in examples/, run as a user runs them, with less training."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import convbert_plugin

CHECKOUT = Path(convbert_plugin.__file__).parents[1]
# The scripts use the .venv of the checkout, and would make it where it is missing.
pytestmark = [
    pytest.mark.pretraining,
    pytest.mark.skipif(
        Path(sys.prefix).resolve() != (CHECKOUT / ".venv").resolve(),
        reason="the tests do not run in the checkout's .venv",
    ),
]
TINY = ["--encoder-layers", "1", "--encoder-embed-dim", "32", "--encoder-ffn-embed-dim", "32"]


def words_of(page):
    """A page, without the places where its long words may break."""
    return page.read_text().replace("<wbr>", "")


@pytest.fixture(scope="module")
def run(forked, tmp_path_factory):
    """Run bash, where hydra may leave its log; what it prints."""
    folder = tmp_path_factory.mktemp("here")

    def run(*command, **environment):
        finished = subprocess.run(
            ["bash", *map(str, command)],
            cwd=folder,
            env={**forked, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert finished.returncode == 0, finished.stdout[-3000:]
        return finished.stdout

    return run


def test_quickstart_removes_nothing_that_it_did_not_make(tmp_path):
    (tmp_path / "text").write_text("mine")
    finished = subprocess.run(
        ["bash", "examples/quickstart.sh"],
        cwd=CHECKOUT,
        env={**os.environ, "QUICKSTART_OUT": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[-1].startswith(f"{tmp_path}: not empty and not made by")
    assert (tmp_path / "text").read_text() == "mine"


@pytest.fixture(scope="module")
def text_files(tmp_path_factory):
    folder, paths = tmp_path_factory.mktemp("texts"), []
    for name, documents in (("train", 60), ("valid", 10)):
        lines = ["a cat sat on the mat .", "the dog saw a cat .", ""] * documents
        paths.append(folder / f"{name}.txt")
        paths[-1].write_text("\n".join(lines))
    vocab = folder / "vocab.txt"
    words = "[PAD] [UNK] [CLS] [SEP] [MASK] a cat sat on the mat dog saw ."
    vocab.write_text(words.replace(" ", "\n"))
    return [*paths, vocab]


@pytest.fixture(scope="module")
def pretrain(run, text_files):
    """Run the script for so many updates, into a folder; what it prints."""

    def pretrain(updates, out, texts=text_files):
        options = ("--tokens-per-sample", "16", "--batch-size", "8", "--warmup-updates", "2")
        words = (*texts, out, *TINY, *options, "--max-update", updates)
        return run(CHECKOUT / "examples/pretraining/pretrain.sh", *words)

    return pretrain


@pytest.fixture(scope="module")
def small(pretrain, tmp_path_factory):
    """The folder that the script leaves after three updates."""
    folder = tmp_path_factory.mktemp("small") / "out"
    assert "token frequencies alone" in pretrain(3, folder)
    return folder


def test_pretrain_script_trains_then_goes_on(pretrain, small, text_files, tmp_path):
    out = shutil.copytree(small, tmp_path / "out")
    printed = pretrain(5, out)
    assert "reusing" in printed
    log = (out / "train.log").read_text()
    assert "Loaded checkpoint" in log
    assert "@ 3 updates" in log
    # Fourteen rows, of which the corpus uses nine.
    results = json.loads((out / "results.json").read_text())
    assert 1.8 < results["unigram_cross_entropy"] < 2.7
    # Quiet: what fairseq and other libraries say is in the log.
    assert "| INFO |" in log
    assert "INFO" not in printed
    assert "Warning" not in printed
    _, valid, vocabulary = text_files
    with pytest.raises(AssertionError, match="encoded/train: was made from another TRAIN than"):
        pretrain(7, out, [valid, valid, vocabulary])


@pytest.fixture
def glue_folders(tmp_path):
    """Two tasks of the folders that GLUE has, over words of a vocabulary beside a checkpoint."""
    rows = [("the cat sat .", "1"), ("a dog saw .", "0"), ("the dog sat on a mat .", "1")] * 6
    for task in ("SST-2", "CoLA"):
        folder = tmp_path / "GLUE" / task
        folder.mkdir(parents=True)
        for file in ("train", "dev"):
            lines = [f"{text}\t{label}" for text, label in rows]
            if task == "CoLA":
                lines = [f"x\t{label}\t\t{text}" for text, label in rows]
            header = [] if task == "CoLA" else ["sentence\tlabel"]
            (folder / f"{file}.tsv").write_text("\n".join([*header, *lines]) + "\n")
    return tmp_path / "GLUE"


@pytest.mark.glue
def test_the_script_over_tasks_and_seeds(run, small, glue_folders, tmp_path):
    checkpoint = small / "run" / "checkpoint_last.pt"

    def fine_tune(*arguments):
        script = ["python", CHECKOUT / "examples" / "glue" / "finetune.py"]
        script += ["--glue", glue_folders, "--checkpoint", checkpoint, "--out", tmp_path / "out"]
        return run("-c", " ".join(map(str, [*script, *arguments])))

    overrides = ("optimization.max_update=2", "common.cpu=true", "dataset.num_workers=0")
    printed = fine_tune("--tasks", "cola,SST-2", "--seeds", "1,2", "--jobs", "2", *overrides)
    for task in ("cola", "sst-2"):
        for seed in ("1", "2"):
            assert f"{task}, seed {seed}: done" in printed
    # What is done is skipped, what is not goes on from its last checkpoint.
    left = tmp_path / "out" / "run" / "cola" / "seed2"
    (left / "done").unlink()
    printed = fine_tune("--tasks", "cola", "--seeds", "1,2", *overrides)
    assert "cola, seed 1: done before" in printed
    assert "cola, seed 2: goes on" in printed
    assert "Loaded checkpoint" in (left / "train.log").read_text()
    # A run that fails does not keep the others, and other settings are not taken for the same.
    fails = ("--tasks", "cola,sst-2", "--seeds", "1", "optimization.max_updatez=3", *overrides[1:])
    with pytest.raises(AssertionError, match="a run with other settings"):
        fine_tune(*fails)
    elsewhere = (*fails, "--out", tmp_path / "elsewhere")
    with pytest.raises(AssertionError, match=r"(?s)cola, seed 1: failed.*sst-2, seed 1: failed"):
        fine_tune(*elsewhere)
    printed = fine_tune("--tasks", "cola", "--seeds", "1", "--random-weights", *overrides)
    assert "random weights" in printed
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "3 updates of replaced_token_detection" in words_of(tmp_path / "out" / "report.html")
    # Random weights, and both seeds of cola: the one that was begun again was finished.
    assert [group["task"] for group in report["groups"]] == ["cola", "cola", "sst-2"]
    assert "finished, with 2 of 2 updates" in (left / "train.log").read_text()


@pytest.fixture
def squad_files(tmp_path):
    """SQuAD 2.0 over words of the same vocabulary: two questions with an answer, one without."""
    context = "the cat sat on the mat . a dog saw the cat ."
    answers = {"the cat": "sat", "a dog": "saw the cat", "the dog": None}
    files = []
    for split in ("train", "dev"):
        questions = [
            {
                "id": f"{split} {question}",
                "question": question,
                "is_impossible": text is None,
                "answers": [{"text": text, "answer_start": context.index(text)}] if text else [],
            }
            for question, text in answers.items()
        ]
        content = {"data": [{"paragraphs": [{"context": context, "qas": questions}]}]}
        files.append(tmp_path / f"{split}-v2.0.json")
        files[-1].write_text(json.dumps({"version": "v2.0", **content}))
    return files


@pytest.mark.squad
def test_the_script_over_seeds_of_squad(run, small, squad_files, tmp_path):
    checkpoint = small / "run" / "checkpoint_last.pt"

    def fine_tune(*arguments):
        script = ["python", CHECKOUT / "examples" / "squad" / "finetune.py", "--squad"]
        script += [*squad_files, "--checkpoint", checkpoint, "--out", tmp_path / "out"]
        return run("-c", " ".join(map(str, [*script, *arguments])))

    overrides = (
        *("task.tokens_per_sample=12", "task.doc_stride=3", "dataset.batch_size=4"),
        *("common.cpu=true", "dataset.num_workers=0"),
    )
    printed = fine_tune("--seeds", "1,2", "--jobs", "2", *overrides)
    assert "squad, seed 1: done" in printed
    assert "squad, seed 2: done" in printed
    # A window has 12 - 3 - 2 tokens of a context of 13, and the next begins 3 after it: three for
    # each of three questions. Twice 9 windows in batches of 4 are 6 updates.
    (group,) = json.loads((tmp_path / "out" / "report.json").read_text())["groups"]
    assert (group["settings"]["max_update"], group["settings"]["batch_size"]) == (6, 4)
    assert (group["task"], group["question_answering_head"]) == ("squad2.0", "released")
    scores = {one["metric"]: one for one in group["scores"]}
    assert scores["f1"]["seeds"] == [1, 2]
    assert [one["updates"] for one in scores["best_f1"]["per_seed"]] == [6, 6]
    assert [one["seed"] for one in group["answers"][0]["thresholds"]] == [1, 1, 2, 2]
    page = words_of(tmp_path / "out" / "report.html")
    assert "3 updates of replaced_token_detection" in page
    assert "thresholds</h2>" in page
    (tmp_path / "out" / "run" / "squad" / "seed2" / "done").unlink()
    printed = fine_tune("--seeds", "1,2", *overrides)
    assert "squad, seed 1: done before" in printed
    assert "squad, seed 2: goes on" in printed
    squad_files[1].write_text(squad_files[0].read_text())
    with pytest.raises(AssertionError, match=r"squad: was made from another --squad dev-v2.0.json"):
        fine_tune("--seeds", "1", *overrides)
