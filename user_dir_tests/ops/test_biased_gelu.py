"""A bias and GELU in one, against the error function in float64."""

import pytest
import torch

from convbert_plugin.ops.biased_gelu import biased_gelu
from user_dir_tests.ops.dropping import WAYS, go
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.pretraining


def with_gradients(function, states, bias):
    output = function(states, bias)
    grad = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view(output.shape)
    return output, *torch.autograd.grad(output, (states, bias), grad.to(output.dtype))


def plain(states, bias):
    biased = states + bias
    return biased * (1 + torch.erf(biased / 2**0.5)) / 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 5, 22), (130, 64), (1, 3)])
def test_equals_the_formula(way, dtype, shape, monkeypatch):
    go(way, monkeypatch)
    torch.manual_seed(1)
    # From where the distribution is 0 to where it is 1.
    states, bias = (3 * torch.randn(shape)).to(dtype), torch.randn(shape[-1:]).to(dtype)
    expected = with_gradients(plain, *(x.double().requires_grad_() for x in (states, bias)))
    results = with_gradients(biased_gelu, states.requires_grad_(), bias.requires_grad_())
    kind = "block" if dtype == torch.float64 else "model"
    for result, wanted in zip(results, expected, strict=True):
        assert result.dtype == dtype
        assert relative_error(result, wanted) < TOLERANCES[dtype][kind]


@pytest.mark.parametrize("way", WAYS)
def test_extremes(way, monkeypatch):
    go(way, monkeypatch)
    numbers = [-1e30, -30.0, -0.0, 0.0, 1e-30, 30.0, 1e30, float("nan")]
    states = torch.tensor([numbers * 3])
    output = biased_gelu(states, torch.zeros(states.size(1)))[0, : len(numbers)]
    expected = torch.tensor([0, 0, 0, 0, 5e-31, 30, 1e30, float("nan")])
    assert torch.allclose(output, expected, equal_nan=True)
