"""Where the first number that is not finite is found, in networks of which it is known."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from convbert_plugin.errors import UserError
from convbert_plugin.training.finite_numbers import LeftOut, find, leave_out

pytestmark = pytest.mark.survival


class Root(nn.Module):
    """The square root, whose derivative at 0 is infinite."""

    def forward(self, states):
        return states.sqrt()


class Network(nn.Module):
    """Linear layers about another one."""

    def __init__(self, middle):
        super().__init__()
        torch.manual_seed(1)
        # Registered in another order than they are called in.
        self.last = nn.Linear(3, 1)
        self.middle = middle
        self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 3)

    def forward(self, states):
        return self.last(self.middle(self.second(self.first(states))))


def batch_of(numbers, identity=0):
    return {"id": torch.tensor([identity]), "net_input": {"states": torch.tensor([numbers])}}


def found(model, *batches):
    return find(model, lambda batch: model(**batch["net_input"]).sum(), batches)


@pytest.fixture
def sound():
    return Network(nn.Tanh())


def test_nothing_where_all_is_finite(sound):
    assert found(sound, batch_of([1.0, 2.0])) is None
    assert not any(module._forward_hooks for module in sound.modules())
    assert all(parameter.grad is None for parameter in sound.parameters())


def test_in_the_data_of_one_of_several_batches(sound):
    place = found(
        sound, batch_of([1.0, 2.0]), batch_of([1.0, math.inf], 7), batch_of([math.nan, 1.0])
    )
    assert place == (1, [7], "what the data hold (states) is not finite", False)


def test_in_the_output_of_a_module_whose_weights_are_finite():
    """Roots of negative numbers."""
    model = Network(Root())
    with torch.no_grad():
        model.second.bias.fill_(-100.0)
    place = found(model, batch_of([1.0, 2.0], 3))
    assert place == (0, [3], "the output of middle is not finite", False)


def test_in_a_weight(sound):
    with torch.no_grad():
        sound.second.bias[1] = -math.inf
    words = "the output of second is not finite, nor is second.bias"
    assert found(sound, batch_of([1.0, 2.0])) == (0, [0], words, True)


def test_in_a_weight_that_another_module_reads():
    model = Network(nn.Identity())
    model.middle.forward = lambda states: model.first.weight[0, 0] * states
    model.first.forward = lambda states: torch.ones(1, 3)
    with torch.no_grad():
        model.first.weight[0, 0] = math.nan
    words = "the output of middle is not finite, nor is first.weight"
    assert found(model, batch_of([1.0, 2.0])) == (0, [0], words, True)


def test_in_the_loss_alone(sound):
    place = find(
        sound, lambda batch: sound(**batch["net_input"]).sum() * math.inf, [batch_of([1.0, 2.0])]
    )
    assert place == (0, [0], "the loss is not finite", False)


def test_in_the_gradients_below_a_module():
    """Of those, the one that the backward pass comes to first."""
    model = Network(Root())
    with torch.no_grad():
        model.second.weight.zero_()
        model.second.bias.zero_()
    words = "the gradient of second.weight is not finite"
    assert found(model, batch_of([1.0, 2.0])) == (0, [0], words, False)
    for parameter in model.second.parameters():
        parameter.requires_grad_(False)
    words = "the gradient of first.weight is not finite"
    assert found(model, batch_of([1.0, 2.0])) == (0, [0], words, False)


def test_norms_that_differ_between_workers_are_another_trouble():
    """fairseq tells of them in the same way; all workers see all norms."""
    norms = torch.tensor([1.5, 2.5])
    trainer = SimpleNamespace(_grad_norm_buf=norms, get_num_updates=lambda: 4)
    with pytest.raises(UserError) as told:
        leave_out(trainer, [], LeftOut())
    assert str(told.value) == (
        "update 5: the norms of the workers' gradients differ (1.5 to 2.5): add --ddp-backend "
        "legacy_ddp, or train on GPUs of one kind"
    )
