"""One layer against the released computation, evaluated in numpy and float64."""

import numpy as np
import pytest
import torch

from convbert_plugin.modules.layer import ConvBertLayer
from user_dir_tests.modules.building import shape_of
from user_dir_tests.oracles.released_block import random_weights, released_block, weight_shapes
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.pretraining

LENGTH = 11
REAL_TOKENS = (11, 8, 1)
# our module: scope of its variables
DENSE = {
    "attention.query": "attention/self/query",
    "attention.key": "attention/self/key",
    "attention.value": "attention/self/value",
    "attention.conv_branch.conv.weight_linear": "attention/self/conv_attn_kernel",
    "attention.conv_value": "attention/self/conv_attn_point",
    "attention.output": "attention/output/dense",
    "feed_forward.inner": "intermediate/dense",
    "feed_forward.outer": "output/dense",
}
GROUPED = {
    "feed_forward.inner": "intermediate/g_dense",
    "feed_forward.outer": "output/g_dense",
}
LAYER_NORMS = {
    "attention_layer_norm": "attention/output/LayerNorm",
    "feed_forward_layer_norm": "output/LayerNorm",
}


def state_dict_of(weights):
    """TensorFlow's variables under our names, in our layouts."""
    state = {}
    for module, scope in DENSE.items():
        if f"{scope}/kernel" in weights:
            state[f"{module}.weight"] = weights[f"{scope}/kernel"].T
            state[f"{module}.bias"] = weights[f"{scope}/bias"]
    for module, scope in GROUPED.items():
        if f"{scope}/kernel" in weights:
            state[f"{module}.weight"] = weights[f"{scope}/kernel"]
            state[f"{module}.bias"] = weights[f"{scope}/bias"]
    for module, scope in LAYER_NORMS.items():
        state[f"{module}.weight"] = weights[f"{scope}/gamma"]
        state[f"{module}.bias"] = weights[f"{scope}/beta"]
    scope, module = "attention/self/conv_attn_key", "attention.conv_branch.span_key"
    if f"{scope}/bias" in weights:
        depthwise, pointwise = weights[f"{scope}/depthwise_kernel"], f"{scope}/pointwise_kernel"
        state[f"{module}.depthwise.weight"] = depthwise.transpose(1, 2, 0)
        state[f"{module}.pointwise.weight"] = weights[pointwise][0].T
        state[f"{module}.pointwise.bias"] = weights[f"{scope}/bias"]
    return {name: torch.tensor(values) for name, values in state.items()}


def weights_for(shape, seed=1):
    return random_weights(
        weight_shapes(
            shape.hidden,
            shape.heads,
            shape.head_ratio,
            shape.conv_kernel_size,
            shape.ffn_hidden,
            shape.ffn_groups,
            convolution=shape.conv_type != "none",
        ),
        seed,
    )


def layer_of(shape, weights):
    layer = ConvBertLayer(shape).double()
    layer.load_state_dict(state_dict_of(weights))
    return layer


def random_hidden(shape, seed=2):
    return np.random.default_rng(seed).normal(size=(len(REAL_TOKENS), LENGTH, shape.hidden))


PADS = np.arange(LENGTH) >= np.array(REAL_TOKENS)[:, None]

SHAPES = {
    **{f"ratio {ratio}": {"head_ratio": ratio} for ratio in (1, 2, 3, 4)},
    "ratio above the heads": {"head_ratio": 8},
    "no groups": {"ffn_groups": 1},
    "three groups": {"ffn_groups": 3},
    "kernel longer than the text": {"conv_kernel_size": 25},
    "kernel of one": {"conv_kernel_size": 1},
    "no convolution": {"conv_type": "none"},
    "no convolution, ratio 1, no groups": {"conv_type": "none", "head_ratio": 1, "ffn_groups": 1},
    "small generator": {
        "hidden": 64,
        "heads": 1,
        "ffn_hidden": 256,
        "ffn_groups": 1,
        "conv_kernel_size": 9,
    },
    "medium": {"hidden": 384, "heads": 8, "ffn_hidden": 1536, "conv_kernel_size": 9},
    "parent's convolution": {"conv_backend": "fairseq"},
}


@pytest.mark.parametrize("padding", ["no pads", "visible pads", "hidden pads"])
@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES.keys())
def test_equals_the_released_block(changes, padding):
    shape = shape_of(**changes, pads_visible=padding == "visible pads")
    weights, hidden = weights_for(shape), random_hidden(shape)
    pads = None if padding == "no pads" else PADS
    with torch.no_grad():
        result = layer_of(shape, weights)(
            torch.tensor(hidden), None if pads is None else torch.tensor(pads)
        )
    expected = released_block(
        hidden, weights, shape.heads, shape.head_ratio, pads, shape.pads_visible
    )
    assert relative_error(result, expected) <= TOLERANCES[torch.float64]["block"]


@pytest.mark.parametrize("pads_visible", [True, False])
def test_gradients_equal_finite_differences_of_the_released_block(pads_visible):
    """Along a random direction through the input and every variable."""
    shape = shape_of(pads_visible=pads_visible)
    weights, hidden = weights_for(shape), random_hidden(shape)
    directions, grad = weights_for(shape, seed=3), random_hidden(shape, seed=4)
    hidden_direction = random_hidden(shape, seed=5)
    layer = layer_of(shape, weights)
    leaf = torch.tensor(hidden, requires_grad=True)
    (layer(leaf, torch.tensor(PADS)) * torch.tensor(grad)).sum().backward()
    found = (leaf.grad * torch.tensor(hidden_direction)).sum()
    for name, direction in state_dict_of(directions).items():
        found += (layer.get_parameter(name).grad * direction).sum()

    def loss(step):
        moved = {name: weights[name] + step * directions[name] for name in weights}
        moved_hidden = hidden + step * hidden_direction
        output = released_block(
            moved_hidden, moved, shape.heads, shape.head_ratio, PADS, pads_visible
        )
        return (output * grad).sum()

    step = 1e-3
    expected = (8 * (loss(step) - loss(-step)) - loss(2 * step) + loss(-2 * step)) / (12 * step)
    assert relative_error(found, expected) <= TOLERANCES[torch.float64]["finite_difference"]


def test_the_small_generator_s_output_layer_is_twice_its_width():
    shape = shape_of(**SHAPES["small generator"])
    assert ConvBertLayer(shape).attention.output.weight.shape == (64, 128)


def test_visible_and_hidden_pads_differ():
    """Else the comparison above would show nothing."""
    shape = shape_of()
    weights, hidden = weights_for(shape), random_hidden(shape)
    arguments = hidden, weights, shape.heads, shape.head_ratio, PADS
    difference = released_block(*arguments, True) - released_block(*arguments, False)
    assert np.abs(difference[~PADS]).max() > 0.1
    assert np.abs(difference[0]).max() == 0


def test_a_row_of_nothing_but_pads_stays_finite():
    shape = shape_of()
    layer = layer_of(shape, weights_for(shape))
    leaf = torch.tensor(random_hidden(shape), requires_grad=True)
    output = layer(leaf, torch.ones(leaf.shape[:2], dtype=torch.bool))
    output.square().sum().backward()
    assert output.isfinite().all()
    assert leaf.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


@pytest.mark.parametrize("dropout", ["dropout", "attention_dropout"])
def test_dropout_acts_in_training_alone(dropout):
    shape = shape_of(**{dropout: 0.5})
    layer = layer_of(shape, weights_for(shape))
    hidden = torch.tensor(random_hidden(shape))
    torch.manual_seed(1)
    training = [layer(hidden, None) for _ in range(2)]
    evaluation = [layer.eval()(hidden, None) for _ in range(2)]
    assert not torch.equal(*training)
    assert torch.equal(*evaluation)
