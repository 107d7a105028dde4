"""Attention probabilities and kernels: against other code, and against the output they make."""

import numpy as np
import pytest
import torch

from convbert_plugin.modules.convolution import CONV_BRANCHES
from convbert_plugin.modules.mixed_attention import MixedAttention
from user_dir_tests.models.building import PAD, empty_model, random_tokens
from user_dir_tests.modules.building import shape_of
from user_dir_tests.oracles.span_convolution import convolve, kernels, separable_convolution
from user_dir_tests.oracles.transformers_models import plugin_state_dict, transformers_model
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.weights

# The last row is of pads alone.
REAL_TOKENS = (11, 8, 1, 0)
LENGTH = max(REAL_TOKENS)
PADDING = torch.arange(LENGTH) >= torch.tensor(REAL_TOKENS)[:, None]
HEADS = shape_of().mixed_heads.number
ROUNDING = TOLERANCES[torch.float64]["operation"]
PADS_VISIBLE = pytest.mark.parametrize("pads_visible", [True, False], ids=["visible", "masked"])


def attention_of(**changes):
    """A mixed attention in float64 and evaluation mode, every number of it random."""
    attention = MixedAttention(shape_of(**changes)).double().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for parameter in attention.parameters():
        parameter.normal_(std=0.3, generator=generator)
    return attention


def random_hidden():
    generator = torch.Generator().manual_seed(2)
    shape = len(REAL_TOKENS), LENGTH, shape_of().hidden
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def read_by_the_convolution(hidden, pads_visible):
    return hidden if pads_visible else hidden.masked_fill(PADDING[:, :, None], 0)


@pytest.mark.parametrize("architecture", ["convbert_small", "convbert_medium", "electra_small"])
@torch.no_grad()
def test_attention_equals_that_of_transformers(architecture):
    theirs = transformers_model(architecture, seed=1)
    theirs.set_attn_implementation("eager")
    ours = empty_model(architecture, pads_visible=True).eval()
    state = plugin_state_dict(theirs, ours)
    torch.nn.Module.load_state_dict(ours, state, strict=True, assign=True)
    pads = PADDING[:-1]
    tokens = random_tokens(*pads.shape).masked_fill(pads, PAD)
    segments = random_tokens(*pads.shape, seed=2) % 2
    expected = theirs(
        tokens, attention_mask=(~pads).long(), token_type_ids=segments, output_attentions=True
    ).attentions
    states = ours.hidden_states(tokens, segments)
    for layer, hidden, oracle in zip(ours.encoder.layers, states[:-1], expected, strict=True):
        result = layer.attention.maps(hidden, pads).attention
        assert relative_error(result, oracle) <= TOLERANCES[torch.float32]["transformers"]


def span_dynamic_by_loops(weights, query, hidden):
    span_key = separable_convolution(
        hidden,
        weights["span_key.depthwise.weight"][:, 0].T,
        weights["span_key.pointwise.weight"].T,
        weights["span_key.pointwise.bias"],
    )
    return dynamic_by_loops(weights, span_key * query, hidden)


def dynamic_by_loops(weights, query, hidden):
    weight, bias = weights["conv.weight_linear.weight"], weights["conv.weight_linear.bias"]
    return kernels(query, weight, bias, HEADS)


def light_by_loops(weights, query, hidden):
    exponentials = np.exp(weights["kernel_logits"])
    kernel = exponentials / exponentials.sum(axis=1, keepdims=True)
    return np.tile(kernel, (*query.shape[:2], 1, 1))


KERNELS_BY_LOOPS = {
    "span_dynamic": span_dynamic_by_loops,
    "dynamic": dynamic_by_loops,
    "light": light_by_loops,
}
WITHOUT_KERNELS = ("conv", "none")


@PADS_VISIBLE
@pytest.mark.parametrize("kind", KERNELS_BY_LOOPS)
def test_kernels_equal_the_loops(kind, pads_visible):
    attention, hidden = attention_of(conv_type=kind, pads_visible=pads_visible), random_hidden()
    weights = {name: each.numpy() for name, each in attention.conv_branch.state_dict().items()}
    query = hidden.numpy() @ attention.query.weight.numpy().T + attention.query.bias.numpy()
    read = read_by_the_convolution(hidden, pads_visible).numpy()
    result = attention.maps(hidden, PADDING).kernels
    expected = KERNELS_BY_LOOPS[kind](weights, query, read).transpose(0, 2, 1, 3)
    assert relative_error(result, expected) <= ROUNDING
    assert relative_error(result.sum(-1), np.ones(result.shape[:3])) <= ROUNDING


@pytest.mark.parametrize("kind", WITHOUT_KERNELS)
def test_where_there_are_no_kernels(kind):
    assert attention_of(conv_type=kind).maps(random_hidden(), PADDING).kernels is None


def test_the_kinds_are_those_that_are_tested():
    assert set(CONV_BRANCHES) == {*KERNELS_BY_LOOPS, *WITHOUT_KERNELS}


@PADS_VISIBLE
@pytest.mark.parametrize("padding", [None, PADDING], ids=["no pads", "pads"])
@pytest.mark.parametrize(
    ("kind", "backend"),
    [*((kind, "auto") for kind in KERNELS_BY_LOOPS), ("span_dynamic", "fairseq")],
)
def test_the_maps_weigh_the_values_into_the_output(kind, backend, padding, pads_visible):
    attention = attention_of(conv_type=kind, conv_backend=backend, pads_visible=pads_visible)
    hidden = random_hidden()
    probabilities, span_kernels = attention.maps(hidden, padding)
    value = attention.value(hidden).unflatten(2, (HEADS, -1)).transpose(1, 2)
    attended = (probabilities @ value).transpose(1, 2).flatten(2)
    conv_value = attention.conv_value(hidden)
    if padding is not None:
        conv_value = read_by_the_convolution(conv_value, pads_visible)
    convolved = convolve(conv_value.numpy(), span_kernels.transpose(1, 2).numpy())
    expected = attention.output(torch.cat([attended, torch.from_numpy(convolved)], dim=-1))
    error = relative_error(attention(hidden, padding), expected)
    assert error <= TOLERANCES[torch.float64]["padding"]


def test_pads_get_nothing_and_the_rest_sums_to_one():
    result = attention_of().maps(random_hidden(), PADDING).attention
    assert result.masked_select(PADDING[:, None, None, :]).eq(0).all()
    expected = torch.tensor(REAL_TOKENS).gt(0)[:, None, None].expand(result.shape[:3])
    assert relative_error(result.sum(-1), expected) <= ROUNDING


def test_dropout_never_acts_on_the_maps():
    attention, hidden = attention_of(attention_dropout=0.5, dropout=0.5), random_hidden()
    in_training = attention.train().maps(hidden, PADDING)
    in_evaluation = attention.eval().maps(hidden, PADDING)
    assert all(map(torch.equal, in_training, in_evaluation))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_normalized_in_float32(dtype):
    attention, hidden = attention_of(), random_hidden()
    expected = attention.maps(hidden, PADDING)
    for result, oracle in zip(
        attention.to(dtype).maps(hidden.to(dtype), PADDING), expected, strict=True
    ):
        assert result.dtype == torch.float32
        assert relative_error(result, oracle) <= TOLERANCES[dtype]["model"]
        sums = result.sum(-1)
        assert relative_error(sums, sums.round()) <= TOLERANCES[torch.float32]["operation"]
