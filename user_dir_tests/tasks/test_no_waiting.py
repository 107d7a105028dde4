"""In an update, nothing here asks for numbers that a GPU is still computing."""

import traceback
from pathlib import Path

import fairseq
import pytest
import torch
from fairseq import tasks
from fairseq.logging import metrics
from fairseq.trainer import Trainer
from torch.utils._python_dispatch import TorchDispatchMode

import convbert_plugin
from convbert_plugin.training.trainer import take_over

pytestmark = [
    pytest.mark.speed,
    pytest.mark.pretraining,
    pytest.mark.usefixtures("by_torch_alone"),
]

PACKAGE, FAIRSEQ = (str(Path(module.__file__).parent) for module in (convbert_plugin, fairseq))
# What needs a number, or as many places as there are of some kind, on the host.
WAITING = {
    *("_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select", "bincount"),
    *("_unique2", "unique_dim", "unique_consecutive", "repeat_interleave", "histc"),
}
BY_MASKS = {"index", "index_put", "index_put_", "_unsafe_index", "_unsafe_index_put"}


def waits(function, arguments):
    name = function.overloadpacket.__name__
    if name in BY_MASKS:
        masks = [one for one in arguments[1] if one is not None and one.dtype == torch.bool]
        return bool(masks)
    return name in WAITING


class Waits(TorchDispatchMode):
    """Where something waits: for each time, whether the code of this package is what asks."""

    def __init__(self):
        super().__init__()
        self.ours, self.of_fairseq = [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if waits(function, args):
            files = [frame.filename for frame in reversed(traceback.extract_stack())]
            # Each calls the other.
            nearest = next((file for file in files if file.startswith((PACKAGE, FAIRSEQ))), "")
            is_ours = nearest.startswith(PACKAGE)
            (self.ours if is_ours else self.of_fairseq).append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.fixture
def trainer_of(corpus, config_of, tmp_path):
    def build(*arguments):
        cfg = config_of(
            corpus,
            *("--encoder-layers", "1", "--batch-size", "8", "--clip-norm", "1.0"),
            *("--lr-scheduler", "convbert_linear", "--max-update", "9", "--num-workers", "0"),
            *("--save-dir", str(tmp_path / "run"), "--update-freq", "2", *arguments),
        )
        task = tasks.setup_task(cfg.task)
        task.load_dataset("train")
        model, criterion = task.build_model(cfg.model), task.build_criterion(cfg.criterion)
        trainer = Trainer(cfg, task, model, criterion)
        take_over(trainer)
        return trainer

    return build


VARIANTS = {
    "as released": (),
    "masked_lm": ("--objective", "masked_lm"),
    "full blocks": ("--full-blocks",),
    "recomputed": ("--checkpoint-activations",),
    "electra": ("--arch", "electra_small"),
    "bfloat16": ("--autocast-dtype", "bfloat16"),
}


@pytest.mark.parametrize("arguments", VARIANTS.values(), ids=VARIANTS.keys())
def test_an_update_waits_for_nothing_but_the_norm_that_fairseq_checks(trainer_of, arguments):
    trainer = trainer_of(*arguments)
    batches = iter(trainer.get_train_iterator(1).next_epoch_itr(shuffle=True))
    with metrics.aggregate("train"), metrics.aggregate("train_inner"):
        trainer.train_step([next(batches), next(batches)])
        with Waits() as found:
            trainer.train_step([next(batches), next(batches)])
    assert found.ours == []
    # Whether it is finite, twice.
    assert found.of_fairseq == ["aten._local_scalar_dense.default"] * 2
    metrics.reset()


def test_what_waits_is_found():
    numbers = torch.arange(3.0)
    with Waits() as found:
        numbers.sum().item()
        numbers[numbers > 1]
        numbers[numbers > 1] = 0
        torch.equal(numbers, numbers)
        numbers[torch.tensor([1])] = 0
    assert len(found.ours + found.of_fairseq) == 4
