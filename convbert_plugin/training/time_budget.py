"""A run that is given a time: its rate follows what has passed of it, and it ends when all has.

The time is that of fairseq's clock, which validations and checkpoints are part of, and which goes
on where the run does.
"""

import math
from typing import Any

from convbert_plugin.errors import UserError
from convbert_plugin.optim.convbert_linear import budget_of

SECONDS_A_MINUTE, SECONDS_AN_HOUR = 60, 3600


def begin(trainer: Any) -> None:
    """Let fairseq end the run when its time is over, if it has one.

    Raises:
        UserError: fairseq is to end it at another time, too.
    """
    if (budget := budget_of(trainer.cfg.lr_scheduler)) is None:
        return
    limits = trainer.cfg.optimization
    if limits.stop_time_hours > 0:
        raise UserError(
            "--budget-minutes and --stop-time-hours exclude each other: leave one of them out"
        )
    end = trainer.recording.seconds_before + budget * SECONDS_A_MINUTE
    # fairseq asks whether more time has passed.
    limits.stop_time_hours = math.nextafter(end / SECONDS_AN_HOUR, 0)
    trainer.lr_step_update()


def pass_time(trainer: Any) -> None:
    """Tell the schedule how long the run has trained, if it is to follow that."""
    if budget_of(trainer.cfg.lr_scheduler) is not None:
        trainer.lr_scheduler.pass_time(trainer.training_seconds() / SECONDS_A_MINUTE)


def is_spent(trainer: Any) -> bool:
    """Whether all of a run's time has passed."""
    budget = budget_of(trainer.cfg.lr_scheduler)
    return budget is not None and trainer.training_seconds() >= budget * SECONDS_A_MINUTE
