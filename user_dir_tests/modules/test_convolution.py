"""The convolution branches against loops, each backend against the same loops."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from convbert_plugin.errors import UserError
from convbert_plugin.modules import convolution
from convbert_plugin.modules.convolution import (
    CONV_BACKENDS,
    CONV_BRANCHES,
    SpanDynamicBranch,
    SpanDynamicConv,
    SpanKey,
)
from user_dir_tests.oracles.span_convolution import (
    convolve,
    kernels,
    separable_convolution,
    separable_convolution_backward,
    span_convolution,
    span_convolution_backward,
)
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.pretraining

BATCH = 2
HEAD_SIZE = 3
BACKENDS = ("auto", "eager", "fairseq")
ROUNDING = TOLERANCES[torch.float64]["operation"]


def lengths_for(kernel_size):
    return sorted({1, 2, max(1, kernel_size - 1), kernel_size, 64, 65})


def conv_of(weight, bias, heads, backend, dtype=torch.float64):
    conv = SpanDynamicConv(weight.shape[1], len(bias) // heads, heads, backend).to(dtype)
    with torch.no_grad():
        conv.weight_linear.weight.copy_(torch.tensor(weight))
        conv.weight_linear.bias.copy_(torch.tensor(bias))
    return conv


def random_case(length, kernel_size, heads, batch=BATCH):
    rng = np.random.default_rng([length, kernel_size, heads])
    channels = heads * HEAD_SIZE
    value, query, grad = rng.normal(size=(3, batch, length, channels))
    weight = 0.5 * rng.normal(size=(heads * kernel_size, channels))
    return value, query, weight, rng.normal(size=heads * kernel_size), grad


def time_first(values, layout, dtype=torch.float64):
    """[B, T, C] as a leaf [T, B, C], contiguous or as a view of other memory."""
    values = torch.tensor(values, dtype=dtype)
    if layout == "contiguous":
        return values.transpose(0, 1).contiguous().requires_grad_()
    if layout == "batch first":
        return values.transpose(0, 1).requires_grad_()
    larger = torch.full((values.size(1) + 2, 2 * BATCH, values.size(2) + 1), torch.nan, dtype=dtype)
    part = larger[1:-1, ::2, 1:]
    part.copy_(values.transpose(0, 1))
    return part.requires_grad_()


@pytest.mark.parametrize("heads", range(1, 7))
@pytest.mark.parametrize("kernel_size", [1, 3, 9])
def test_every_backend_equals_the_loops(kernel_size, heads):
    for length in lengths_for(kernel_size):
        value, query, weight, bias, grad = random_case(length, kernel_size, heads)
        output = span_convolution(value, query, weight, bias, heads)
        grads = span_convolution_backward(value, query, weight, bias, heads, grad)
        for backend in BACKENDS:
            for layout in ("contiguous", "batch first", "slice"):
                conv = conv_of(weight, bias, heads, backend)
                x, q = time_first(value, layout), time_first(query, layout)
                result = conv(x, q)
                result.backward(time_first(grad, layout).detach())
                found = [each.transpose(0, 1) for each in (result, x.grad, q.grad)]
                found += [conv.weight_linear.weight.grad, conv.weight_linear.bias.grad]
                for mine, oracle in zip(found, (output, *grads), strict=True):
                    # A kernel of one tap is 1, whatever the query: those gradients are zero.
                    scale = np.abs(oracle).max() or 1.0
                    error = np.abs(mine.detach().numpy() - oracle).max()
                    assert error <= ROUNDING * scale, (backend, layout, length)


def test_the_backends_are_those_that_are_tested():
    """Those of this project equal each other in the tests of their ops; here are its choices."""
    assert set(BACKENDS) <= set(CONV_BACKENDS)
    assert {"eager", "reference", "triton", "cpu", "torch"} <= set(CONV_BACKENDS)


@pytest.mark.parametrize("backend", BACKENDS)
def test_beyond_512_tokens(backend):
    """The parent takes another way there."""
    value, query, weight, bias, _ = random_case(517, 5, 2, batch=1)
    result = conv_of(weight, bias, 2, backend)(
        *(time_first(each, "contiguous") for each in (value, query))
    )
    expected = span_convolution(value, query, weight, bias, 2)
    assert relative_error(result.transpose(0, 1), expected) <= ROUNDING


@pytest.mark.parametrize("backend", BACKENDS)
def test_float32(backend):
    value, query, weight, bias, _ = random_case(65, 9, 4)
    conv = conv_of(weight, bias, 4, backend, torch.float32)
    result = conv(*(time_first(each, "contiguous", torch.float32) for each in (value, query)))
    expected = span_convolution(value, query, weight, bias, 4)
    assert (
        relative_error(result.transpose(0, 1), expected) <= TOLERANCES[torch.float32]["operation"]
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("length", [1, 2, 6])
def test_gradcheck(backend, length):
    value, query, weight, bias, _ = random_case(length, 3, 2)
    conv = conv_of(weight, bias, 2, backend)
    leaves = time_first(value, "contiguous"), time_first(query, "contiguous")
    parameters = tuple(conv.parameters())

    def convolution(x, q, *_):
        return conv(x, q)

    assert torch.autograd.gradcheck(convolution, (*leaves, *parameters))


def test_kernels_equal_the_loops_and_sum_to_one():
    _, query, weight, bias, _ = random_case(7, 5, 3)
    result = conv_of(weight, bias, 3, "auto").kernel(torch.tensor(query))
    assert relative_error(result, kernels(query, weight, bias, 3)) <= ROUNDING
    assert relative_error(result.sum(-1), np.ones((BATCH, 7, 3))) <= ROUNDING


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_kernels_are_normalized_in_float32(dtype):
    _, query, weight, bias, _ = random_case(7, 5, 3)
    conv = conv_of(weight, bias, 3, "auto", dtype)
    assert conv.kernel(torch.tensor(query, dtype=dtype)).dtype == torch.float32


def test_an_unknown_backend_is_refused():
    with pytest.raises(UserError, match=r"--conv-backend cuda: choose one of auto, .*, fairseq"):
        SpanDynamicConv(6, 3, 2, "cuda")


@pytest.mark.parametrize("kernel_size", [1, 3, 5, 9])
@pytest.mark.parametrize("length", [1, 2, 4, 8, 9, 23])
def test_the_span_key_equals_the_loops(length, kernel_size):
    rng = np.random.default_rng([length, kernel_size])
    hidden, grad = rng.normal(size=(BATCH, length, 7)), rng.normal(size=(BATCH, length, 5))
    depthwise, pointwise = rng.normal(size=(kernel_size, 7)), rng.normal(size=(7, 5))
    bias = rng.normal(size=5)
    span_key = SpanKey(7, 5, kernel_size).double()
    with torch.no_grad():
        span_key.depthwise.weight.copy_(torch.tensor(depthwise.T[:, None, :]))
        span_key.pointwise.weight.copy_(torch.tensor(pointwise.T))
        span_key.pointwise.bias.copy_(torch.tensor(bias))
    x = torch.tensor(hidden).transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    output = span_key(x)
    output.backward(torch.tensor(grad))
    results = (
        output,
        x.grad,
        span_key.depthwise.weight.grad.squeeze(1).T,
        span_key.pointwise.weight.grad.T,
        span_key.pointwise.bias.grad,
    )
    expected = separable_convolution(hidden, depthwise, pointwise, bias)
    grads = separable_convolution_backward(hidden, depthwise, pointwise, bias, grad)
    for result, oracle in zip(results, (expected, *grads), strict=True):
        assert relative_error(result, oracle) <= ROUNDING


HIDDEN, HEADS, TAPS = 7, 3, 5


@pytest.fixture
def branch_inputs():
    """Value and query [B, T, C], and the hidden state [B, T, HIDDEN]."""
    rng = np.random.default_rng(3)
    return (
        *rng.normal(size=(2, BATCH, 11, HEADS * HEAD_SIZE)),
        rng.normal(size=(BATCH, 11, HIDDEN)),
    )


def branch_with_random_weights(kind, backend="auto"):
    branch = CONV_BRANCHES[kind](HIDDEN, HEADS * HEAD_SIZE, TAPS, HEADS, backend).double()
    generator = torch.Generator().manual_seed(4)
    weights = {}
    for name, parameter in branch.named_parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
        weights[name] = parameter.detach().numpy()
    return branch, weights


def span_dynamic_by_loops(value, query, hidden, weights):
    span_key = separable_convolution(
        hidden,
        weights["span_key.depthwise.weight"][:, 0].T,
        weights["span_key.pointwise.weight"].T,
        weights["span_key.pointwise.bias"],
    )
    return dynamic_by_loops(value, span_key * query, hidden, weights)


def dynamic_by_loops(value, query, hidden, weights):
    weight, bias = weights["conv.weight_linear.weight"], weights["conv.weight_linear.bias"]
    return span_convolution(value, query, weight, bias, HEADS)


def light_by_loops(value, query, hidden, weights):
    exponentials = np.exp(weights["kernel_logits"])
    kernel = exponentials / exponentials.sum(axis=1, keepdims=True)
    return convolve(value, np.tile(kernel, (*value.shape[:2], 1, 1)))


def plain_by_loops(value, query, hidden, weights):
    output = np.zeros_like(value) + weights["conv.bias"]
    length = value.shape[1]
    for time in range(length):
        for tap in range(TAPS):
            source = time + tap - (TAPS - 1) // 2
            if 0 <= source < length:
                output[:, time] += value[:, source] @ weights["conv.weight"][:, :, tap].T
    return output


BRANCHES_BY_LOOPS = {
    "span_dynamic": span_dynamic_by_loops,
    "dynamic": dynamic_by_loops,
    "light": light_by_loops,
    "conv": plain_by_loops,
}


@pytest.mark.parametrize("kind", BRANCHES_BY_LOOPS)
def test_every_branch_equals_the_loops(kind, branch_inputs):
    branch, weights = branch_with_random_weights(kind)
    result = branch(*map(torch.tensor, branch_inputs))
    assert relative_error(result, BRANCHES_BY_LOOPS[kind](*branch_inputs, weights)) <= ROUNDING


@pytest.mark.parametrize("backend", ["auto", "eager"])
@pytest.mark.parametrize("in_one", [True, False], ids=["in one", "step by step"])
def test_the_span_dynamic_branch_in_one_and_step_by_step(
    in_one, backend, branch_inputs, monkeypatch
):
    """Its output against the loops, its gradients against differences of its output."""
    if not in_one:
        monkeypatch.setattr(convolution, "goes_in_one", lambda hidden: False)
    branch, weights = branch_with_random_weights("span_dynamic", backend)
    inputs = [torch.tensor(each, requires_grad=True) for each in branch_inputs]
    output = branch(*inputs)
    assert relative_error(output, span_dynamic_by_loops(*branch_inputs, weights)) <= ROUNDING
    is_one_node = "_InOne" in type(output.grad_fn).__name__
    assert is_one_node == in_one
    parameters = dict(branch.named_parameters())

    def of_all(*tensors):
        named = dict(zip(parameters, tensors[3:], strict=True))
        return torch.func.functional_call(branch, named, tensors[:3])

    assert torch.autograd.gradcheck(of_all, (*inputs, *parameters.values()), fast_mode=True)


@pytest.mark.parametrize("around", ["autocast", "counter"])
def test_who_watches_or_chooses_precisions_sees_the_steps(around, branch_inputs):
    branch, _ = branch_with_random_weights("span_dynamic")
    inputs = [torch.tensor(each).float() for each in branch_inputs]
    contexts = {
        "autocast": torch.autocast("cpu", torch.bfloat16),
        "counter": FlopCounterMode(display=False),
    }
    with contexts[around]:
        output = branch.float()(*inputs)
    assert "_InOne" not in type(output.grad_fn).__name__


def test_a_backward_pass_within_autocast(branch_inputs):
    branch, _ = branch_with_random_weights("span_dynamic")
    inputs = [torch.tensor(each) for each in branch_inputs]
    expected = torch.autograd.grad(branch(*inputs).sum(), list(branch.parameters()))
    loss = branch.float()(*(each.float() for each in inputs)).sum()
    with torch.autocast("cpu", torch.bfloat16):
        gradients = torch.autograd.grad(loss, list(branch.parameters()))
    for result, wanted in zip(gradients, expected, strict=True):
        assert relative_error(result, wanted) <= TOLERANCES[torch.float32]["model"]


def test_layers_that_were_changed_are_called(branch_inputs):
    branch, _ = branch_with_random_weights("span_dynamic")
    inputs = [torch.tensor(each) for each in branch_inputs]
    called = []
    branch.span_key.pointwise.register_forward_hook(lambda *given: called.append("pointwise"))
    branch(*inputs)
    assert called == ["pointwise"]

    class Adapted(torch.nn.Linear):
        def forward(self, states):
            called.append("adapted")
            return super().forward(states)

    layer = branch.conv.weight_linear
    branch.conv.weight_linear = Adapted(layer.in_features, layer.out_features).double()
    branch(*inputs)
    assert called == ["pointwise", "pointwise", "adapted"]


def test_the_branches_are_those_that_are_tested():
    assert set(CONV_BRANCHES) == {*BRANCHES_BY_LOOPS, "none"}


def test_the_span_dynamic_branch_on_the_parent_s_backend(branch_inputs):
    branch, weights = branch_with_random_weights("span_dynamic", "fairseq")
    assert isinstance(branch, SpanDynamicBranch)
    result = branch(*map(torch.tensor, branch_inputs))
    assert relative_error(result, span_dynamic_by_loops(*branch_inputs, weights)) <= ROUNDING
