"""A bias, dropout, residual and LayerNorm in one, against the plain formula in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from convbert_plugin.ops.residual_norm import dropout_add_norm
from user_dir_tests.ops.dropping import WAYS, go, kept_numbers, scale
from user_dir_tests.ops.saved_bytes import saved_bytes
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.pretraining

EPS = 1e-12
# More rows than are summed up at once, and columns that no register divides.
SHAPE = (3, 17, 22)
RATES = (0.0, 0.1, 0.7)


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    go(request.param, monkeypatch)
    return request.param


def inputs_of(dtype, residual_dtype=None, weight_dtype=None, shape=SHAPE):
    torch.manual_seed(2)
    states, residual = torch.randn(shape).to(dtype), torch.randn(shape).to(residual_dtype or dtype)
    states_bias, weight, bias = (
        torch.randn(shape[-1:]).to(weight_dtype or dtype) for _ in range(3)
    )
    tensors = (states, states_bias, residual, weight, bias)
    return [tensor.requires_grad_() for tensor in tensors]


def with_gradients(function, inputs, rate):
    output = function(*inputs, EPS, rate)
    generator = torch.Generator().manual_seed(3)
    grad = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    return output, *torch.autograd.grad(output, inputs, grad.to(output.dtype))


def plain(inputs, way, rate):
    doubles = [tensor.detach().double().requires_grad_() for tensor in inputs]
    shape = inputs[0].shape
    is_kept = kept_numbers(way, shape, rate) if rate else torch.ones(shape)

    def function(states, states_bias, residual, weight, bias, eps, rate):
        summed = residual + (states + states_bias) * is_kept * scale(rate)
        centered = summed - summed.mean(-1, keepdim=True)
        variance = centered.square().mean(-1, keepdim=True)
        return centered / (variance + eps).sqrt() * weight + bias

    return with_gradients(function, doubles, rate)


def by_torch(states, states_bias, residual, weight, bias, eps, rate):
    summed = residual + F.dropout(states + states_bias.to(states.dtype), rate)
    return F.layer_norm(summed, weight.shape, weight, bias, eps)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [SHAPE, (130, 256), (1, 1, 3)])
def test_equals_the_formula(way, rate, dtype, shape):
    inputs = inputs_of(dtype, shape=shape)
    torch.manual_seed(4)
    expected = plain(inputs, way, rate)
    torch.manual_seed(4)
    results = with_gradients(dropout_add_norm, inputs, rate)
    kind = "block" if dtype == torch.float64 else "model"
    for result, wanted in zip(results, expected, strict=True):
        assert result.dtype == dtype
        assert relative_error(result, wanted) < TOLERANCES[dtype][kind]


@pytest.mark.parametrize("residual_dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("rate", RATES)
def test_dtypes_of_autocast_are_those_of_torch(way, residual_dtype, rate):
    inputs = inputs_of(torch.bfloat16, residual_dtype, torch.float32)
    torch.manual_seed(4)
    expected = plain(inputs, way, rate)
    with torch.autocast("cpu", torch.bfloat16):
        dtypes = [result.dtype for result in with_gradients(by_torch, inputs, rate)]
        torch.manual_seed(4)
        results = with_gradients(dropout_add_norm, inputs, rate)
    assert [result.dtype for result in results] == dtypes
    for result, wanted in zip(results, expected, strict=True):
        assert relative_error(result, wanted) < TOLERANCES[torch.bfloat16]["model"]


def test_a_bias_may_be_added_already(way):
    states, _, *others = inputs_of(torch.float64)
    zeros = torch.zeros(SHAPE[-1:], dtype=torch.float64)
    for rate in RATES:
        torch.manual_seed(4)
        expected = dropout_add_norm(states, zeros, *others, EPS, rate)
        torch.manual_seed(4)
        assert torch.equal(dropout_add_norm(states, None, *others, EPS, rate), expected)


def test_frozen_vectors_and_strided_states(way):
    states, states_bias, residual, weight, bias = inputs_of(torch.float32)
    vectors = [vector.detach() for vector in (states_bias, weight, bias)]
    turned = states.mT.contiguous().mT
    output = dropout_add_norm(turned, vectors[0], residual, *vectors[1:], EPS, 0.0)
    expected = by_torch(states, vectors[0], residual, *vectors[1:], EPS, 0.0)
    assert relative_error(output, expected) < TOLERANCES[torch.float32]["model"]
    results, wanted = (
        torch.autograd.grad(out.square().sum(), [states, residual]) for out in (output, expected)
    )
    for result, gradient in zip(results, wanted, strict=True):
        assert relative_error(result, gradient) < TOLERANCES[torch.float32]["model"]


def test_recomputing_drops_the_same(way):
    inputs = inputs_of(torch.float64)

    def recomputed(*arguments):
        return checkpoint(dropout_add_norm, *arguments, use_reentrant=False)

    results = []
    for function in (dropout_add_norm, recomputed):
        torch.manual_seed(4)
        results.append(with_gradients(function, inputs, 0.5))
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)


def test_keeps_less_than_torch(way):
    shape = (64, 256)
    inputs = [*inputs_of(torch.float32, shape=shape), EPS, 0.1]
    ours, torchs = (saved_bytes(function, *inputs) for function in (dropout_add_norm, by_torch))
    # Of the dropout of a number torch keeps a float, two bytes or nothing are kept here.
    assert torchs - ours >= (1.9 if way == "torch" else 3.9) * torch.Size(shape).numel()


def test_any_number_of_threads_gives_the_same(way):
    inputs, results = inputs_of(torch.float32, shape=(512, 256)), []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            torch.manual_seed(4)
            results.append(with_gradients(dropout_add_norm, inputs, 0.1)[:4])
    finally:
        torch.set_num_threads(threads)
    for others in results[1:]:
        assert all(map(torch.equal, results[0], others))


def test_torch_runs_it_where_a_compiler_does():
    inputs = inputs_of(torch.float32)
    compiled = torch.compile(dropout_add_norm, backend="eager", fullgraph=True)
    torch.manual_seed(4)
    expected = with_gradients(by_torch, inputs, 0.5)
    torch.manual_seed(4)
    for result, wanted in zip(with_gradients(compiled, inputs, 0.5), expected, strict=True):
        assert torch.equal(result, wanted)
