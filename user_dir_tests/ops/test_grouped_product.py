"""Groups of channels through matrices of their own, against one block-diagonal matrix."""

import numpy as np
import pytest
import torch

from convbert_plugin.modules.grouped_linear import GroupedLinear, feed_forward_linear
from convbert_plugin.ops.grouped_product import grouped_linear, grouped_linear_reference
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.pretraining

GROUPS, INPUTS, OUTPUTS = 3, 5, 7


def block_diagonal(weight):
    groups, inputs, outputs = weight.shape
    matrix = np.zeros((groups * inputs, groups * outputs))
    for group in range(groups):
        for row in range(inputs):
            for column in range(outputs):
                matrix[group * inputs + row, group * outputs + column] = weight[group, row, column]
    return matrix


@pytest.mark.parametrize("function", [grouped_linear, grouped_linear_reference])
@pytest.mark.parametrize("leading", [(4,), (2, 11), (2, 3, 1)])
def test_equals_a_block_diagonal_matrix(function, leading):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(*leading, GROUPS * INPUTS))
    weight = rng.normal(size=(GROUPS, INPUTS, OUTPUTS))
    bias = rng.normal(size=GROUPS * OUTPUTS)
    grad = rng.normal(size=(*leading, GROUPS * OUTPUTS))
    matrix = block_diagonal(weight)
    rows, grad_rows = x.reshape(-1, GROUPS * INPUTS), grad.reshape(-1, GROUPS * OUTPUTS)
    grad_matrix = rows.T @ grad_rows
    grad_weight = [
        grad_matrix[g * INPUTS : (g + 1) * INPUTS, g * OUTPUTS : (g + 1) * OUTPUTS]
        for g in range(GROUPS)
    ]
    leaves = [torch.tensor(each, requires_grad=True) for each in (x, weight, bias)]
    output = function(*leaves)
    output.backward(torch.tensor(grad))
    results = (output, *(each.grad for each in leaves))
    expected = (x @ matrix + bias, grad @ matrix.T, np.stack(grad_weight), grad_rows.sum(0))
    for result, oracle in zip(results, expected, strict=True):
        assert relative_error(result, oracle) <= TOLERANCES[torch.float64]["operation"]


def test_time_first_input():
    rng = np.random.default_rng(2)
    x = torch.tensor(rng.normal(size=(4, 2, GROUPS * INPUTS))).transpose(0, 1)
    weight = rng.normal(size=(GROUPS, INPUTS, OUTPUTS))
    result = grouped_linear(x, torch.tensor(weight), torch.zeros(GROUPS * OUTPUTS))
    expected = x.numpy() @ block_diagonal(weight)
    assert relative_error(result, expected) <= TOLERANCES[torch.float64]["operation"]


def test_one_group_is_a_dense_layer():
    assert type(feed_forward_linear(4, 6, groups=1)) is torch.nn.Linear
    assert type(feed_forward_linear(4, 6, groups=2)) is GroupedLinear
    assert feed_forward_linear(4, 6, groups=2).weight.shape == (2, 2, 3)


def test_autocast_keeps_the_half_precision_of_the_product():
    x, weight, bias = torch.randn(3, 8), torch.randn(2, 4, 5), torch.randn(10)
    with torch.autocast("cpu", torch.bfloat16):
        assert grouped_linear(x, weight, bias).dtype == torch.bfloat16
