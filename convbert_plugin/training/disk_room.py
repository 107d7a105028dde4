"""See before training that the disk has room for the next checkpoint."""

import shutil
from pathlib import Path
from typing import Any, Iterable

from torch import Tensor

from convbert_plugin.errors import UserError, counted

# Numbers in fp32 that an optimizer keeps of each that it trains, by its name; of others nothing is
# known before the first update.
KEPT = {"convbert_adamw": 2, "adam": 2}
FP32_BYTES = 4


def check_room(trainer: Any) -> None:
    """See that the next checkpoint has room beside those that stay until it is whole.

    Raises:
        UserError: it has none.
    """
    saving = trainer.cfg.checkpoint
    if saving.no_save or not trainer.should_save_checkpoint_on_current_rank:
        return
    # Where the file system says nothing, it has no blocks at all.
    total, _, free = shutil.disk_usage(saving.save_dir)
    files, size = _files(trainer), checkpoint_bytes(trainer)
    if total and free < files * size:
        raise UserError(
            f"--save-dir {saving.save_dir}: {_in_words(free)} are free there, and the next "
            f"checkpoint takes {_in_words(files * size)} ({counted(files, 'file')}): make room, or "
            "choose another folder"
        )


def checkpoint_bytes(trainer: Any) -> int:
    """How many bytes the tensors of a checkpoint take, at least."""
    model = trainer.get_model()
    weights = _bytes(model.state_dict().values())
    if trainer.cfg.ema.store_ema:
        weights *= 2
    if trainer.cfg.checkpoint.no_save_optimizer_state:
        return weights
    states = trainer.optimizer.optimizer.state.values()
    kept = [value for state in states for value in state.values() if isinstance(value, Tensor)]
    if kept:
        return weights + _bytes(kept)
    numbers = sum(one.numel() for one in model.parameters() if one.requires_grad)
    return weights + numbers * FP32_BYTES * KEPT.get(trainer.cfg.optimizer._name, 0)


def _files(trainer: Any) -> int:
    """How many files come to what is there: one that is replaced goes when the new one is whole."""
    saving = trainer.cfg.checkpoint
    best = Path(saving.save_dir, f"checkpoint_best{trainer.checkpoint_suffix}.pt")
    is_validated = not trainer.cfg.dataset.disable_validation
    return sum(
        (
            saving.save_interval_updates > 0 or not saving.no_epoch_checkpoints,
            # Of a later one nobody knows whether it is the best.
            is_validated and not best.exists(),
            is_validated and saving.keep_best_checkpoints > 0 and not best.exists(),
            not saving.no_last_checkpoints,
        )
    )


def _bytes(tensors: Iterable[Tensor]) -> int:
    """What tensors take as they are saved: fairseq turns halves into fp32.

    What several of them share is written once, but each by itself where they come from a GPU.
    """
    shared = {}
    for number, one in enumerate(tensors):
        place = one.untyped_storage().data_ptr() if one.device.type == "cpu" else number
        width = max(one.element_size(), FP32_BYTES) if one.is_floating_point() else 0
        shared[place] = one.numel() * (width or one.element_size())
    return sum(shared.values())


def _in_words(size: int) -> str:
    unit, name = (1_000_000_000, "GB") if size >= 1_000_000_000 else (1_000_000, "MB")
    return f"{size / unit:,.1f} {name}"
