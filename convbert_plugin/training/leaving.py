"""A run that is asked to leave: after an update, all its workers at once, and saved if so wanted.

Each worker may be asked alone. What they agree on goes along in the sums that fairseq makes of
their logs in every update.
"""

import signal
from types import SimpleNamespace
from typing import Any, Callable, Mapping, Optional, Union

import torch

from convbert_plugin.errors import counted
from convbert_plugin.training import end_signals
from convbert_plugin.training.keeping import keep_progress
from convbert_plugin.training.resuming import LEFT_IN_EPOCH

# What a worker adds to the sum: that it was asked, and by which signal.
ONE_WORKER = 1 << 20


def request() -> int:
    """What this worker adds to the sum."""
    number = end_signals.asked_to_leave()
    return number and ONE_WORKER + number


def number_of(total: Union[float, torch.Tensor]) -> int:
    """By which signal the workers were asked to leave, of their sum; 0 where none was."""
    workers, numbers = divmod(int(total), ONE_WORKER)
    if not workers:
        return 0
    number = numbers // workers
    return number if number in end_signals.OF_TRAINING else signal.SIGTERM


def where(trainer: Any) -> str:
    """Where a run stands that leaves without a checkpoint of its own."""
    update = f"at update {trainer.get_num_updates():,}"
    behind = trainer.get_num_updates() - trainer.kept_updates
    if trainer.data_parallel_rank:
        # It writes none.
        return update
    if not behind:
        return f"{update}: the same command goes on from there"
    last = "the last checkpoint" if trainer.kept_updates else "the start"
    lost = f"{counted(behind, 'update')} after {last}"
    return f"{update}, {lost} (--save-on-signal saves before it leaves)"


def leave_if_asked(trainer: Any) -> None:
    """Between an update and what follows it."""
    if not end_signals.is_put_off():
        return
    is_alone = trainer.data_parallel_world_size == 1
    if number := end_signals.asked_to_leave() if is_alone else number_of(trainer.requests):
        save_and_leave(trainer, number)


def save_undisturbed(save: Callable, cfg: Any, trainer: Any, *place: Any) -> Optional[str]:
    """Save as fairseq does, and leave then if asked to meanwhile."""
    with end_signals.undisturbed():
        path = save(cfg, trainer, *place)
    number = end_signals.asked_to_leave()
    if number and path and trainer.data_parallel_world_size == 1 and not trainer.kept_besides:
        end_signals.leave(number, _saved(trainer, path))
    return path


def save_and_leave(trainer: Any, number: int) -> None:
    """Write the last checkpoint of a run at the place where it stands, and end this worker."""
    path = keep_progress(trainer, {LEFT_IN_EPOCH: trainer.epochs.epoch})
    if trainer.data_parallel_world_size > 1:
        # Who starts the workers may end the others when the first is gone.
        torch.distributed.barrier(trainer.data_parallel_process_group)
    end_signals.leave(number, _saved(trainer, path))


def _saved(trainer: Any, path: Optional[str]) -> str:
    update = f"at update {trainer.get_num_updates():,}"
    if trainer.unwritten:
        return f"{update}, not saved: {trainer.unwritten.reason}"
    if path:
        return f"{update}, saved in {path}: the same command goes on from there"
    # Only the first worker saves, and says so.
    return update if trainer.data_parallel_rank else f"{update}, not saved"


def finish_update(trainer: Any, kept: Optional[Mapping]) -> None:
    """Validate and save as is due where a run goes on from, if it was left before that."""
    saving = trainer.cfg.checkpoint
    if kept is None or LEFT_IN_EPOCH not in kept or not trainer.task.start.is_own:
        return
    if saving.reset_optimizer or saving.reset_dataloader:
        return
    from fairseq_cli.train import validate_and_save

    epoch, place = kept[LEFT_IN_EPOCH], kept["train_iterator"]
    at_end = place["epoch"] > epoch
    epochs = SimpleNamespace(
        epoch=epoch, end_of_epoch=lambda: at_end, state_dict=lambda: dict(place)
    )
    subsets = trainer.cfg.dataset.valid_subset.split(",")
    losses, _ = validate_and_save(trainer.cfg, trainer, trainer.task, epochs, subsets, at_end)
    if at_end:
        trainer.lr_step(epoch, losses[0])
