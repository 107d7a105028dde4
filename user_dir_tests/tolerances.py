"""How far a result may lie from its oracle: one table a dtype, each number with its reason.

All of them are relative to the largest number of the oracle's result, except for padding, whose
outputs leave a LayerNorm and so have a standard deviation of 1.
"""

import numpy as np
import torch

TOLERANCES = {
    torch.float64: {
        # A few hundred products a result, each rounded by 1e-16.
        "operation": 1e-13,
        # One layer: some ten operations in a row, two of them divisions by a standard deviation.
        "block": 1e-10,
        # Central differences of fourth order, with steps of 1e-3.
        "finite_difference": 1e-7,
        # Products of another shape may be summed in another order, through twelve layers.
        "padding": 1e-12,
    },
    torch.float32: {
        # A few hundred products a result, each rounded by 6e-8.
        "operation": 2e-6,
        # Twelve layers against the same twelve layers in another order of operations.
        "transformers": 1e-5,
        # Toy networks of two layers, forward and backward, against float64.
        "model": 1e-5,
        # As in float64, with 5e8 times its rounding.
        "padding": 2e-5,
    },
    torch.float16: {
        # As in bfloat16, with an eighth of its rounding.
        "rounding": 2e-3,
        "operation": 4e-3,
        "model": 6e-3,
    },
    torch.bfloat16: {
        # Eight bits of mantissa, 4e-3 a rounding, and one for every tap.
        "operation": 3e-2,
        # Sums in fp32, of which the result is rounded once or twice.
        "rounding": 8e-3,
        # Up to twelve layers of such products around normalizations in fp32.
        "model": 5e-2,
    },
}


def relative_error(result, expected) -> float:
    """The largest difference, relative to the largest number of ``expected``."""
    result, expected = (_as_float64(values) for values in (result, expected))
    assert result.shape == expected.shape, (result.shape, expected.shape)
    return float(np.abs(result - expected).max() / np.abs(expected).max())


def _as_float64(values):
    return values.detach().double().cpu().numpy() if torch.is_tensor(values) else np.asarray(values)
