"""The schedule against hand-worked rates and the released code's formula."""

import pytest
import torch
from fairseq.optim import build_optimizer
from fairseq.optim.lr_scheduler import build_lr_scheduler
from omegaconf import OmegaConf

import convbert_plugin.optim  # noqa: F401  (registers the names)
from convbert_plugin.errors import UserError


def build_schedule(**fields):
    lr = fields.setdefault("lr", [2e-4])
    optimizer = build_optimizer(
        OmegaConf.create({"_name": "convbert_adamw", "lr": lr}), [torch.nn.Parameter(torch.ones(2))]
    )
    return build_lr_scheduler(
        OmegaConf.create({"_name": "convbert_linear", **fields}), optimizer
    ), optimizer


# n: rate, for a peak of 2e-4 over 1000 updates, of which 100 are warm-up
RELEASED = {0: 0.0, 1: 1.998e-6, 50: 0.95e-4, 100: 1.8e-4, 550: 0.9e-4, 999: 2e-7, 1000: 0, 1500: 0}
SEQUENTIAL = {0: 0.0, 1: 2e-6, 50: 1e-4, 100: 2e-4, 550: 1e-4, 1000: 0, 1500: 0}


@pytest.mark.parametrize(("sequential", "rates"), [(False, RELEASED), (True, SEQUENTIAL)])
@pytest.mark.parametrize("warmup", [{"warmup_updates": 100}, {"warmup_ratio": 0.1}])
def test_hand_worked_rates(sequential, rates, warmup):
    schedule, optimizer = build_schedule(max_update=1000, sequential_warmup=sequential, **warmup)
    assert optimizer.get_lr() == 0.0
    for updates, rate in rates.items():
        assert schedule.step_update(updates) == pytest.approx(rate, rel=1e-12, abs=0)
        assert optimizer.get_lr() == pytest.approx(rate, rel=1e-12, abs=0)


def test_released_formula_with_a_warmup_that_is_not_whole():
    # model/optimization.py:30-32 keeps total * proportion as it is: 25 * 0.1 = 2.5 updates.
    schedule, _ = build_schedule(max_update=25, warmup_ratio=0.1, lr=[0.5])
    for updates in range(30):
        decayed = 0.5 * (1 - min(updates, 25) / 25)
        expected = decayed * min(1.0, updates / 2.5)
        assert schedule.step_update(updates) == pytest.approx(expected, rel=1e-12, abs=0)


@pytest.mark.parametrize("sequential", [False, True])
def test_without_warmup_it_starts_at_the_peak(sequential):
    schedule, optimizer = build_schedule(max_update=10, sequential_warmup=sequential)
    assert optimizer.get_lr() == 2e-4
    assert schedule.step_update(5) == pytest.approx(1e-4)


def test_total_num_update_goes_before_max_update():
    schedule, _ = build_schedule(max_update=10, total_num_update=20)
    assert schedule.step_update(10) == pytest.approx(1e-4)


def test_the_rate_depends_on_the_number_of_updates_alone():
    walked, _ = build_schedule(max_update=40, warmup_updates=7)
    for updates in range(31):
        walked.step_update(updates)
        walked.step_begin_epoch(updates)
    resumed, _ = build_schedule(max_update=40, warmup_updates=7)
    resumed.load_state_dict(walked.state_dict())
    assert resumed.step_update(30) == walked.step_update(30)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_update": 0}, "needs --max-update, --total-num-update or --budget-minutes"),
        ({"max_update": 9, "warmup_updates": 2, "warmup_ratio": 0.1}, "not both"),
        ({"max_update": 9, "warmup_ratio": 1.5}, "--warmup-ratio"),
        ({"max_update": 9, "warmup_updates": -1}, "--warmup-updates"),
        ({"max_update": 9, "lr": [1e-4, 1e-5]}, "a single --lr"),
    ],
)
def test_mistakes_are_told_in_one_line(fields, words):
    with pytest.raises(UserError, match=words):
        build_schedule(**fields)
