"""Products by either library, against float64."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from convbert_plugin.ops import products
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.speed

ROUNDING = TOLERANCES[torch.float32]["operation"]
LIBRARIES = {"mkl": False, "onednn": True}


@pytest.fixture(params=LIBRARIES)
def library(request, monkeypatch):
    """Which of them computes, whatever the processor and the sizes."""
    if LIBRARIES[request.param] and not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(products, "_is_faster_by_onednn", lambda: LIBRARIES[request.param])
    monkeypatch.setattr(products, "WORTH_A_CALL", 1)
    return request.param


def inputs_of(shape, out, with_bias=True):
    torch.manual_seed(1)
    states, weight = torch.randn(shape), torch.randn(out, shape[-1])
    bias = torch.randn(out) if with_bias else None
    return [
        None if tensor is None else tensor.requires_grad_() for tensor in (states, weight, bias)
    ]


def names_of(function):
    """The operations of torch that a call goes through."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        function()
    return {event.key for event in profile.key_averages()}


def in_float64(states, weight, bias, grad):
    """By the definition, written out. The gradients are those of its sum with ``grad``."""
    states, weight, grad = (tensor.detach().double() for tensor in (states, weight, grad))
    output = torch.einsum("...i,oi->...o", states, weight)
    if bias is not None:
        output = output + bias.detach().double()
    gradients = [
        torch.einsum("...o,oi->...i", grad, weight),
        torch.einsum("...o,...i->oi", grad, states),
    ]
    return output, gradients + ([] if bias is None else [grad.flatten(0, -2).sum(0)])


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("shape", "out"), [((3, 5, 22), 9), ((130, 64), 33), ((1, 7), 1)])
def test_equals_the_definition(library, shape, out, with_bias):
    inputs = inputs_of(shape, out, with_bias)
    output = products.product(*inputs)
    # All of one sign, so that no sum of theirs is small by chance.
    grad = torch.rand_like(output) + 1
    expected, expected_gradients = in_float64(*inputs, grad)
    assert relative_error(output, expected) < ROUNDING
    learning = [tensor for tensor in inputs if tensor is not None]
    for result, wanted in zip(
        torch.autograd.grad(output, learning, grad), expected_gradients, strict=True
    ):
        assert relative_error(result, wanted) < ROUNDING
    with torch.no_grad():
        assert relative_error(products.product(*inputs), expected) < ROUNDING


def test_states_and_weights_of_any_layout(library):
    states, weight, _ = inputs_of((4, 6, 10), 10)
    states, weight = states.transpose(0, 1)[..., ::2], weight.t()[:, 1::2]
    output = products.product(states, weight)
    assert relative_error(output, in_float64(states, weight, None, output)[0]) < ROUNDING


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_what_does_not_learn_has_no_gradient(library, frozen):
    inputs = inputs_of((3, 4), 5)
    inputs[frozen].requires_grad_(False)
    products.product(*inputs).sum().backward()
    assert [tensor.grad is not None for tensor in inputs] == [i != frozen for i in range(3)]


def test_nothing_goes_through(library):
    output = products.product(*inputs_of((0, 4), 5))
    assert output.shape == (0, 5)
    output.sum().backward()


def test_autocast_chooses_the_precision(library):
    with torch.autocast("cpu", torch.bfloat16):
        assert products.product(*inputs_of((8, 4), 5)).dtype == torch.bfloat16


def test_flops_are_counted(library):
    with FlopCounterMode(display=False) as counter:
        products.product(*inputs_of((3, 8, 4), 5)).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * (3 * 8) * 4 * 5


def test_each_library_goes_its_way(library):
    names = names_of(lambda: products.product(*inputs_of((8, 4), 5)))
    assert ("mkldnn::_linear_pointwise" in names) == (library == "onednn")


MAKERS = {"AuthenticAMD": True, "GenuineIntel": False, "": False}


@pytest.mark.parametrize(("maker", "is_faster"), MAKERS.items())
def test_the_maker_of_the_processor_decides(maker, is_faster, monkeypatch):
    monkeypatch.setattr(products, "processor_maker", lambda: maker)
    products._is_faster_by_onednn.cache_clear()
    try:
        names = names_of(lambda: products.product(*inputs_of((2048, 64), 64)))
        wanted = is_faster and torch.backends.mkldnn.is_available()
        assert ("mkldnn::_linear_pointwise" in names) == wanted
        small = names_of(lambda: products.product(*inputs_of((20, 64), 64)))
        assert "mkldnn::_linear_pointwise" not in small
    finally:
        products._is_faster_by_onednn.cache_clear()
