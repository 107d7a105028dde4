"""The loss over a vocabulary in pieces: against all logits at once, in values and gradients."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from convbert_plugin.ops import vocabulary_loss as module
from convbert_plugin.ops.vocabulary_loss import vocabulary_loss, vocabulary_loss_reference
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.pretraining

# Neither whole blocks nor whole pieces.
ROWS, VOCABULARY, WIDTH = 47, 301, 10
PIECES = {"one row": 1, "five rows": 5 * 384, "all rows": 1 << 22}
NAMES = ("hidden", "table", "bias")


def inputs_of(rows=ROWS, dtype=torch.float64, seed=1, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    hidden, table, bias = (
        spread * torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((rows, WIDTH), (VOCABULARY, WIDTH), (VOCABULARY,))
    )
    targets = torch.randint(VOCABULARY, (rows,), generator=generator)
    uniforms = torch.rand(rows, generator=generator, dtype=torch.float64)
    parameters = [tensor.to(dtype).requires_grad_() for tensor in (hidden, table, bias)]
    return parameters, targets, uniforms


def with_gradients(function, parameters, targets, uniforms, weight=1.0):
    output = function(*parameters, targets, uniforms)
    return output, torch.autograd.grad(weight * output.loss, parameters)


def in_float64(parameters):
    return [parameter.detach().double().requires_grad_() for parameter in parameters]


@pytest.fixture(params=PIECES.values(), ids=PIECES)
def pieces(request, monkeypatch):
    monkeypatch.setitem(module.LOGITS_AT_ONCE, "cpu", request.param)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("rows", [0, 1, ROWS])
@pytest.mark.usefixtures("pieces")
def test_values_and_gradients_are_those_of_all_logits_at_once(rows, dtype):
    parameters, *rest = inputs_of(rows, dtype)
    output, gradients = with_gradients(vocabulary_loss, parameters, *rest, weight=-2.5)
    exact = in_float64(parameters)
    expected, exact_gradients = with_gradients(vocabulary_loss_reference, exact, *rest, weight=-2.5)
    assert output.loss.dtype == dtype
    assert torch.equal(output.guessed, expected.guessed)
    assert torch.equal(output.sampled, expected.sampled)
    assert output.loss.item() == pytest.approx(
        expected.loss.item(), rel=TOLERANCES[dtype]["operation"]
    )
    for name, gradient, exact_gradient in zip(NAMES, gradients, exact_gradients, strict=True):
        assert gradient.dtype == dtype
        if rows:
            assert relative_error(gradient, exact_gradient) <= TOLERANCES[dtype]["operation"], name
        else:
            assert not gradient.any()


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("is_autocast", [True, False], ids=["autocast", "half parameters"])
@pytest.mark.usefixtures("pieces")
def test_half_precision_is_that_of_the_products(half, is_autocast):
    parameters, *rest = inputs_of(dtype=torch.float32 if is_autocast else half, spread=0.5)
    with torch.autocast("cpu", half, enabled=is_autocast):
        output, gradients = with_gradients(vocabulary_loss, parameters, *rest)
    rounded = in_float64(parameter.to(half) for parameter in parameters)
    expected, exact_gradients = with_gradients(vocabulary_loss_reference, rounded, *rest)
    assert output.loss.dtype == torch.float32
    tolerance = TOLERANCES[half]["operation"]
    assert output.loss.item() == pytest.approx(expected.loss.item(), rel=tolerance)
    for name, gradient, exact, parameter in zip(
        NAMES, gradients, exact_gradients, parameters, strict=True
    ):
        assert gradient.dtype == parameter.dtype
        assert 0 < relative_error(gradient, exact) <= tolerance, name


def test_small_gradients_survive_in_float16():
    """Of a large vocabulary nearly all probabilities are below what float16 can hold."""
    parameters, *rest = inputs_of(spread=0.1)
    with torch.no_grad():
        parameters[2].zero_()[0] = 14
    _, exact = with_gradients(vocabulary_loss_reference, parameters, *rest)
    halves = [parameter.detach().float().requires_grad_() for parameter in parameters]
    with torch.autocast("cpu", torch.float16):
        _, gradients = with_gradients(vocabulary_loss, halves, *rest)
    untargeted = torch.ones(VOCABULARY, dtype=torch.bool)
    untargeted[rest[0]] = untargeted[0] = False
    assert exact[1][untargeted].abs().max() < torch.finfo(torch.float16).smallest_normal
    tolerance = TOLERANCES[torch.float16]["operation"]
    assert relative_error(gradients[1][untargeted], exact[1][untargeted]) <= tolerance


def test_sums_beyond_the_range_of_float16_stay_finite():
    """A thousand wrong guesses of one token, each with the largest states."""
    rows, width = 1000, 4
    hidden = torch.full((rows, width), 1000.0, requires_grad=True)
    table = torch.zeros(VOCABULARY, width, requires_grad=True)
    bias = torch.zeros(VOCABULARY, requires_grad=True)
    targets = torch.zeros(rows, dtype=torch.long)
    with torch.autocast("cpu", torch.float16):
        output = vocabulary_loss(hidden, table, bias, targets, torch.zeros(rows))
    by_table, by_bias = torch.autograd.grad(output.loss, (table, bias))
    expected = torch.full((VOCABULARY,), rows / VOCABULARY)
    expected[0] -= rows
    tolerance = TOLERANCES[torch.float16]["operation"]
    assert relative_error(by_bias, expected) <= tolerance
    assert relative_error(by_table[:, 0], 1000 * expected) <= tolerance


def test_a_loss_that_is_no_number_is_told_by_the_loss():
    parameters, *rest = inputs_of()
    with torch.no_grad():
        parameters[0][3, 0] = torch.nan
    output, _ = with_gradients(vocabulary_loss, parameters, *rest)
    assert output.loss.isnan()
    assert (output.sampled >= 0).all()
    assert (output.sampled < VOCABULARY).all()


def test_of_equal_logits_the_first_is_the_guess():
    parameters, *rest = inputs_of()
    with torch.no_grad():
        for parameter in parameters:
            parameter.zero_()
        parameters[2][[7, 150, 300]] = 1
    assert vocabulary_loss(*parameters, *rest).guessed.eq(7).all()


def test_nothing_of_the_size_of_the_logits_outlives_the_forward():
    """What is kept are the gradients, of the sizes of the inputs."""
    parameters, *rest = inputs_of()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda packed: packed):
        vocabulary_loss(*parameters, *rest)
    assert sorted(tensor.shape for tensor in kept) == sorted(p.shape for p in parameters)


def test_without_gradients_none_are_computed():
    parameters, *rest = inputs_of()
    expected = vocabulary_loss(*parameters, *rest)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = vocabulary_loss(*parameters, *rest)
    assert not output.loss.requires_grad
    assert counter.get_total_flops() == 2 * ROWS * VOCABULARY * WIDTH
    assert all(torch.equal(*pair) for pair in zip(output, expected, strict=True))


def test_its_products_are_counted():
    with FlopCounterMode(display=False) as counter:
        with_gradients(vocabulary_loss, *inputs_of())
    assert counter.get_total_flops() == 6 * ROWS * VOCABULARY * WIDTH


@pytest.mark.usefixtures("pieces")
def test_it_is_deterministic():
    first, second = (with_gradients(vocabulary_loss, *inputs_of(), 3.0) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first[0], second[0], strict=True))
    assert all(torch.equal(*pair) for pair in zip(first[1], second[1], strict=True))


@pytest.mark.parametrize("needs_gradients", [True, False])
def test_torch_knows_it(needs_gradients):
    parameters, *rest = inputs_of(rows=3)
    parameters = [parameter.detach().requires_grad_(needs_gradients) for parameter in parameters]
    arguments = (*parameters, *rest, torch.float64, needs_gradients)
    torch.library.opcheck(torch.ops.convbert.vocabulary_loss.default, arguments)
