"""What fairseq leaves behind where a run goes on, which would then not be the uninterrupted one.

fairseq writes a checkpoint before the schedule hears of the score that stands in it, forgets how
often a score was no better, and begins the averages of its log anew where an epoch does.
"""

import argparse
import sys
from typing import Any, Mapping, Optional

from fairseq.data.iterators import GroupedIterator
from fairseq.logging import metrics
from fairseq.trainer import Trainer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from convbert_plugin.optim.convbert_linear import budget_of

# In a checkpoint, within the state of the schedule and beside that of the meters.
PLATEAU, EARLY_STOPPING = "plateau", "early_stopping"
COUNTERS = ("num_bad_epochs", "cooldown_counter")
RATES = "rates"
# Averages since the last line of the log, which epochs do not end.
SINCE_LAST_LINE = "train_inner"


class WholeGroups(GroupedIterator):
    """The batches of an epoch by updates, from wherever in the epoch they begin to its end.

    fairseq counts what was done before in whole updates: where it was not, since --update-freq was
    another, it left batches over, and went through the epoch once more.
    """

    def __init__(self, iterable: Any, chunk_size: int, skip_remainder_batch: bool = False):
        super().__init__(iterable, chunk_size, skip_remainder_batch)
        done = getattr(iterable, "n", 0)
        left = max(len(iterable) - done, 0)
        updates = left // chunk_size if skip_remainder_batch else -(-left // chunk_size)
        self.total = self.n + updates
        if skip_remainder_batch:
            iterable.take(done + updates * chunk_size)


def remember(trainer: Trainer, state: Mapping) -> None:
    """Add it to a state that the trainer is to save."""
    # fairseq declares some components in an old way, whose objects torch does not load.
    for component, options in state["cfg"].items():
        if isinstance(options, argparse.Namespace):
            state["cfg"][component] = {"_name": name_of(component, options)}
    if budget_of(trainer.cfg.lr_scheduler):
        # It stands for the budget while the run lasts.
        state["cfg"]["optimization"]["stop_time_hours"] = 0.0
    if (schedule := _plateau_of(trainer)) is not None:
        counters = {name: getattr(schedule, name) for name in COUNTERS}
        rates = [float(group["lr"]) for group in trainer.optimizer.param_groups]
        state["optimizer_history"][-1]["lr_scheduler_state"][PLATEAU] = {**counters, RATES: rates}
    if waited := _early_stopping():
        state["extra_state"][EARLY_STOPPING] = dict(waited)


def name_of(component: str, options: Any) -> Optional[str]:
    """What a component of a run is called, by the options of fairseq for it."""
    is_old = isinstance(options, argparse.Namespace)
    return getattr(options, component if is_old else "_name", None)


def recall(
    trainer: Trainer, extra_state: Mapping, reset_schedule: bool, reset_meters: bool
) -> None:
    """Take it up in a trainer that has loaded such a state, but for what is to begin anew."""
    if not reset_schedule:
        _recall_schedule(trainer, extra_state)
    if not reset_meters:
        _recall_counts(extra_state)
    if (ema := trainer.cfg.ema).store_ema:
        trainer.ema.update_freq_counter = trainer.get_num_updates() % ema.ema_update_freq


def _recall_schedule(trainer: Trainer, extra_state: Mapping) -> None:
    schedule, kept = _plateau_of(trainer), trainer._optim_history[-1]["lr_scheduler_state"]
    if schedule is not None and PLATEAU in kept:
        for name in COUNTERS:
            setattr(schedule, name, kept[PLATEAU][name])
        groups = trainer.optimizer.param_groups
        for group, rate in zip(groups, kept[PLATEAU][RATES], strict=True):
            group["lr"] = rate
    iterator = extra_state["train_iterator"]
    if iterator["iterations_in_epoch"] == 0 and iterator["epoch"] > 1:
        trainer.lr_step(iterator["epoch"] - 1, extra_state.get("val_loss"))


def _recall_counts(extra_state: Mapping) -> None:
    if SINCE_LAST_LINE in (kept := extra_state.get("metrics", {})):
        metrics.load_state_dict({SINCE_LAST_LINE: kept[SINCE_LAST_LINE]})
    # Loaded, it stands still, and 0 would be logged of it.
    if (wall := metrics.get_meter("default", "wall")) is not None:
        wall.start()
    if EARLY_STOPPING in extra_state and (waited := _early_stopping()) is not None:
        waited.update(extra_state[EARLY_STOPPING])


def _plateau_of(trainer: Trainer) -> Optional[ReduceLROnPlateau]:
    schedule = getattr(trainer.lr_scheduler, "lr_scheduler", None)
    return schedule if isinstance(schedule, ReduceLROnPlateau) else None


def _early_stopping() -> Optional[dict[str, Any]]:
    """What fairseq counts, in a function of its command, which sets up a log as it is imported."""
    command = sys.modules.get("fairseq_cli.train")
    return None if command is None else vars(command.should_stop_early)
