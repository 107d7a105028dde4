"""The convolution of each channel, every backend against loops in float64."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from convbert_plugin.ops.convolution_backends import available
from convbert_plugin.ops.depthwise_convolution import depthwise_convolution
from user_dir_tests.ops.layouts import LAYOUTS, leaf, nan_in_new_memory
from user_dir_tests.oracles.span_convolution import convolve, convolve_backward
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.pretraining

BATCH = 2
HERE = available(torch.empty(0))
FAST = [name for name in HERE if name != "reference"]
OP = torch.ops.convbert.depthwise_convolution


def random_case(length, taps, channels):
    """Hidden states [B, T, C], weight [C, 1, K], gradient [B, T, C]."""
    rng = np.random.default_rng([length, taps, channels])
    hidden, grad = rng.normal(size=(2, BATCH, length, channels))
    return hidden, rng.normal(size=(channels, 1, taps)), grad


def expected_of(hidden, weight, grad):
    """Each channel is a head of its own, whose kernel is the same everywhere."""
    kernel = np.tile(weight[:, 0], (*hidden.shape[:2], 1, 1))
    grad_hidden, grad_kernel = convolve_backward(hidden, kernel, grad)
    return convolve(hidden, kernel), grad_hidden, grad_kernel.sum(axis=(0, 1))[:, None]


def results_of(hidden, weight, grad, cu_seqlens=None, backend="auto"):
    output = depthwise_convolution(hidden, weight, cu_seqlens, backend)
    output.backward(grad)
    return output, hidden.grad, weight.grad


def assert_equal(results, expected, tolerance, where=None):
    for result, oracle in zip(results, expected, strict=True):
        assert relative_error(result, oracle) <= tolerance, where


@pytest.mark.parametrize("channels", [1, 7, 33])
@pytest.mark.parametrize("taps", [1, 3, 9])
def test_outputs_and_gradients_equal_the_loops(taps, channels):
    for length in sorted({1, 2, max(1, taps - 1), taps, 65}):
        case = random_case(length, taps, channels)
        expected = expected_of(*case)
        for backend, layout in itertools.product(FAST, LAYOUTS):
            hidden, grad = (leaf(case[i], layout) for i in (0, 2))
            weight = leaf(case[1], "contiguous")
            results = results_of(hidden, weight, grad.detach(), backend=backend)
            assert results[0].is_contiguous()
            where = (backend, length, layout)
            assert_equal(results, expected, TOLERANCES[torch.float64]["operation"], where)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_many_positions_and_channels(dtype):
    """More of both than are computed at once, against the loops' stand-in: torch's in float64."""
    hidden, weight, grad = random_case(300, 9, 530)
    for backend in FAST:
        leaves = [leaf(each, "contiguous", dtype) for each in (hidden, weight, grad)]
        results = results_of(*leaves[:2], leaves[2].detach(), backend=backend)
        exact = [each.detach().double().requires_grad_() for each in leaves[:2]]
        output = torch.nn.functional.conv1d(
            exact[0].transpose(1, 2), exact[1], padding=4, groups=530
        ).transpose(1, 2)
        output.backward(leaves[2].detach().double())
        expected = [output, exact[0].grad, exact[1].grad]
        tolerance = TOLERANCES[dtype]["operation" if dtype == torch.float32 else "rounding"]
        for result, oracle in zip(results, expected, strict=True):
            assert relative_error(result, oracle.detach()) <= tolerance, backend


def test_the_reference_equals_the_loops():
    case = random_case(6, 5, 3)
    leaves = [leaf(each, "contiguous") for each in case]
    results = results_of(*leaves[:2], leaves[2].detach(), backend="reference")
    assert_equal(results, expected_of(*case), TOLERANCES[torch.float64]["operation"])


@pytest.mark.parametrize("backend", HERE)
def test_it_is_torch_s_own_convolution(backend):
    hidden, weight, _ = (leaf(each, "contiguous") for each in random_case(33, 9, 14))
    conv = nn.Conv1d(14, 14, 9, padding=4, groups=14, bias=False).double()
    with torch.no_grad():
        conv.weight.copy_(weight)
    expected = conv(hidden.transpose(1, 2)).transpose(1, 2)
    result = depthwise_convolution(hidden, conv.weight, backend=backend)
    assert relative_error(result, expected.detach()) <= TOLERANCES[torch.float64]["operation"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_lower_precision_stays_close_to_the_loops(dtype):
    case = random_case(65, 9, 37)
    rounded = expected_of(
        *(leaf(each, "contiguous", dtype).detach().double().numpy() for each in case)
    )
    tolerance = TOLERANCES[dtype]["operation" if dtype == torch.float32 else "rounding"]
    for backend in HERE:
        leaves = [leaf(each, "contiguous", dtype) for each in case]
        results = results_of(*leaves[:2], leaves[2].detach(), backend=backend)
        assert [each.dtype for each in results] == [dtype] * 3, backend
        assert_equal(results, rounded, tolerance, backend)


@pytest.mark.parametrize("length", [1, 4])
@pytest.mark.parametrize("backend", HERE)
def test_gradcheck(backend, length):
    hidden, weight, _ = random_case(length, 5, 3)
    leaves = leaf(hidden, "contiguous"), leaf(weight, "contiguous")
    assert torch.autograd.gradcheck(depthwise_convolution, (*leaves, None, backend))


@pytest.mark.parametrize(
    ("batch", "length", "offsets"),
    [(1, 24, [0, 7, 8, 20, 24]), (2, 12, [0, 5, 12, 13, 24]), (2, 12, [0, 5, 17, 24])],
)
@pytest.mark.parametrize("backend", HERE)
def test_packed_texts_never_see_each_other(backend, batch, length, offsets):
    """Each text's results are those that it has alone; the weight's gradient is their sum."""
    rng = np.random.default_rng(5)
    hidden, grad = rng.normal(size=(2, batch * length, 7))
    weight = rng.normal(size=(7, 1, 9))
    leaves = [leaf(each, "contiguous").unflatten(0, (batch, length)) for each in (hidden, grad)]
    leaves[0].retain_grad()
    kernel = leaf(weight, "contiguous")
    results = results_of(leaves[0], kernel, leaves[1].detach(), torch.tensor(offsets), backend)
    ends = sorted({*offsets, *range(0, batch * length + 1, length)})
    of_weight = np.zeros_like(weight)
    for start, stop in itertools.pairwise(ends):
        alone = expected_of(hidden[None, start:stop], weight, grad[None, start:stop])
        found = [each.flatten(0, 1)[None, start:stop] for each in results[:2]]
        assert_equal(found, alone[:2], TOLERANCES[torch.float64]["operation"], (start, stop))
        of_weight += alone[2]
    assert relative_error(results[2], of_weight) <= TOLERANCES[torch.float64]["operation"]


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("packed", [None, [0, 3, 14]], ids=["rows", "packed"])
def test_all_memory_is_written(backend, packed):
    """New memory is full of NaN here, so that what is not written shows."""
    case = random_case(7, 9, 19)
    cu_seqlens = None if packed is None else torch.tensor(packed)
    with nan_in_new_memory():
        leaves = [leaf(each, "contiguous", torch.float32) for each in case]
        results = results_of(*leaves[:2], leaves[2].detach(), cu_seqlens, backend)
    assert all(each.isfinite().all() for each in results)


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("packed", [None, [0, 3, 14]], ids=["rows", "packed"])
def test_opcheck(backend, packed):
    hidden, weight, grad = (leaf(each, "contiguous") for each in random_case(7, 3, 5))
    cu_seqlens = None if packed is None else torch.tensor(packed)
    torch.library.opcheck(OP.default, (hidden, weight, cu_seqlens, backend))
    backward = torch.ops.convbert.depthwise_convolution_backward.default
    inputs = (each.detach() for each in (grad, hidden, weight))
    torch.library.opcheck(backward, (*inputs, cu_seqlens, backend))


@pytest.mark.parametrize("backend", FAST)
def test_results_do_not_depend_on_the_threads(backend):
    """The weight's gradient is a sum over all positions: in the same order every time."""
    case = random_case(700, 9, 24)
    found = []
    threads = torch.get_num_threads()
    try:
        for number in (1, 2, 3, 3):
            torch.set_num_threads(number)
            leaves = [leaf(each, "contiguous", torch.float32) for each in case]
            found.append(results_of(*leaves[:2], leaves[2].detach(), backend=backend))
    finally:
        torch.set_num_threads(threads)
    for others in found[1:]:
        assert all(torch.equal(mine, first) for mine, first in zip(others, found[0], strict=True))


def test_the_counter_sees_its_flops():
    leaves = [leaf(each, "contiguous") for each in random_case(7, 9, 5)]
    with FlopCounterMode(display=False) as counter:
        results_of(*leaves[:2], leaves[2].detach())
    counts = counter.get_flop_counts()["Global"]
    assert counts[OP] == 2 * BATCH * 7 * 5 * 9
    assert counts[torch.ops.convbert.depthwise_convolution_backward] == 4 * BATCH * 7 * 5 * 9
