"""fairseq's trainer as the tasks here need it: for runs of days on machines that are taken away."""

import sys
from typing import Any

from fairseq.trainer import Trainer

from convbert_plugin.training.finite_numbers import (
    LeftOut,
    NotFinite,
    leave_aggregation,
    leave_out,
)


class SurvivingTrainer(Trainer):
    """What a trainer of fairseq becomes before its first update: see ``take_over``.

    ``epochs`` are those that it goes through, at the place where it stands. ``left_out``: updates
    whose numbers were not finite.
    """

    epochs: Any
    left_out = LeftOut()

    def get_train_iterator(self, *arguments: Any, **options: Any) -> Any:
        self.epochs = super().get_train_iterator(*arguments, **options)
        return self.epochs

    def train_step(self, samples: list, raise_oom: bool = False) -> Any:
        try:
            logged = super().train_step(samples, raise_oom)
        except NotFinite:
            leave_aggregation("train")
            self.left_out = leave_out(self, samples, self.left_out)
            return None
        self.left_out = self.left_out._replace(in_a_row=0)
        return logged

    def save_checkpoint(self, filename: str, extra_state: dict) -> Any:
        # What fairseq begins with where it finds such gradients.
        if isinstance(sys.exc_info()[1], FloatingPointError):
            raise NotFinite
        return super().save_checkpoint(filename, extra_state)


def take_over(trainer: Trainer) -> None:
    """Let a trainer of fairseq, of whichever class, do what ``SurvivingTrainer`` does beside."""
    kind = type(trainer)
    trainer.__class__ = type(kind.__name__, (SurvivingTrainer, kind), {})
