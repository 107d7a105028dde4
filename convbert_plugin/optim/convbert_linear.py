"""``--lr-scheduler convbert_linear``: warm-up and linear decay, multiplied or in sequence.

Source: model/optimization.py:22-32 of the released code.
"""

from dataclasses import dataclass, field
from typing import List, Optional

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
    lr: List[float] = II("optimization.lr")


def linear_rate(
    updates: int, total_updates: int, warmup: float, sequential_warmup: bool = False
) -> float:
    """Return the rate, as a factor of its peak, after ``updates`` updates.

    As released: ``(1 - updates / total) * min(1, updates / warmup)``: with a warm-up, the first
    update has rate 0 and the factor never gets to 1. In sequence: up to 1 over ``warmup`` updates,
    then down to 0 over the rest. From ``total_updates`` on: 0. ``warmup`` need not be whole.
    """
    if updates >= total_updates:
        return 0.0
    if updates < warmup:
        warmed_up = updates / warmup
        return warmed_up * (1.0 if sequential_warmup else 1 - updates / total_updates)
    start = warmup if sequential_warmup else 0
    return (total_updates - updates) / (total_updates - start)


def _check(cfg: ConvBertLinearConfig, total_updates: int) -> None:
    requirements = (
        (total_updates > 0, "convbert_linear needs --max-update or --total-num-update"),
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


@register_lr_scheduler("convbert_linear", dataclass=ConvBertLinearConfig)
class ConvBertLinearSchedule(FairseqLRScheduler):
    """Set the rate from the number of updates alone, so that a resumed run continues exactly."""

    def __init__(self, cfg: ConvBertLinearConfig, optimizer: FairseqOptimizer):
        super().__init__(cfg, optimizer)
        self.total_updates = cfg.total_num_update or cfg.max_update
        _check(cfg, self.total_updates)
        self.warmup = cfg.warmup_updates or cfg.warmup_ratio * self.total_updates
        self.step_update(0)

    def step_update(self, num_updates: int) -> float:
        """Set and return the rate of the next update, after ``num_updates`` updates."""
        factor = linear_rate(
            num_updates, self.total_updates, self.warmup, self.cfg.sequential_warmup
        )
        self.optimizer.set_lr(self.cfg.lr[0] * factor)
        return self.optimizer.get_lr()
