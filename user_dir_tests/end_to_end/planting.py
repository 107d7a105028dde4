"""Numbers that are not finite, planted into trainings.

    python planting.py PARAMETER WORKER UPDATE,... ARGUMENTS OF fairseq-train

trains with such a gradient of a parameter in one of several workers, "" in none; updates are those
that are begun, from 0 on. With - for the parameter the updates are never begun.
"""

import contextlib
import math
import sys

import fairseq_cli.train
import pytest
import torch
from fairseq.trainer import Trainer


@contextlib.contextmanager
def before_updates(act):
    """Call ``act(trainer, batches, number)`` before each update that fairseq begins, from 0 on.

    Where it returns False the update is not begun: the run never has these batches.
    """
    train_step, numbers = Trainer.train_step, iter(range(1_000_000))

    def step(trainer, batches, *arguments, **options):
        if act(trainer, batches, next(numbers)) is False:
            return None
        return train_step(trainer, batches, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", step)
        yield


def without(*updates):
    """The run that never has the batches of these updates."""
    return lambda trainer, batches, number: number not in updates


class InGradient:
    """In the gradient of a parameter, as often as it is computed for these updates."""

    def __init__(self, name, *updates, worker=0):
        self.name, self.updates, self.worker, self.hook = name, updates, worker, None

    def __call__(self, trainer, batches, number):
        if self.hook:
            self.hook.remove()
            self.hook = None
        if number in self.updates and trainer.data_parallel_rank == self.worker:
            parameter = trainer.get_model().get_parameter(self.name)
            self.hook = parameter.register_hook(lambda gradient: gradient * math.nan)


class InWeight:
    """In some numbers of a parameter, from an update on."""

    def __init__(self, name, index, update):
        self.name, self.index, self.update = name, index, update

    def __call__(self, trainer, batches, number):
        if number == self.update:
            with torch.no_grad():
                trainer.get_model().get_parameter(self.name)[self.index] = math.nan


class InTarget:
    """In the score of an example, in the last batch of these updates."""

    def __init__(self, *updates):
        self.updates = updates

    def __call__(self, trainer, batches, number):
        if number in self.updates:
            batches[-1]["target"][1] = math.nan


if __name__ == "__main__":
    parameter, worker, updates = (sys.argv.pop(1) for _ in range(3))
    numbers = [int(number) for number in updates.split(",")]
    act = without(*numbers)
    if parameter != "-":
        act = InGradient(parameter, *numbers, worker=int(worker))
    with before_updates(act):
        fairseq_cli.train.cli_main()
