"""fairseq's trainer as the tasks here need it: for runs of days on machines that are taken away."""

from typing import Any

from fairseq.trainer import Trainer


class SurvivingTrainer(Trainer):
    """What a trainer of fairseq becomes before its first update: see ``take_over``.

    ``epochs`` are those that it goes through, at the place where it stands.
    """

    epochs: Any

    def get_train_iterator(self, *arguments: Any, **options: Any) -> Any:
        self.epochs = super().get_train_iterator(*arguments, **options)
        return self.epochs


def take_over(trainer: Trainer) -> None:
    """Let a trainer of fairseq, of whichever class, do what ``SurvivingTrainer`` does beside."""
    kind = type(trainer)
    trainer.__class__ = type(kind.__name__, (SurvivingTrainer, kind), {})
