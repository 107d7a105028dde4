"""A head is one class and one row: the one of CONTRIBUTING.md, added to a copy of the package."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
DIFF = re.compile(r"^```diff\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAM = """
import sys
import torch, transformers
from convbert_plugin import ConvBertModel
from convbert_plugin.cli import main

source, here, there = sys.argv[1:]
torch.manual_seed(1)
sizes = {"vocab_size": 9, "hidden_size": 32, "embedding_size": 20, "num_hidden_layers": 2}
sizes |= {"num_attention_heads": 4, "intermediate_size": 56, "max_position_embeddings": 16}
theirs = transformers.ConvBertForTokenClassification(
    transformers.ConvBertConfig(**sizes, num_labels=3)
).eval()
theirs.save_pretrained(source)
with open(f"{source}/vocab.txt", "w") as file:
    file.write("\\n".join("[PAD] [UNK] [CLS] [SEP] [MASK] a b c d".split()) + "\\n")

assert main(["convert", "--from", "hf", "--to", "fairseq", "--head", "tags", source, here]) == 0
model = ConvBertModel.from_pretrained(here).model
tokens = torch.randint(5, 9, (3, 11))
logits = model(tokens, torch.zeros_like(tokens), has_pads=False, output="token_label_heads.tags")
expected = theirs(tokens).logits
assert logits.shape == (3, 11, 3)
assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max()

assert main(["convert", "--from", "fairseq", "--to", "hf", here, there]) == 0
again = transformers.AutoModelForTokenClassification.from_pretrained(there)
for name, tensor in theirs.state_dict().items():
    assert torch.equal(again.state_dict()[name], tensor), name

fresh = ConvBertModel.from_pretrained(here)
fresh.model.add_part("token_label_heads.other", classes=5)
state = dict(fresh.model.state_dict())
assert model.load_state_dict(state) and "token_label_heads.other.output.bias" not in state
"""


@pytest.mark.weights
def test_the_head_of_the_guide_is_one_class_and_one_row(forked, tmp_path):
    [diff] = DIFF.findall((CHECKOUT / "CONTRIBUTING.md").read_text())
    assert len(re.findall("^\\+\\+\\+ ", diff, re.MULTILINE)) == 2
    shutil.copytree(CHECKOUT / "convbert_plugin", tmp_path / "convbert_plugin")
    subprocess.run(
        ["git", "apply", "--unidiff-zero", "-"], input=diff, text=True, cwd=tmp_path, check=True
    )
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        ["python", "program.py", "source", "here", "there"],
        cwd=tmp_path,
        env={**forked, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
