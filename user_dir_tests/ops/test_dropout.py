"""What dropout keeps: how much, which, and where its numbers come from."""

import numpy as np
import pytest
import torch

from convbert_plugin.ops.dropout import (
    LEVELS,
    dropout,
    dropped_levels,
    kept,
    random_bits,
    scale_of_kept,
)
from user_dir_tests.ops.saved_bytes import saved_bytes
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.pretraining

RATES = (1e-4, 0.1, 0.25, 0.5, 0.999)


def every_value():
    return torch.arange(-LEVELS // 2, LEVELS // 2, dtype=torch.int16)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_of_all_values_of_the_bits_the_rates_share_is_dropped(rate, dtype):
    ones = kept(every_value(), rate, dtype)
    assert ones.dtype == dtype
    assert set(ones.tolist()) == {0, 1}
    share = ones.double().mean().item()
    assert abs(share - (1 - rate)) <= 0.5 / LEVELS
    assert share * scale_of_kept(rate) == pytest.approx(1, abs=1e-15)


def test_something_is_kept_at_every_rate():
    assert dropped_levels(0.9999999) == LEVELS - 1
    assert kept(every_value(), 0.9999999, torch.float32).sum() == 1


def test_bits_are_uniform_and_neighbours_independent():
    torch.manual_seed(1)
    bits = random_bits(torch.Size([1 << 20])).numpy().view(np.uint16).astype(np.int64)
    for values, cells in ((bits >> 8, 256), (bits & 255, 256)):
        counts, expected = np.bincount(values, minlength=cells), len(values) / cells
        # Chi-squared: its mean is the number of cells less one, its variance twice that.
        assert abs(((counts - expected) ** 2 / expected).sum() - 255) < 5 * np.sqrt(2 * 255)
    for lag in (1, 2, 3, 4, 128):
        correlation = np.corrcoef(bits[lag:], bits[:-lag])[0, 1]
        assert abs(correlation) < 5 / np.sqrt(len(bits))


@pytest.mark.parametrize("shape", [(3,), (4,), (2, 3, 5), (1,), (0, 7)])
def test_bits_have_any_shape_and_follow_from_torchs_generator(shape):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second = random_bits(torch.Size(shape)), random_bits(torch.Size(shape))
    torch.set_rng_state(state)
    assert torch.equal(random_bits(torch.Size(shape)), first)
    assert first.shape == shape
    torch.set_rng_state(state)
    assert torch.equal(random_bits(torch.Size(shape)), first)
    assert torch.equal(random_bits(torch.Size(shape)), second)


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_kept_numbers_are_as_many_as_the_rate_says(rate):
    torch.manual_seed(7)
    count = 1 << 20
    dropped = count - kept(random_bits(torch.Size([count])), rate, torch.float32).sum().item()
    assert abs(dropped - rate * count) < 5 * np.sqrt(count * rate * (1 - rate))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.0, 0.25, 0.75])
def test_dropout_drops_the_same_on_the_way_back(rate, dtype):
    torch.manual_seed(3)
    states = torch.randn(5, 7, 11).to(dtype).requires_grad_()
    output = dropout(states, rate)
    output.backward(torch.ones_like(output))
    assert output.dtype == states.grad.dtype == dtype
    # The rates are whole 65,536ths, and so the scale is that of the rate itself.
    scale = (output != 0).double() / (1 - rate)
    kind = "rounding" if dtype == torch.bfloat16 else "operation"
    assert relative_error(states.grad, scale) < TOLERANCES[dtype][kind]
    assert relative_error(output, states.double() * scale) < TOLERANCES[dtype][kind]
    assert (rate == 0) == bool((output != 0).all())


def test_dropout_keeps_less_than_torch():
    states = torch.randn(4, 100, requires_grad=True)
    ours = saved_bytes(dropout, states, 0.1)
    assert 0 < ours <= saved_bytes(torch.nn.functional.dropout, states, 0.1) / 2
