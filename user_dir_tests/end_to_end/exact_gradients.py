"""fairseq-train in float64: the gradients of each update, as they are before they are clipped.

The arguments are those of fairseq-train, behind the name of the file for the gradients.
"""

import contextlib
import sys

import fairseq_cli.train
import torch
from fairseq.tasks import FairseqTask
from fairseq.trainer import Trainer


@contextlib.contextmanager
def exact_gradients():
    """A list that gets the gradients of each update by name, while fairseq trains in float64."""
    updates, build, clip = [], FairseqTask.build_model, Trainer.clip_grad_norm

    def build_in_float64(*arguments, **options):
        return build(*arguments, **options).double()

    def record_and_clip(trainer, clip_norm):
        parameters = trainer.get_model().named_parameters()
        updates.append({name: p.grad.clone() for name, p in parameters if p.grad is not None})
        return clip(trainer, clip_norm)

    FairseqTask.build_model, Trainer.clip_grad_norm = build_in_float64, record_and_clip
    try:
        yield updates
    finally:
        FairseqTask.build_model, Trainer.clip_grad_norm = build, clip


if __name__ == "__main__":
    path = sys.argv.pop(1)
    with exact_gradients() as trained:
        fairseq_cli.train.cli_main()
    torch.save(trained, path)
