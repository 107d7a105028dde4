"""What was made from other sources is not taken for what is asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

import convbert_plugin

pytestmark = pytest.mark.survival

CHECKOUT = Path(convbert_plugin.__file__).parents[1]


@pytest.fixture
def made_from(tmp_path):
    def run(**sources):
        words = [f"{name}={tmp_path / path}" for name, path in sources.items()]
        script = str(CHECKOUT / "examples" / "made_from.py")
        return subprocess.run(
            [sys.executable, script, "encoded/train", *words],
            cwd=tmp_path,
            env={"PYTHONPATH": str(CHECKOUT)},
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture
def sources(tmp_path):
    (tmp_path / "a.txt").write_text("a text")
    (tmp_path / "b.txt").write_text("another")
    (tmp_path / "same.txt").write_text("a text")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "vocab.txt").write_text("[PAD]\n[UNK]")
    return {"TRAIN": "a.txt", "TOKENIZER": "tokenizer"}


def make(tmp_path):
    (tmp_path / "encoded" / "train").write_text("pieces")


def test_the_same_sources_are_taken_wherever_they_lie(made_from, sources, tmp_path):
    assert made_from(**sources).returncode == 0
    make(tmp_path)
    # The folder of a run, in which checkpoints come and go, is that tokenizer all the same.
    (tmp_path / "tokenizer" / "checkpoint_last.pt").write_text("weights")
    finished = made_from(**{**sources, "TRAIN": "same.txt"})
    assert (finished.returncode, finished.stderr) == (0, "")


def test_other_sources_are_refused_by_what_differs(made_from, sources, tmp_path):
    made_from(**sources)
    make(tmp_path)
    finished = made_from(**{**sources, "TRAIN": "b.txt"})
    assert finished.returncode == 1
    assert finished.stderr == (
        f"encoded/train: was made from another TRAIN than {tmp_path}/b.txt: name another OUT, or "
        "remove it\n"
    )
    (tmp_path / "tokenizer" / "vocab.txt").write_text("[PAD]\n[UNK]\nword")
    assert "was made from another TOKENIZER than" in made_from(**sources).stderr


def test_what_is_not_made_yet_may_be_made_from_others(made_from, sources, tmp_path):
    made_from(**sources)
    assert made_from(**{**sources, "TRAIN": "b.txt"}).returncode == 0
    make(tmp_path)
    assert made_from(**sources).returncode == 1


def test_what_has_no_such_record_is_taken_as_it_is(made_from, sources, tmp_path):
    (tmp_path / "encoded").mkdir()
    make(tmp_path)
    assert made_from(**sources).returncode == 0
    assert made_from(**{**sources, "TRAIN": "b.txt"}).returncode == 1
