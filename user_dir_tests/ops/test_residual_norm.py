"""Dropout, residual and LayerNorm in one, against the plain formula in float64."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from convbert_plugin.ops.dropout import dropped_levels, random_bits
from convbert_plugin.ops.residual_norm import dropout_add_norm, dropout_add_norm_reference
from user_dir_tests.ops.saved_bytes import saved_bytes
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.pretraining

EPS = 1e-12
SHAPE = (3, 5, 22)
RATES = (0.0, 0.1, 0.7)


def inputs_of(dtype, residual_dtype=None, weight_dtype=None):
    torch.manual_seed(2)
    width = SHAPE[-1:]
    states, residual = (
        torch.randn(SHAPE, dtype=dtype),
        torch.randn(SHAPE).to(residual_dtype or dtype),
    )
    weight, bias = (torch.randn(width).to(weight_dtype or dtype) for _ in range(2))
    return [tensor.requires_grad_() for tensor in (states, residual, weight, bias)]


def with_gradients(function, inputs, rate):
    output = function(*inputs, EPS, rate)
    grad = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return output, *torch.autograd.grad(output, inputs, grad.to(output.dtype))


def plain(inputs, rate):
    """The formula, with the mask that the bits of the generator's state name."""
    doubles = [tensor.detach().double().requires_grad_() for tensor in inputs]
    levels = dropped_levels(rate)
    is_kept = random_bits(torch.Size(SHAPE)).long() + (1 << 15) >= levels

    def function(states, residual, weight, bias, eps, rate):
        summed = residual + states * is_kept / (1 - levels / (1 << 16))
        centered = summed - summed.mean(-1, keepdim=True)
        variance = centered.square().mean(-1, keepdim=True)
        return centered / (variance + eps).sqrt() * weight + bias

    return with_gradients(function, doubles, rate)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_equals_the_formula(rate, dtype):
    inputs = inputs_of(dtype)
    torch.manual_seed(4)
    expected = plain(inputs, rate)
    torch.manual_seed(4)
    results = with_gradients(dropout_add_norm, inputs, rate)
    kind = "block" if dtype == torch.float64 else "model"
    for result, wanted in zip(results, expected, strict=True):
        assert result.dtype == dtype
        assert relative_error(result, wanted) < TOLERANCES[dtype][kind]


@pytest.mark.parametrize("residual_dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("rate", RATES)
def test_dtypes_of_autocast_are_those_of_the_definition(residual_dtype, rate):
    inputs = inputs_of(torch.bfloat16, residual_dtype, torch.float32)
    torch.manual_seed(4)
    expected = plain(inputs, rate)
    with torch.autocast("cpu", torch.bfloat16):
        dtypes = [x.dtype for x in with_gradients(dropout_add_norm_reference, inputs, rate)]
        torch.manual_seed(4)
        results = with_gradients(dropout_add_norm, inputs, rate)
    assert [result.dtype for result in results] == dtypes
    for result, wanted in zip(results, expected, strict=True):
        assert relative_error(result, wanted) < TOLERANCES[torch.bfloat16]["model"]


def test_frozen_weights_get_no_gradient():
    states, residual, weight, bias = inputs_of(torch.float32)
    output = dropout_add_norm(states, residual, weight.detach(), bias.detach(), EPS, 0.1)
    output.sum().backward()
    assert states.grad is not None
    assert residual.grad is not None


def test_recomputing_drops_the_same():
    inputs = inputs_of(torch.float64)

    def recomputed(*arguments):
        return checkpoint(dropout_add_norm, *arguments, use_reentrant=False)

    results = []
    for function in (dropout_add_norm, recomputed):
        torch.manual_seed(4)
        results.append(with_gradients(function, inputs, 0.5))
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)


def test_keeps_less_than_torch():
    inputs = [*inputs_of(torch.float32), EPS, 0.1]
    numbers = torch.Size(SHAPE).numel()
    ours, torchs = (
        saved_bytes(function, *inputs)
        for function in (dropout_add_norm, dropout_add_norm_reference)
    )
    assert torchs - ours >= numbers


def test_torch_runs_it_where_a_compiler_does():
    inputs = inputs_of(torch.float32)
    compiled = torch.compile(dropout_add_norm, backend="eager", fullgraph=True)
    torch.manual_seed(4)
    expected = with_gradients(dropout_add_norm_reference, inputs, 0.5)
    torch.manual_seed(4)
    for result, wanted in zip(with_gradients(compiled, inputs, 0.5), expected, strict=True):
        assert torch.equal(result, wanted)
