"""The convolution with a kernel at every position, every backend against loops in float64."""

import itertools

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from convbert_plugin.ops.convolution_backends import BACKENDS, available
from convbert_plugin.ops.span_convolution import span_convolution
from user_dir_tests.ops.layouts import LAYOUTS, leaf, nan_in_new_memory
from user_dir_tests.oracles.span_convolution import convolve, convolve_backward
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.pretraining

BATCH = 2
HEAD_SIZE = 5
HERE = available(torch.empty(0))
FAST = [name for name in HERE if name != "reference"]
OP = torch.ops.convbert.span_convolution


def lengths_for(taps):
    return sorted({1, 2, max(1, taps - 1), taps, 17, 64, 65})


def random_case(length, taps, heads, head_size=HEAD_SIZE):
    rng = np.random.default_rng([length, taps, heads])
    value, grad = rng.normal(size=(2, BATCH, length, heads * head_size))
    return value, rng.normal(size=(BATCH, length, heads, taps)), grad


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def expected_of(value, logits, grad):
    """Output, and the gradients of value and logits."""
    kernel = softmax(logits)
    grad_value, grad_kernel = convolve_backward(value, kernel, grad)
    mean = (kernel * grad_kernel).sum(axis=-1, keepdims=True)
    return convolve(value, kernel), grad_value, kernel * (grad_kernel - mean)


def results_of(value, logits, grad, cu_seqlens=None, backend="auto"):
    output = span_convolution(value, logits, cu_seqlens, backend)
    output.backward(grad)
    return output, value.grad, logits.grad


def assert_equal(results, expected, tolerance, where=None):
    for result, oracle in zip(results, expected, strict=True):
        # A kernel of one tap is 1, whatever its logit: that gradient is zero.
        error = relative_error(result, oracle) if oracle.any() else float(result.abs().max())
        assert error <= tolerance, where


def test_the_layouts_are_what_they_say():
    value = random_case(7, 3, 2)[0]
    contiguous = [leaf(value, layout).is_contiguous() for layout in LAYOUTS]
    assert contiguous == [True, False, False, False, False]


@pytest.mark.parametrize("heads", [1, 2, 5])
@pytest.mark.parametrize("taps", [1, 3, 9])
def test_outputs_and_gradients_equal_the_loops(taps, heads):
    for length in lengths_for(taps):
        value, logits, grad = random_case(length, taps, heads)
        expected = expected_of(value, logits, grad)
        for backend, layout in itertools.product(FAST, LAYOUTS):
            leaves = (leaf(each, layout) for each in (value, logits))
            results = results_of(*leaves, leaf(grad, layout).detach(), backend=backend)
            assert results[0].is_contiguous()
            where = (backend, length, layout)
            assert_equal(results, expected, TOLERANCES[torch.float64]["operation"], where)


@pytest.mark.parametrize("head_size", [1, 8, 16, 31, 64, 70])
@pytest.mark.parametrize("backend", FAST)
def test_heads_of_any_size(backend, head_size):
    case = random_case(33, 9, 2, head_size)
    leaves = [leaf(each, "contiguous", torch.float32) for each in case]
    results = results_of(*leaves[:2], leaves[2].detach(), backend=backend)
    assert_equal(results, expected_of(*case), TOLERANCES[torch.float32]["operation"])


@pytest.mark.parametrize(("taps", "lengths"), [(1, [7, 8]), (17, [7, 8, 9, 16, 23]), (1023, [5])])
@pytest.mark.parametrize("backend", FAST)
def test_lengths_about_the_blocks_of_a_product(backend, taps, lengths):
    for length in lengths:
        case = random_case(length, taps, 2)
        leaves = [leaf(each, "contiguous") for each in case]
        results = results_of(*leaves[:2], leaves[2].detach(), backend=backend)
        assert_equal(results, expected_of(*case), TOLERANCES[torch.float64]["operation"], length)


@pytest.mark.parametrize("backend", FAST)
def test_autocast_leaves_the_sums_in_the_precision_of_the_inputs(backend):
    case = random_case(17, 9, 2)
    leaves = [leaf(each, "contiguous", torch.float32) for each in case]
    with torch.autocast("cpu", torch.bfloat16):
        results = results_of(*leaves[:2], leaves[2].detach(), backend=backend)
    assert_equal(results, expected_of(*case), TOLERANCES[torch.float32]["operation"])


@pytest.mark.parametrize("backend", HERE)
def test_what_is_not_finite_stays_in_its_row(backend):
    case = random_case(17, 9, 2)
    for poisoned in range(BATCH):
        clean, spoiled = ([leaf(each, "contiguous") for each in case] for _ in range(2))
        for each in spoiled:
            each.data[poisoned] = torch.nan
        expected, results = (
            results_of(*each[:2], each[2].detach(), backend=backend) for each in (clean, spoiled)
        )
        for result, unspoiled in zip(results, expected, strict=True):
            assert result[poisoned].isnan().all()
            assert torch.equal(result[1 - poisoned], unspoiled[1 - poisoned])


def test_the_reference_equals_the_loops():
    case = random_case(6, 5, 3)
    leaves = [leaf(each, "contiguous") for each in case]
    results = results_of(*leaves[:2], leaves[2].detach(), backend="reference")
    assert_equal(results, expected_of(*case), TOLERANCES[torch.float64]["operation"])


@pytest.mark.parametrize("logits_dtype", [torch.float32, None], ids=["fp32 logits", "same"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("backend", HERE)
def test_lower_precision_stays_close_to_the_loops(backend, dtype, logits_dtype):
    case = random_case(65, 9, 3)
    leaves = [leaf(each, "contiguous", dtype) for each in case]
    if logits_dtype is not None:
        leaves[1] = leaf(case[1], "contiguous", logits_dtype)
    results = results_of(*leaves[:2], leaves[2].detach(), backend=backend)
    assert [each.dtype for each in results] == [dtype, dtype, leaves[1].dtype]
    # What the rounding of the inputs makes of the result is no error of the op's.
    rounded = expected_of(*(each.detach().double().numpy() for each in leaves))
    tolerance = TOLERANCES[dtype]["operation" if dtype == torch.float32 else "rounding"]
    assert_equal(results, rounded, tolerance)


@pytest.mark.parametrize("backend", HERE)
def test_large_logits_neither_overflow_nor_vanish(backend):
    value, logits, grad = random_case(9, 5, 2)
    logits = 1e3 * logits
    leaves = [leaf(each, "contiguous", torch.float32) for each in (value, logits, grad)]
    results = results_of(*leaves[:2], leaves[2].detach(), backend=backend)
    oracle = expected_of(*(each.detach().double().numpy() for each in leaves))
    assert_equal(results[:2], oracle[:2], TOLERANCES[torch.float32]["operation"])
    assert results[2].isfinite().all()


@pytest.mark.parametrize("length", [1, 4])
@pytest.mark.parametrize("backend", HERE)
def test_gradcheck(backend, length):
    value, logits, _ = random_case(length, 5, 2)
    leaves = leaf(value, "contiguous"), leaf(logits, "contiguous")
    assert torch.autograd.gradcheck(span_convolution, (*leaves, None, backend))


# Texts that end with a row, within one, and are shorter than the kernel; rows of 12.
PACKED = {
    "one row": (1, 24, [0, 7, 8, 20, 24]),
    "rows": (2, 12, [0, 5, 12, 13, 24]),
    "row ends unnamed": (2, 12, [0, 5, 17, 24]),
    "whole rows": (2, 12, [0, 12, 24]),
    "blocks of a product": (2, 25, [0, 1, 8, 16, 25, 41, 50]),
}


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize(("batch", "length", "offsets"), PACKED.values(), ids=PACKED)
@pytest.mark.parametrize("backend", HERE)
def test_packed_texts_never_see_each_other(backend, batch, length, offsets, dtype):
    """Each text's results are those that it has alone, whatever stands beside it."""
    rng = np.random.default_rng(5)
    value, grad = rng.normal(size=(2, batch * length, 6))
    logits = rng.normal(size=(batch * length, 2, 9))
    row_ends = range(0, batch * length + 1, length)
    ends = sorted({*offsets, *row_ends})
    for poisoned, (begin, end) in enumerate(itertools.pairwise(ends)):
        inputs = [each.copy() for each in (value, logits, grad)]
        for each in inputs:
            each[begin:end] = np.nan
        leaves = [leaf(each, "contiguous").unflatten(0, (batch, length)) for each in inputs]
        for each in leaves[:2]:
            each.retain_grad()
        packed = torch.tensor(offsets, dtype=dtype)
        results = results_of(*leaves[:2], leaves[2].detach(), packed, backend)
        for number, (start, stop) in enumerate(itertools.pairwise(ends)):
            alone = [each[None, start:stop] for each in (value, logits, grad)]
            found = [each.flatten(0, 1)[None, start:stop] for each in results]
            if number == poisoned:
                assert all(each.isnan().any() for each in found)
            else:
                tolerance = TOLERANCES[torch.float64]["operation"]
                assert_equal(found, expected_of(*alone), tolerance, (poisoned, number))


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("packed", [None, [0, 3, 14]], ids=["rows", "packed"])
def test_all_memory_is_written(backend, packed):
    """New memory is full of NaN here, so that what is not written shows."""
    case = random_case(7, 9, 3)
    cu_seqlens = None if packed is None else torch.tensor(packed)
    with nan_in_new_memory():
        leaves = [leaf(each, "contiguous", torch.float32) for each in case]
        results = results_of(*leaves[:2], leaves[2].detach(), cu_seqlens, backend)
    assert all(each.isfinite().all() for each in results)


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("packed", [None, [0, 3, 14]], ids=["rows", "packed"])
def test_opcheck(backend, packed):
    value, logits, grad = random_case(7, 3, 2)
    leaves = leaf(value, "contiguous"), leaf(logits, "contiguous")
    cu_seqlens = None if packed is None else torch.tensor(packed)
    torch.library.opcheck(OP.default, (*leaves, cu_seqlens, backend))
    backward = torch.ops.convbert.span_convolution_backward.default
    inputs = (leaf(each, "time first").detach() for each in (grad, value, logits))
    torch.library.opcheck(backward, (*inputs, cu_seqlens, backend))


@pytest.mark.parametrize("backend", FAST)
def test_results_do_not_depend_on_the_threads(backend):
    case = random_case(129, 9, 3)
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
    leaves = [leaf(each, "contiguous") for each in random_case(7, 9, 3)]
    with FlopCounterMode(display=False) as counter:
        results_of(*leaves[:2], leaves[2].detach())
    products = BATCH * 7 * 3 * HEAD_SIZE * 9
    counts = counter.get_flop_counts()["Global"]
    assert counts[OP] == 2 * products
    assert counts[torch.ops.convbert.span_convolution_backward] == 4 * products


def test_nothing_but_the_inputs_is_kept_for_the_backward():
    value, logits, _ = (leaf(each, "contiguous") for each in random_case(7, 9, 3))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each) or each, id):
        span_convolution(value, logits)
    assert sorted(each.data_ptr() for each in kept) == sorted(
        each.data_ptr() for each in (value, logits)
    )


def test_the_inputs_are_left_as_they_are():
    case = random_case(7, 3, 2)
    leaves = [leaf(each, "contiguous") for each in case]
    results_of(*leaves[:2], leaves[2].detach())
    assert all(np.array_equal(mine.detach(), each) for mine, each in zip(leaves, case, strict=True))


def test_offsets_of_another_kind_are_refused():
    value, logits, _ = (torch.tensor(each) for each in random_case(7, 3, 2))
    for wrong in (torch.zeros(2), torch.zeros(1, 2, dtype=torch.int64)):
        with pytest.raises(ValueError, match="cu_seqlens"):
            span_convolution(value, logits, wrong)


def test_every_backend_is_tried_where_it_can_run():
    """Triton's own tests stand beside it; what is fast on a CPU needs a compiler."""
    assert {"eager", "reference"} <= set(HERE) <= set(BACKENDS)
