"""Transformers' ForSequenceClassification on real pairs, there and here."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import BertTokenizer

from convbert_plugin.analysis.predictions.glue_predictions import load_fine_tuned, predict
from convbert_plugin.cli import main as convbert
from convbert_plugin.data.glue.glue_rows import read_rows
from convbert_plugin.data.glue.glue_tasks import TASKS, VALID
from user_dir_tests.oracles.transformers_models import random_model, save_folder, sizes_of
from user_dir_tests.tolerances import relative_error

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = [
    pytest.mark.glue,
    pytest.mark.weights,
    pytest.mark.skipif(not DATA.exists(), reason="the shared data are absent"),
]
PAIRS = 200
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def pairs_and_vocabulary(tmp_path_factory, real_data):
    """The first pairs of MRPC's dev set as a file of its own, and BERT's vocabulary."""
    folder = tmp_path_factory.mktemp("mrpc")
    lines = (real_data / "glue" / "MRPC" / "dev.tsv").read_text(encoding="utf-8").split("\n")
    (folder / "dev.tsv").write_text("\n".join(lines[: PAIRS + 1]), encoding="utf-8")
    return folder, real_data / "vocab" / "bert-base-uncased.txt"


@pytest.mark.slow
@torch.no_grad()
def test_logits_of_real_pairs(pairs_and_vocabulary, tmp_path):
    folder, vocabulary = pairs_and_vocabulary
    model = random_model(
        "ConvBertForSequenceClassification",
        seed=4,
        vocab_size=30522,
        num_labels=2,
        **sizes_of("convbert_small"),
    )
    symbols = vocabulary.read_text(encoding="utf-8").splitlines()
    there = save_folder(model, tmp_path / "there", symbols)
    here, data = tmp_path / "here", tmp_path / "data"
    for command in (
        ("convert", "--from", "hf", "--to", "fairseq", "--head", "mrpc", there, here),
        ("prepare-glue", "--glue-task", "mrpc", "--tokenizer", here, folder, data),
    ):
        assert convbert([str(word) for word in command]) == 0

    ours = predict(load_fine_tuned(here, data), VALID, batch_size=16)
    tokenizer = BertTokenizer.from_pretrained(there)
    examples = read_rows(folder / "dev.tsv", TASKS["mrpc"].sources[VALID], TASKS["mrpc"]).examples
    assert len(examples) == PAIRS
    tokenized = [tokenizer(*example.texts) for example in examples]
    lengths = torch.tensor([len(each["input_ids"]) for each in tokenized])
    theirs = torch.empty(PAIRS, 2)
    # Those of one length together: pads would change theirs.
    for length in lengths.unique():
        rows = (lengths == length).nonzero().flatten().tolist()
        batch = {
            name: torch.tensor([tokenized[row][name] for row in rows]) for name in tokenized[0]
        }
        theirs[rows] = model(**batch).logits
    assert relative_error(ours, theirs) <= TOLERANCE
    shutil.rmtree(there)
