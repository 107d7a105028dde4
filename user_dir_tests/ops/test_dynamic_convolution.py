"""The convolution with a kernel at every position, against loops, forward and backward."""

import numpy as np
import pytest
import torch

from convbert_plugin.ops.dynamic_convolution import (
    dynamic_convolution,
    dynamic_convolution_reference,
)
from user_dir_tests.oracles.span_convolution import convolve, convolve_backward
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.pretraining

BATCH = 2
HEAD_SIZE = 5
LAYOUTS = ("contiguous", "time first", "slice of a larger tensor", "every second")


def lengths_for(kernel_size):
    return sorted({1, 2, max(1, kernel_size - 1), kernel_size, 17, 64, 65})


def leaf(values, layout, dtype=torch.float64):
    """The values as a leaf of that layout in memory."""
    values = torch.as_tensor(values).to(dtype)
    if layout == "time first":
        laid = values.transpose(0, 1).contiguous().transpose(0, 1)
    elif layout == "slice of a larger tensor":
        larger = torch.full([extent + 3 for extent in values.shape], torch.nan, dtype=dtype)
        laid = larger[tuple(slice(1, 1 + extent) for extent in values.shape)]
        laid.copy_(values)
    elif layout == "every second":
        laid = torch.full((*values.shape[:-1], 2 * values.shape[-1]), torch.nan, dtype=dtype)
        laid = laid[..., ::2]
        laid.copy_(values)
    else:
        laid = values.clone()
    return laid.requires_grad_()


def random_case(length, kernel_size, heads):
    rng = np.random.default_rng([length, kernel_size, heads])
    value, grad = rng.normal(size=(2, BATCH, length, heads * HEAD_SIZE))
    return value, rng.normal(size=(BATCH, length, heads, kernel_size)), grad


def test_the_layouts_are_what_they_say():
    value = random_case(7, 3, 2)[0]
    contiguous = [leaf(value, layout).is_contiguous() for layout in LAYOUTS]
    assert contiguous == [True, False, False, False]


@pytest.mark.parametrize("heads", range(1, 7))
@pytest.mark.parametrize("kernel_size", [1, 3, 5, 9])
def test_outputs_and_gradients_equal_the_loops(kernel_size, heads):
    for length in lengths_for(kernel_size):
        value, kernel, grad = random_case(length, kernel_size, heads)
        expected = [convolve(value, kernel), *convolve_backward(value, kernel, grad)]
        for layout in LAYOUTS:
            leaves = leaf(value, layout), leaf(kernel, layout)
            output = dynamic_convolution(*leaves)
            output.backward(leaf(grad, layout).detach())
            for result, oracle in zip((output, *(x.grad for x in leaves)), expected, strict=True):
                error = relative_error(result, oracle)
                assert error <= TOLERANCES[torch.float64]["operation"], (length, layout)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_lower_precision_stays_close_to_the_loops(dtype):
    value, kernel, grad = random_case(65, 9, 3)
    kernel = np.exp(kernel) / np.exp(kernel).sum(axis=-1, keepdims=True)
    expected = [convolve(value, kernel), *convolve_backward(value, kernel, grad)]
    leaves = leaf(value, "contiguous", dtype), leaf(kernel, "contiguous", dtype)
    output = dynamic_convolution(*leaves)
    assert output.dtype == dtype
    output.backward(leaf(grad, "contiguous", dtype).detach())
    for result, oracle in zip((output, *(x.grad for x in leaves)), expected, strict=True):
        assert relative_error(result, oracle) <= TOLERANCES[dtype]["operation"]


@pytest.mark.parametrize("length", [1, 2, 4, 7])
def test_gradcheck(length):
    value, kernel, _ = random_case(length, 5, 2)
    leaves = leaf(value, "contiguous"), leaf(kernel, "contiguous")
    assert torch.autograd.gradcheck(dynamic_convolution, leaves)


def test_the_reference_beside_the_op_equals_the_loops():
    value, kernel, grad = random_case(4, 5, 3)
    leaves = leaf(value, "contiguous"), leaf(kernel, "contiguous")
    output = dynamic_convolution_reference(*leaves)
    output.backward(torch.as_tensor(grad))
    expected = [convolve(value, kernel), *convolve_backward(value, kernel, grad)]
    for result, oracle in zip((output, *(x.grad for x in leaves)), expected, strict=True):
        assert relative_error(result, oracle) <= TOLERANCES[torch.float64]["operation"]


def test_the_inputs_are_left_as_they_are():
    value, kernel, grad = random_case(7, 3, 2)
    leaves = leaf(value, "contiguous"), leaf(kernel, "contiguous")
    dynamic_convolution(*leaves).backward(torch.as_tensor(grad))
    assert np.array_equal(leaves[0].detach(), value)
    assert np.array_equal(leaves[1].detach(), kernel)
