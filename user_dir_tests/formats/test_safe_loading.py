"""What is told of files that hold no tensors, or hold them otherwise."""

import pickle
import warnings

import pytest
import torch

from convbert_plugin.errors import UserError
from convbert_plugin.formats.safe_loading import checked_tensors, load_pickled

pytestmark = pytest.mark.weights


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[PAD]\n[UNK]\n", "Unsupported operand 91"),
        (b'{"a": 1}', "Unsupported operand 123"),
        (pickle.dumps({"a": [1]}, protocol=4), "Unsupported operand 149"),
    ],
)
def test_the_reason_is_told_without_the_advice_of_torch(tmp_path, content, reason):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with warnings.catch_warnings(record=True) as warned, pytest.raises(UserError) as error:
        load_pickled(path)
    assert not warned
    assert str(error.value) == f"{path}: damaged, or no checkpoint ({reason}): copy it again"


TENSORS = {"embeddings.weight": torch.zeros(2, 3)}


@pytest.mark.parametrize(
    ("saved", "told"),
    [
        ({"epoch": 3, "optimizer": {"state": {}}, "state_dict": TENSORS}, "under 'state_dict': sa"),
        (
            {f"module.{name}": t for name, t in TENSORS.items()},
            r"begin with module\. .*its \.module",
        ),
        ({"epoch": 3, **TENSORS}, "epoch is no tensor but int: damaged"),
    ],
)
def test_tensors_in_the_wrappers_of_training_scripts(saved, told):
    with pytest.raises(UserError, match=rf"^model\.bin: .*{told}"):
        checked_tensors(saved, "model.bin")
    assert checked_tensors(TENSORS, "model.bin") == TENSORS
