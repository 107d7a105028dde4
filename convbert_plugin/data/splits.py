"""The splits of a data set: what fairseq calls them, and what their files are called."""

from pathlib import Path
from typing import Collection

from convbert_plugin.errors import UserError

TRAIN, VALID, TEST = "train", "valid", "test"

# What a validation set is called.
VALID_NAMES = ("dev", "valid", "validation")


def check_is_prepared(split: str, prepared: Collection[str], folder: Path, maker: str) -> None:
    """Raise UserError unless a split is among those that ``maker`` has prepared in a folder."""
    if split not in prepared:
        raise UserError(
            f"{folder}: holds no split {split}, only {', '.join(prepared)}: prepare it from the "
            f"files with {maker}{_instead(split, prepared)}"
        )


def _instead(split: str, prepared: Collection[str]) -> str:
    """How to go on without a validation set."""
    if not split.startswith(VALID):
        return ""
    if VALID not in prepared:
        return ", or leave it out with --disable-validation (dataset.disable_validation=true)"
    return f", or leave it out with --valid-subset {VALID} (dataset.valid_subset={VALID})"
