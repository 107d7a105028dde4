"""A checkpoint of the moment, for a run that has to end before its time."""

from typing import Any, Mapping, Optional

from fairseq import checkpoint_utils

NOTHING: Mapping = {}


def keep_progress(trainer: Any, besides: Mapping = NOTHING) -> Optional[str]:
    """Write the last checkpoint of a run at the place where it stands, without a score; its path.

    ``besides``: what it keeps beside what fairseq does.
    """
    if not trainer.epochs.end_of_epoch():
        _go_back_to_update(trainer.epochs, trainer.cfg.optimization.update_freq)
    saving = trainer.cfg.checkpoint.copy()
    saving.no_last_checkpoints, saving.no_epoch_checkpoints = False, True
    saving.save_interval_updates = 0
    trainer.kept_besides = besides
    return checkpoint_utils.save_checkpoint(saving, trainer, trainer.epochs, None)


def _go_back_to_update(epochs: Any, frequencies: list[int]) -> None:
    """Count no batch of an update that was not made."""
    batches = frequencies[min(epochs.epoch, len(frequencies)) - 1]
    epochs._cur_epoch_itr.n -= epochs.iterations_in_epoch % batches
