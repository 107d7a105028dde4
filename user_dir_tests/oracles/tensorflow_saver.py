"""TensorFlow's own Saver, in a process and an environment of its own."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Mapping

import numpy as np
import pytest
import torch

CHECKOUT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("write_tensorflow_checkpoint.py")
# Of the pins; what user_dir_tests/run.sh leaves in an environment that it finished.
STAMP = "convbert_plugin.stamp"


@dataclass(frozen=True)
class Checkpoint:
    """What is to be saved: tensors by TensorFlow's names.

    ``partitioned`` names those that are saved in two parts, with values of TensorFlow's choice.
    ``version`` is that of the format.
    """

    prefix: Path
    tensors: Mapping[str, torch.Tensor]
    shards: int = 1
    partitioned: tuple[str, ...] = ()
    version: int = 2


def tensorflow_python() -> Path:
    """The Python that has TensorFlow; without one the calling test is skipped."""
    for environment in (CHECKOUT / ".venv" / "tensorflow", Path(sys.prefix) / "tensorflow"):
        if (environment / STAMP).is_file():
            return environment / "bin" / "python"
    pytest.skip(
        "TensorFlow is not there: bash user_dir_tests/run.sh -m tensorflow fetches it (1.6 GB)"
    )


def write_checkpoints(checkpoints: Iterable[Checkpoint], folder: Path):
    """Save them all in one process; ``folder`` takes what goes there."""
    python = tensorflow_python()
    requests = [
        _request(checkpoint, folder / f"{number}.npz")
        for number, checkpoint in enumerate(checkpoints)
    ]
    path = folder / "requests.json"
    path.write_text(json.dumps(requests))
    done = subprocess.run([python, SCRIPT, path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def _request(checkpoint: Checkpoint, arrays: Path) -> dict:
    checkpoint.prefix.parent.mkdir(parents=True, exist_ok=True)
    tensors = checkpoint.tensors
    bfloat16 = [name for name, tensor in tensors.items() if tensor.dtype == torch.bfloat16]
    bits = {name: tensors[name].view(torch.uint16) for name in bfloat16}
    np.savez(arrays, **{name: tensor.numpy() for name, tensor in {**tensors, **bits}.items()})
    return {
        "prefix": str(checkpoint.prefix),
        "arrays": str(arrays),
        "bfloat16": bfloat16,
        "shards": checkpoint.shards,
        "partitioned": checkpoint.partitioned,
        "version": checkpoint.version,
    }
