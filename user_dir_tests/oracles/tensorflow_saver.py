"""TensorFlow's own Saver, in a process and an environment of its own."""

import atexit
import functools
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


@functools.cache
def running_saver() -> subprocess.Popen:
    """The process that saves: one for all tests of this one, and it ends with it."""
    command = [tensorflow_python(), SCRIPT]
    saver = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(saver.communicate)
    return saver


def write_checkpoints(checkpoints: Iterable[Checkpoint], folder: Path):
    """Save them all; ``folder`` takes what goes to the process that does."""
    saver = running_saver()
    requests = [
        _request(checkpoint, folder / f"{number}.npz")
        for number, checkpoint in enumerate(checkpoints)
    ]
    path = folder / "requests.json"
    path.write_text(json.dumps(requests))
    saver.stdin.write(f"{path}\n")
    saver.stdin.flush()
    answer = saver.stdout.readline()
    assert answer, "TensorFlow's process has ended"
    assert json.loads(answer) == ""


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
