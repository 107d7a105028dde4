"""The Triton kernels against loops in float64: on a GPU, else by Triton's interpreter.

The interpreter has to be chosen before Triton is imported, and would be slow for all else: these
run in a process of their own, which test_triton_kernels.py starts.
"""

import itertools

import numpy as np
import pytest
import torch

from convbert_plugin.ops import triton_kernels
from convbert_plugin.ops.depthwise_convolution import depthwise_convolution
from convbert_plugin.ops.span_convolution import span_convolution
from user_dir_tests.ops.layouts import LAYOUTS, leaf, nan_in_new_memory
from user_dir_tests.oracles.span_convolution import convolve, convolve_backward
from user_dir_tests.tolerances import TOLERANCES, relative_error

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# The interpreter multiplies the bits of bfloat16 matrices.
HALVES = (torch.float16, torch.bfloat16) if DEVICE == "cuda" else (torch.float16,)


def random_case(batch, length, heads, head_size, taps):
    """Value, logits and gradient; the weight of a depthwise convolution for the same value."""
    rng = np.random.default_rng([batch, length, heads, head_size, taps])
    value, grad = rng.normal(size=(2, batch, length, heads * head_size))
    logits = rng.normal(size=(batch, length, heads, taps))
    return value, logits, rng.normal(size=(heads * head_size, 1, taps)), grad


def span_of(value, logits, weight, grad):
    """Output, and the gradients of value and logits."""
    kernel = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    grad_value, grad_kernel = convolve_backward(value, kernel, grad)
    mean = (kernel * grad_kernel).sum(axis=-1, keepdims=True)
    return convolve(value, kernel), grad_value, kernel * (grad_kernel - mean)


def depthwise_of(value, logits, weight, grad):
    """Output, and the gradients of hidden states and weight: every channel is a head."""
    kernel = np.broadcast_to(weight[:, 0], (*value.shape[:2], *weight[:, 0].shape))
    grad_value, grad_kernel = convolve_backward(value, kernel, grad)
    return convolve(value, kernel), grad_value, grad_kernel.sum(axis=(0, 1))[:, None]


def laid(case, layout="contiguous", dtype=torch.float32):
    # The layouts are of batches; a weight is laid as a batch too.
    return [leaf(each, layout, dtype).detach().to(DEVICE) for each in case]


def span(value, logits, weight, grad, cu_seqlens=None):
    output = triton_kernels.span_convolution_forward(value, logits, cu_seqlens)
    gradients = triton_kernels.span_convolution_backward(grad, value, logits, cu_seqlens)
    return output, *gradients


def depthwise(value, logits, weight, grad, cu_seqlens=None):
    output = triton_kernels.depthwise_forward(value, weight, cu_seqlens)
    return output, *triton_kernels.depthwise_backward(grad, value, weight, cu_seqlens)


CONVOLUTIONS = {"span": (span, span_of), "depthwise": (depthwise, depthwise_of)}
both_convolutions = pytest.mark.parametrize(
    ("convolution", "oracle"), CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys()
)


def assert_equal(results, expected, tolerance, where=None):
    for result, wanted in zip(results, expected, strict=True):
        # A kernel of one tap is 1, whatever its logit: that gradient is zero.
        error = relative_error(result.cpu(), wanted) if wanted.any() else float(result.abs().max())
        assert error <= tolerance, where


@both_convolutions
@pytest.mark.parametrize(
    ("heads", "head_size", "taps"),
    [(3, 5, 1), (1, 1, 3), (2, 24, 9), (1, 67, 5), (2, 3, 17), (1, 130, 3), (1, 259, 1)],
    ids=str,
)
def test_outputs_and_gradients_equal_the_loops(convolution, oracle, heads, head_size, taps):
    for length in sorted({1, max(1, taps - 1), 25 if head_size < 200 else 3}):
        case = random_case(2, length, heads, head_size, taps)
        results = convolution(*laid(case))
        assert all(each.is_contiguous() for each in results)
        assert_equal(results, oracle(*case), TOLERANCES[torch.float32]["operation"], length)


@both_convolutions
@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_any_layout(convolution, oracle, layout):
    case = random_case(3, 26, 2, 5, 5)
    results = convolution(*laid(case, layout))
    assert_equal(results, oracle(*case), TOLERANCES[torch.float32]["operation"])


@both_convolutions
@pytest.mark.parametrize("of_parameters", [torch.float32, None], ids=["fp32 beside it", "same"])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_precision_is_rounded_once(convolution, oracle, dtype, of_parameters):
    value, logits, weight, grad = laid(random_case(2, 30, 2, 16, 9), dtype=dtype)
    logits, weight = (each.to(of_parameters or dtype) for each in (logits, weight))
    case = value, logits, weight, grad
    results = convolution(*case)
    parameter = logits if convolution is span else weight
    assert [each.dtype for each in results] == [dtype, dtype, parameter.dtype]
    rounded = oracle(*(each.double().cpu().numpy() for each in case))
    assert_equal(results, rounded, TOLERANCES[dtype]["rounding"])


def test_large_logits_neither_overflow_nor_vanish():
    value, logits, weight, grad = random_case(1, 9, 2, 4, 5)
    results = span(*laid((value, 1e3 * logits, weight, grad)))
    assert all(each.isfinite().all() for each in results)


# Texts that end with a row, within one, are empty, and shorter than the kernel.
PACKED = {
    "one row": (1, 24, [0, 7, 8, 8, 20, 24]),
    "rows": (2, 12, [0, 5, 12, 13, 24]),
    "row ends unnamed": (2, 12, [0, 5, 17, 24]),
}


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize(("batch", "length", "offsets"), PACKED.values(), ids=PACKED)
def test_packed_texts_never_see_each_other(batch, length, offsets):
    """Each text's results are those that it has alone, though NaN stands on both of its sides."""
    value, logits, weight, grad = random_case(1, batch * length, 2, 3, 9)
    dtype = torch.int64 if len(offsets) % 2 else torch.int32
    cu_seqlens = torch.tensor(offsets, dtype=dtype, device=DEVICE)
    texts = list(itertools.pairwise(sorted({*offsets, *range(0, batch * length + 1, length)})))
    for poisoned in (texts[::2], texts[1::2]):
        inputs = [each.copy() for each in (value, logits, grad)]
        for each, text in itertools.product(inputs, poisoned):
            each[:, slice(*text)] = np.nan
        inputs = [each.reshape(batch, length, *each.shape[2:]) for each in inputs]
        tensors = laid((inputs[0], inputs[1], weight, inputs[2]))
        for convolution, oracle in CONVOLUTIONS.values():
            # Only the weight is that of all texts.
            compared = 3 if convolution is span else 2
            results = convolution(*tensors, cu_seqlens)[:compared]
            for text in texts:
                found = [each.flatten(0, 1)[None, slice(*text)] for each in results]
                if text in poisoned:
                    assert all(each.isnan().any() for each in found)
                    continue
                alone = [each[:, slice(*text)] for each in (value, logits, grad)]
                expected = oracle(alone[0], alone[1], weight, alone[2])[:compared]
                tolerance = TOLERANCES[torch.float32]["operation"]
                assert_equal(found, expected, tolerance, text)


def test_the_weight_learns_from_each_text_by_itself():
    value, logits, weight, grad = random_case(2, 12, 1, 5, 9)
    offsets = [0, 5, 17, 24]
    tensors = laid((value, logits, weight, grad))
    found = depthwise(*tensors, torch.tensor(offsets, device=DEVICE))[2]
    flat = [each.reshape(1, 24, -1) for each in (value, logits, grad)]
    expected = 0
    for text in itertools.pairwise([0, 5, 12, 17, 24]):
        alone = [each[:, slice(*text)] for each in flat]
        expected = expected + depthwise_of(alone[0], alone[1], weight, alone[2])[2]
    assert_equal([found], [expected], TOLERANCES[torch.float32]["operation"])


@both_convolutions
@pytest.mark.parametrize("packed", [None, [0, 3, 14]], ids=["rows", "packed"])
def test_all_memory_is_written(convolution, oracle, packed):
    """New memory is full of NaN here, so that what is not written shows."""
    tensors = laid(random_case(2, 7, 3, 5, 9))
    cu_seqlens = None if packed is None else torch.tensor(packed, device=DEVICE)
    with nan_in_new_memory():
        results = convolution(*tensors, cu_seqlens)
    assert all(each.isfinite().all() for each in results)


@both_convolutions
def test_results_repeat_to_the_bit(convolution, oracle):
    # The interpreter runs one program after the other.
    tensors = laid(random_case(*((1, 20) if DEVICE == "cpu" else (300, 70)), 1, 2, 3))
    first, second = (convolution(*tensors) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_many_partial_sums_are_added_up(monkeypatch):
    monkeypatch.setattr(triton_kernels, "SUM_ROWS", 16)
    case = random_case(5, 70, 1, 2, 3)
    cut = triton_kernels.Strips(run=1, warps=1, width=4, channels=8)
    value, _, weight, grad = laid(case)
    found = triton_kernels.depthwise_backward(grad, value, weight, None, cut)
    assert_equal(found, depthwise_of(*case)[1:], TOLERANCES[torch.float32]["operation"])


@both_convolutions
def test_a_batch_of_nothing(convolution, oracle):
    value, logits, weight, grad = laid(random_case(2, 5, 2, 3, 3))
    results = convolution(value[:0], logits[:0], weight, grad[:0])
    assert results[0].shape == results[1].shape == (0, 5, 6)
    assert not results[2].any()


def test_the_registered_ops_take_them():
    value, logits, weight, grad = laid(random_case(1, 6, 2, 3, 3))
    for op, states in ((span_convolution, logits), (depthwise_convolution, weight)):
        found = []
        for backend in ("triton", "reference"):
            leaves = value.clone().requires_grad_(), states.clone().requires_grad_()
            output = op(*leaves, None, backend)
            output.backward(grad)
            found.append([output.detach(), *(each.grad for each in leaves)])
        expected = [each.double().cpu().numpy() for each in found[1]]
        assert_equal(found[0], expected, TOLERANCES[torch.float32]["operation"])


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
@both_convolutions
def test_a_cuda_graph_holds_them_and_nothing_waits_for_the_device(convolution, oracle):
    case = random_case(2, 25, 2, 5, 9)
    tensors = laid(case)
    cu_seqlens = torch.tensor([0, 50], device=DEVICE)
    torch.cuda.set_sync_debug_mode("error")
    try:
        convolution(*tensors, cu_seqlens)
        convolution(*tensors)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = convolution(*tensors)
    for each in results:
        each.fill_(torch.nan)
    graph.replay()
    assert_equal(results, oracle(*case), TOLERANCES[torch.float32]["operation"])
