"""Files of tensors to disk, where a disk that takes no more is told as of any other file."""

import os
import re
from pathlib import Path
from typing import BinaryIO, Mapping

import torch
from torch import Tensor


def save_pickled(values: object, path: Path) -> None:
    """Write what ``torch.save`` does. Raises OSError where the file cannot be written."""
    with open(path, "wb") as file:
        write_pickled(values, file)


def write_pickled(values: object, file: BinaryIO) -> None:
    """Write it into an open file; errors as for ``save_pickled``."""
    try:
        torch.save(values, file)
    except RuntimeError as error:
        # torch tells of what it could not finish, after the file told why.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def save_safetensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a ``.safetensors`` file. Raises OSError where it cannot be written."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path, metadata={"format": "pt"})
    except SafetensorError as error:
        # Its words are all that it keeps of the system's error.
        if number := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from None
        raise
