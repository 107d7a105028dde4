"""``--lr-scheduler convbert_linear``: warm-up and linear decay, multiplied or in sequence.

Source: model/optimization.py:22-32 of the released code.
"""

import math
from dataclasses import dataclass, field
from typing import Any, List, Optional

from fairseq.dataclass import FairseqDataclass
from fairseq.optim import FairseqOptimizer
from fairseq.optim.lr_scheduler import FairseqLRScheduler, register_lr_scheduler
from omegaconf import II

from convbert_plugin.errors import UserError


@dataclass
class ConvBertLinearConfig(FairseqDataclass):
    """Give the warm-up in updates or as a part of all updates, not both."""

    warmup_updates: int = field(
        default=0, metadata={"help": "raise the rate linearly over this many updates"}
    )
    warmup_ratio: float = field(
        default=0.0,
        metadata={"help": "raise the rate over this part of all updates (0.1: a tenth)"},
    )
    sequential_warmup: bool = field(
        default=False,
        metadata={"help": "let the decay begin after the warm-up, not together with it"},
    )
    # Optional, and --max-update in a field of its own: a flag that stands for an interpolation
    # arrives as None from the command line, which fairseq's own polynomial_decay fails on.
    total_num_update: Optional[int] = field(
        default=None,
        metadata={"help": "updates after which the rate is 0 (default: --max-update)"},
    )
    max_update: int = II("optimization.max_update")
    budget_minutes: Optional[float] = field(
        default=None,
        metadata={
            "help": "train for so long and end: the rate follows the share of this time that has "
            "passed, the warm-up included (--warmup-ratio), in place of updates"
        },
    )
    lr: List[float] = II("optimization.lr")


def linear_rate(
    updates: float, total_updates: float, warmup: float, sequential_warmup: bool = False
) -> float:
    """Return the rate, as a factor of its peak, after ``updates`` updates.

    As released: ``(1 - updates / total) * min(1, updates / warmup)``: with a warm-up, the first
    update has rate 0 and the factor never gets to 1. In sequence: up to 1 over ``warmup`` updates,
    then down to 0 over the rest. From ``total_updates`` on: 0. ``warmup`` need not be whole.
    What stands for updates may be any measure of progress.
    """
    if updates >= total_updates:
        return 0.0
    if updates < warmup:
        warmed_up = updates / warmup
        return warmed_up * (1.0 if sequential_warmup else 1 - updates / total_updates)
    start = warmup if sequential_warmup else 0
    return (total_updates - updates) / (total_updates - start)


def _check(cfg: ConvBertLinearConfig, total_updates: int) -> None:
    budget = cfg.budget_minutes
    requirements = (
        (
            total_updates > 0 or budget is not None,
            "convbert_linear needs --max-update, --total-num-update or --budget-minutes",
        ),
        (
            budget is None or 0 < budget < math.inf,
            f"--budget-minutes {budget}: choose a number of minutes above 0",
        ),
        (
            budget is None or not (cfg.warmup_updates or cfg.total_num_update),
            "--budget-minutes: the rate follows the time, not updates: leave --warmup-updates and "
            "--total-num-update out (--warmup-ratio is a part of the time)",
        ),
        (
            not (cfg.warmup_updates and cfg.warmup_ratio),
            "convbert_linear takes --warmup-updates or --warmup-ratio, not both",
        ),
        (cfg.warmup_updates >= 0, "--warmup-updates must not be negative"),
        (0 <= cfg.warmup_ratio <= 1, "--warmup-ratio must be between 0 and 1"),
        (len(cfg.lr) == 1, "convbert_linear takes a single --lr"),
    )
    for holds, message in requirements:
        if not holds:
            raise UserError(message)


def budget_of(options: Any) -> Optional[float]:
    """The minutes that a run trains for, by the options of its schedule, whichever that is."""
    return getattr(options, "budget_minutes", None)


@register_lr_scheduler("convbert_linear", dataclass=ConvBertLinearConfig)
class ConvBertLinearSchedule(FairseqLRScheduler):
    """Set the rate from the number of updates alone, so that a resumed run continues exactly.

    With a budget of time it is set from the time that ``pass_time`` was last told.
    """

    def __init__(self, cfg: ConvBertLinearConfig, optimizer: FairseqOptimizer):
        super().__init__(cfg, optimizer)
        self.total_updates = cfg.total_num_update or cfg.max_update
        _check(cfg, self.total_updates)
        self.warmup = cfg.warmup_updates or cfg.warmup_ratio * self.total_updates
        self.passed_minutes = 0.0
        self.step_update(0)

    def pass_time(self, minutes: float) -> None:
        """Say how long the run has trained by now."""
        self.passed_minutes = minutes

    def step_update(self, num_updates: int) -> float:
        """Set and return the rate of the next update, after ``num_updates`` updates."""
        passed, total, warmup = float(num_updates), float(self.total_updates), self.warmup
        if budget := self.cfg.budget_minutes:
            passed, total, warmup = self.passed_minutes, budget, self.cfg.warmup_ratio * budget
        factor = linear_rate(passed, total, warmup, self.cfg.sequential_warmup)
        self.optimizer.set_lr(self.cfg.lr[0] * factor)
        return self.optimizer.get_lr()
