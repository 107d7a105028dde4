"""What is given to a model from Python, seen before it is used."""

import torch
from torch import Tensor

from convbert_plugin.errors import shown
from convbert_plugin.files.text_files import HALF_PAIR


def check_text(text: object) -> None:
    """Raise ValueError unless it is a text of whole characters."""
    if not isinstance(text, str) or HALF_PAIR.search(text):
        raise ValueError(f"give a text, not {shown(text)}")


def check_ids(ids: Tensor, kind: str, rows: int) -> None:
    """Raise ValueError unless they are whole numbers, each that of a row."""
    if ids.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"{kind}: give whole numbers (torch.long), not {ids.dtype}")
    odd = ids[(ids < 0) | (ids >= rows)]
    if odd.numel():
        raise ValueError(
            f"{kind}: {odd[0].item()} among them, where this model has ids 0 to {rows - 1}"
        )
