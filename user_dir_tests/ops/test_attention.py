"""Attention with dropout on a CPU, against the plain formula in float64."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from convbert_plugin.ops.attention import attention, attention_of_torch
from user_dir_tests.ops.dropping import WAYS, go, kept_numbers, scale
from user_dir_tests.ops.saved_bytes import saved_bytes
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.pretraining

BATCH, LENGTH, HEADS, SIZE = SHAPE = (3, 7, 2, 5)
RATES = (0.1, 0.6)


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    go(request.param, monkeypatch)
    return request.param


def inputs_of(dtype):
    torch.manual_seed(2)
    joined = torch.randn(BATCH, LENGTH, 3 * HEADS * SIZE).to(dtype)
    parts = [part.unflatten(-1, (HEADS, SIZE)) for part in joined.chunk(3, dim=-1)]
    return [part.requires_grad_() for part in parts]


def padded():
    padding = torch.zeros(BATCH, LENGTH, dtype=torch.bool)
    padding[1, 4:] = True
    padding[2] = True
    return padding


def with_gradients(function, inputs, padding, rate):
    output = function(*inputs, padding, rate)
    grad = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return output, *torch.autograd.grad(output, inputs, grad.to(output.dtype))


def plain(inputs, padding, way, rate):
    doubles = [tensor.detach().double().requires_grad_() for tensor in inputs]
    is_kept = kept_numbers(way, (HEADS, BATCH, LENGTH, LENGTH), rate).transpose(0, 1)

    def function(query, key, value, padding, rate):
        scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / SIZE**0.5
        powers = (scores - scores.amax(-1, keepdim=True).detach()).exp()
        if padding is not None:
            powers = powers * ~padding[:, None, None]
        probabilities = powers / powers.sum(-1, keepdim=True).clamp(min=1e-300)
        dropped = probabilities * is_kept * scale(rate)
        return torch.einsum("bhqk,bkhd->bqhd", dropped, value)

    return with_gradients(function, doubles, padding, rate)


@pytest.mark.parametrize("padding", [None, padded()], ids=["whole", "padded"])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_autocast", [False, True])
def test_equals_the_formula(way, padding, rate, dtype, is_autocast):
    inputs = inputs_of(dtype)
    torch.manual_seed(4)
    expected = plain(inputs, padding, way, rate)
    torch.manual_seed(4)
    with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
        results = with_gradients(attention, inputs, padding, rate)
    kind = "block" if dtype == torch.float64 else "model"
    for result, wanted in zip(results, expected, strict=True):
        assert result.dtype == dtype
        assert result.shape == SHAPE
        assert relative_error(result, wanted) < TOLERANCES[dtype][kind]


def test_a_text_of_pads_alone_is_zero_as_in_torch(way):
    for function in (attention, attention_of_torch):
        output, *gradients = with_gradients(function, inputs_of(torch.float32), padded(), 0.1)
        assert all(not tensor[2].any() for tensor in (output, *gradients))


def test_in_the_mean_it_is_attention_without_dropout(way):
    inputs = [tensor.detach() for tensor in inputs_of(torch.float64)]
    torch.manual_seed(6)
    draws = torch.stack([attention(*inputs, padded(), 0.3) for _ in range(2000)])
    error = draws.mean(0) - attention_of_torch(*inputs, padded(), 0.0)
    assert (error.abs() <= 5 * draws.std(0) / len(draws) ** 0.5 + 1e-12).all()


def test_recomputing_drops_the_same(way):
    inputs = inputs_of(torch.float64)

    def recomputed(*arguments):
        return checkpoint(attention, *arguments, use_reentrant=False)

    results = []
    for function in (attention, recomputed):
        torch.manual_seed(4)
        results.append(with_gradients(function, inputs, None, 0.5))
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)


def test_keeps_less_than_torch(way):
    inputs = [*inputs_of(torch.float32), padded(), 0.1]
    numbers = BATCH * HEADS * LENGTH**2
    ours, torchs = (saved_bytes(function, *inputs) for function in (attention, attention_of_torch))
    assert torchs - ours >= 4 * numbers


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_torch_runs_it_where_a_compiler_does(rate):
    inputs = inputs_of(torch.float32)
    compiled = torch.compile(attention, backend="eager", fullgraph=True)
    torch.manual_seed(4)
    expected = with_gradients(attention_of_torch, inputs, None, rate)
    torch.manual_seed(4)
    for result, wanted in zip(with_gradients(compiled, inputs, None, rate), expected, strict=True):
        assert relative_error(result, wanted) < TOLERANCES[torch.float32]["model"]
