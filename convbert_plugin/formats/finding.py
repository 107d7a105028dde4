"""Which file of a folder is its checkpoint."""

import os
from pathlib import Path
from typing import Optional

from convbert_plugin.errors import UserError
from convbert_plugin.files.text_files import PathLike

# What fairseq calls the newest checkpoint of a run and its best one, and ``convbert convert`` its
# only one.
LAST_CHECKPOINT, BEST_CHECKPOINT = "checkpoint_last.pt", "checkpoint_best.pt"
MODEL_FILE = "model.pt"
# What a folder without a named checkpoint is searched for, in this order.
CHECKPOINT_FILES = (MODEL_FILE, BEST_CHECKPOINT, LAST_CHECKPOINT)
# One file of a TensorFlow checkpoint, which is called by what stands before it.
INDEX = ".index"
# In every folder that transformers writes, and in none of ours.
TRANSFORMERS_FILE = "config.json"


def find_checkpoint(folder: PathLike, checkpoint_file: Optional[str] = None) -> Path:
    """The checkpoint of that name in a folder, or the first of ``CHECKPOINT_FILES`` in it.

    Raises:
        UserError: there is none, and what is there instead.
    """
    names = (checkpoint_file,) if checkpoint_file else CHECKPOINT_FILES
    for name in names:
        # What is there and no file is refused by what reads it.
        if os.path.lexists(Path(folder) / name):
            return Path(folder) / name
    if Path(folder).is_file():
        path = Path(folder)
        raise UserError(
            f"{path}: a file: name its folder {path.parent}, and {path.name} as checkpoint_file"
        )
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: no such folder")
    if checkpoint_file is None and (Path(folder) / TRANSFORMERS_FILE).is_file():
        raise UserError(
            f"{folder}: a folder of transformers: bring it in by `convbert convert --from hf "
            f"--to fairseq {folder} NEW_FOLDER`"
        )
    raise UserError(
        f"{folder}: {' or '.join(names)} is missing in it: name a folder or a checkpoint that is "
        "there"
    )


def checkpoint_at(place: PathLike) -> Path:
    """The checkpoint that is named itself, or the one of the folder that is named."""
    if not os.path.lexists(place):
        raise UserError(f"{place}: no such file or folder")
    return find_checkpoint(place) if Path(place).is_dir() else Path(place)
