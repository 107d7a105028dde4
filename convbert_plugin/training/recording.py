"""What a run has seen by now, and when: counted for its checkpoints, told to its record.

Its numbers are read where fairseq reads them for its log, all --log-interval updates.
"""

import math
from typing import Any, Mapping, NamedTuple, Optional

from fairseq.logging import metrics

from convbert_plugin.criterions.summed_logs import EXACT
from convbert_plugin.files.pretraining_records import (
    BUDGET_SPENT,
    MAX_EPOCH,
    MAX_UPDATE,
    PATIENCE,
    STOP_RATE,
    STOP_TIME,
    PretrainingRecord,
)
from convbert_plugin.optim.convbert_linear import budget_of
from convbert_plugin.training import time_budget
from convbert_plugin.training.checkpoint_writing import going_on
from convbert_plugin.training.exact_resume import SINCE_LAST_LINE

# What a checkpoint keeps of it.
SEEN = "seen"
# Hidden names of what a criterion logs, as the sums since the last line.
TOKENS, SLOTS = "_ntokens", "_slots"
# A point says it in words of its own.
UPDATES = "num_updates"


class Seen(NamedTuple):
    """Tokens that the model was trained on, [CLS] and [SEP] among them; ``slots``: with the pads.

    ``counted_from``: updates before the first that is counted. ``seconds_before``: of fairseq's
    clock, which goes on where a run begins from the weights of another.
    """

    tokens: int = 0
    slots: int = 0
    counted_from: int = 0
    seconds_before: float = 0.0


class Recording:
    """Counts what a run has seen, and tells a record of it where its task has one."""

    def __init__(self) -> None:
        self.before_line = Seen()
        self.record: Optional[PretrainingRecord] = None

    def go_on(self, trainer: Any, kept: Optional[Mapping]) -> None:
        """Go on from where a run stands, with what its checkpoint kept beside fairseq's."""
        updates = trainer.get_num_updates()
        seen = seen_by((kept or {}).get(SEEN), updates)
        if not updates:
            seen = seen._replace(seconds_before=float(trainer._previous_training_time))
        since = _since_last_line()
        self.before_line = seen._replace(
            tokens=seen.tokens - since.tokens, slots=seen.slots - since.slots
        )
        # A run that is over stays as it was recorded.
        if trainer.is_data_parallel_master and not trainer.task.start.reached_limit:
            self.record = trainer.task.open_record(updates, seen.counted_from)

    def seen(self) -> Seen:
        """By now."""
        before, since = self.before_line, _since_last_line()
        return before._replace(
            tokens=before.tokens + since.tokens, slots=before.slots + since.slots
        )

    @property
    def seconds_before(self) -> float:
        """Of the clock, when the run began."""
        return self.before_line.seconds_before

    def look(self, trainer: Any) -> None:
        """See whether something is logged after this update, and tell it."""
        if trainer.get_num_updates() % trainer.cfg.common.log_interval:
            return
        # Who trains without fairseq's loop logs nothing.
        if (meters := metrics.get_meters(SINCE_LAST_LINE)) is None:
            return
        seen = self.seen()
        if self.record:
            self._note(trainer)
            numbers = {"slots": seen.slots, **_numbers(meters)}
            with going_on(trainer.task.tell):
                self.record.add_point(numbers)
        # What is summed begins anew with the line.
        self.before_line = seen

    def begin_validation(self, trainer: Any) -> None:
        """Note where the run stands."""
        if self.record:
            self._note(trainer)

    def _note(self, trainer: Any) -> None:
        assert self.record
        self.record.place = {
            "updates": trainer.get_num_updates(),
            "tokens": self.seen().tokens,
            "seconds": trainer.training_seconds(),
        }

    def end(self, trainer: Any, reason: str) -> None:
        """Tell how the run ended."""
        if self.record:
            with going_on(trainer.task.tell):
                self.record.end(reason)


def why_it_stops(trainer: Any) -> str:
    """Why fairseq ends a run after an update."""
    limits = trainer.cfg.optimization
    if 0 < limits.max_update <= trainer.get_num_updates():
        return MAX_UPDATE
    if budget_of(trainer.cfg.lr_scheduler):
        return BUDGET_SPENT if time_budget.is_spent(trainer) else PATIENCE
    seconds = trainer.recording.seconds_before + trainer.training_seconds()
    if 0 < limits.stop_time_hours * time_budget.SECONDS_AN_HOUR < seconds:
        return STOP_TIME
    return PATIENCE


def why_no_epoch_follows(trainer: Any, epoch: int) -> Optional[str]:
    """Why fairseq does not begin an epoch; None where it does."""
    options = trainer.cfg.optimization
    if epoch > (options.max_epoch or math.inf):
        return MAX_EPOCH
    return STOP_RATE if trainer.get_lr() <= options.stop_min_lr else None


def seen_by(kept: Any, updates: int) -> Seen:
    """What a run had seen by a checkpoint of so many updates, by what that kept."""
    if not updates:
        return Seen()
    if not (isinstance(kept, Mapping) and kept.keys() == set(Seen._fields)):
        return Seen(counted_from=updates)
    *counts, seconds = seen = Seen(**kept)
    is_sound = all(type(count) is int and count >= 0 for count in counts)
    return seen if is_sound and _is_time(seconds) else Seen(counted_from=updates)


def _is_time(seconds: Any) -> bool:
    return type(seconds) is float and 0 <= seconds < math.inf


def _since_last_line() -> Seen:
    meters = metrics.get_meters(SINCE_LAST_LINE) or {}
    return Seen(*(int(meters[name].sum) if name in meters else 0 for name in (TOKENS, SLOTS)))


def _numbers(meters: Any) -> dict[str, float]:
    """What is logged, to the last digit where that is known, and where it is finite."""
    names = [name for name in meters if not name.startswith("_") and name != UPDATES]
    exact = {name: EXACT + name if EXACT + name in meters else name for name in names}
    numbers = {name: float(meters.get_smoothed_value(exact[name])) for name in names}
    return {name: number for name, number in numbers.items() if math.isfinite(number)}
