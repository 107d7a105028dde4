"""Gradients before the backward pass: those of the plain pass, with nothing kept but them."""

import gc
import weakref

import pytest
import torch

from convbert_plugin.ops import early_gradients
from convbert_plugin.ops.early_gradients import in_pieces, with_early_gradients

pytestmark = pytest.mark.pretraining


def parameters_of():
    generator = torch.Generator().manual_seed(1)
    shapes = (3, 5), (5,), (2,)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]


def loss_of(weight, bias):
    """A loss, and something that is whole numbers."""
    states = (weight + bias).tanh()
    return (states * states.exp()).sum(), states.argmax(1)


@pytest.mark.parametrize("weight_of_loss", [1.0, -3.5, 0.0])
def test_they_are_those_of_the_plain_pass(weight_of_loss):
    weight, bias, unused = parameters_of()
    expected, whole = loss_of(weight, bias)
    plain = torch.autograd.grad(weight_of_loss * expected + weight.sum(), (weight, bias))
    loss, indices = with_early_gradients(lambda: loss_of(weight, bias), (weight, bias, unused))
    assert torch.equal(loss, expected)
    assert torch.equal(indices, whole)
    # Twice, as a kept graph allows.
    for _ in range(2):
        early = torch.autograd.grad(
            weight_of_loss * loss + weight.sum(), (weight, bias), retain_graph=True
        )
        assert all(torch.allclose(*pair, rtol=1e-14) for pair in zip(early, plain, strict=True))
    assert torch.autograd.grad(loss, unused, allow_unused=True) == (None,)


def test_what_the_pass_has_made_is_gone_before_the_backward():
    weight, bias, _ = parameters_of()
    made = []

    def loss():
        states = (weight + bias).tanh()
        made.append(weakref.ref(states))
        return ((states * states.exp()).sum(),)

    plain = loss()[0]
    assert made.pop()() is not None
    (early,) = with_early_gradients(loss, (weight, bias))
    gc.collect()
    assert made.pop()() is None
    assert plain.requires_grad
    assert early.requires_grad


def test_a_parameter_that_does_not_learn_takes_no_part():
    weight, bias, _ = parameters_of()
    weight.requires_grad_(False)
    loss, _ = with_early_gradients(lambda: loss_of(weight, bias), (weight, bias))
    loss.backward()
    assert weight.grad is None
    assert bias.grad is not None
    bias.requires_grad_(False)
    loss, _ = with_early_gradients(lambda: loss_of(weight, bias), (weight, bias))
    assert not loss.requires_grad


@torch.no_grad()
def test_without_gradients_there_are_none():
    weight, bias, _ = parameters_of()
    loss, _ = with_early_gradients(lambda: loss_of(weight, bias), (weight, bias))
    assert not loss.requires_grad


@pytest.mark.parametrize(("dtype", "waits"), [(torch.float16, True), (torch.bfloat16, False)])
def test_float16_waits_for_the_scaled_loss(dtype, waits):
    """A gradient of 1e-8 is none in float16, unless the loss was scaled before."""
    weight = torch.ones(2, 2, requires_grad=True)
    inputs = torch.full((1, 2), 1e-4)

    def loss():
        return ((torch.nn.functional.linear(inputs, weight).float() * 1e-4).sum(),)

    with torch.autocast("cpu", dtype):
        (result,) = with_early_gradients(loss, [weight])
    (result * 2**16).backward()
    assert weight.grad.gt(0).all()
    is_plain = "EarlyGradients" not in type(result.grad_fn).__name__
    assert is_plain == waits


def test_a_second_derivative_is_refused():
    weight, bias, _ = parameters_of()
    loss, _ = with_early_gradients(lambda: loss_of(weight, bias), (weight, bias))
    (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradient.sum().backward()


ROWS, LENGTH = 7, 3


def states_of():
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(ROWS, LENGTH, 5, generator=generator, dtype=torch.float64)
    return inputs.requires_grad_()


@pytest.mark.parametrize(("at_once", "sizes"), [(1, [1] * 7), (6, [1, 2, 2, 2]), (21, [7])])
def test_the_pieces_of_a_batch_add_up_to_it(monkeypatch, at_once, sizes):
    monkeypatch.setitem(early_gradients.POSITIONS_AT_ONCE, "cpu", at_once)
    weight, bias, unused = parameters_of()
    weight.requires_grad_(False)
    inputs, labels = states_of(), torch.arange(ROWS)
    seen = []

    def loss_of_rows(rows, states):
        seen.append(len(states))
        outputs = (states + bias).tanh() @ weight.T
        return (outputs.sum((1, 2)) * labels[rows]).sum(), outputs

    expected, outputs = loss_of_rows(slice(0, ROWS), inputs * 2)
    plain = torch.autograd.grad(-2 * expected, (inputs, bias))
    seen.clear()
    loss, pieces = in_pieces(loss_of_rows, inputs * 2, (weight, bias, unused))
    assert seen == sizes
    assert torch.allclose(loss, expected, rtol=1e-14)
    assert torch.allclose(pieces, outputs, rtol=1e-14)
    assert pieces.requires_grad == (len(sizes) == 1)
    gradients = torch.autograd.grad(-2 * loss, (inputs, bias))
    assert all(torch.allclose(*pair, rtol=1e-13) for pair in zip(gradients, plain, strict=True))


def test_one_piece_alone_is_in_memory(monkeypatch):
    monkeypatch.setitem(early_gradients.POSITIONS_AT_ONCE, "cpu", LENGTH)
    _, bias, _ = parameters_of()
    alive = weakref.WeakSet()
    together = []

    def loss_of_rows(rows, states):
        activated = (states + bias).tanh()
        alive.add(activated)
        together.append(len(alive))
        return ((activated * activated).sum(),)

    in_pieces(loss_of_rows, states_of(), [bias])
    assert together == [1] * ROWS
    assert len(alive) == 0


@torch.no_grad()
def test_nothing_is_cut_into_pieces_where_nothing_learns(monkeypatch):
    monkeypatch.setitem(early_gradients.POSITIONS_AT_ONCE, "cpu", 1)
    seen = []
    in_pieces(lambda rows, states: (seen.append(rows), states), states_of(), parameters_of())
    assert seen == [slice(0, ROWS)]
