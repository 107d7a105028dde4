import errno
import resource

import pytest
import torch

from convbert_plugin.formats.safe_loading import load_pickled, load_safetensors
from convbert_plugin.formats.tensor_writing import save_pickled, save_safetensors

TENSORS = {"a": torch.arange(50_000.0), "b": torch.ones(2, 3, dtype=torch.float16)}


@pytest.mark.parametrize(
    ("save", "load"), [(save_pickled, load_pickled), (save_safetensors, load_safetensors)]
)
def test_what_is_written_is_read(tmp_path, save, load):
    save(TENSORS, tmp_path / "model")
    read = load(tmp_path / "model")
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in TENSORS.items())


@pytest.fixture
def little_room():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("save", [save_pickled, save_safetensors])
def test_want_of_room_is_told_as_such(tmp_path, little_room, save):
    with pytest.raises(OSError, match="File too large") as error:
        save(TENSORS, tmp_path / "model")
    assert error.value.errno == errno.EFBIG
