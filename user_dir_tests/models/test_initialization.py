"""Every parameter before training: in exactly one row of the table, and as the row says."""

from fnmatch import fnmatchcase
from functools import lru_cache
from math import sqrt

import pytest
import torch

from user_dir_tests.models.building import model_of

pytestmark = pytest.mark.pretraining

# TensorFlow cuts at two deviations, which leaves this much of the deviation.
REALISED = 0.8796
TAPS = 9


def check_truncated_normal(tensor, std):
    assert tensor.abs().max() <= 2 * std
    # Clamped numbers would pile up at the bounds, which drawn ones hardly ever hit.
    assert (tensor.abs() == 2 * std).sum() <= 1
    check_moments(tensor, REALISED * std)


def check_glorot_uniform(tensor):
    bound = sqrt(6 / (tensor.size(0) + tensor.size(1)))
    assert tensor.abs().max() <= bound
    check_moments(tensor, bound / sqrt(3))


def check_moments(tensor, std):
    """Five standard errors; those of a deviation are below 0.6 / sqrt(n) without long tails."""
    error = 5 * std / sqrt(tensor.numel())
    assert abs(tensor.mean()) <= error
    assert abs(tensor.std() - std) <= 0.6 * error


def check_equal(tensor, number):
    assert tensor.eq(number).all()


# pattern: check, its argument
TABLE = {
    "embeddings.tokens.weight": (check_truncated_normal, 0.02),
    "embeddings.positions.weight": (check_truncated_normal, 0.02),
    "embeddings.segments.weight": (check_truncated_normal, 0.02),
    "*.attention.query.weight": (check_truncated_normal, 0.02),
    "*.attention.key.weight": (check_truncated_normal, 0.02),
    "*.attention.value.weight": (check_truncated_normal, 0.02),
    "*.attention.conv_value.weight": (check_truncated_normal, 0.02),
    "*.attention.output.weight": (check_truncated_normal, 0.02),
    "*.conv_branch.conv.weight_linear.weight": (check_truncated_normal, 0.02),
    "*.conv_branch.span_key.pointwise.weight": (check_truncated_normal, 0.02),
    "*.conv_branch.span_key.depthwise.weight": (check_truncated_normal, 1 / TAPS),
    "*.feed_forward.inner.weight": (check_truncated_normal, 0.02),
    "*.feed_forward.outer.weight": (check_truncated_normal, 0.02),
    "*head.dense.weight": (check_truncated_normal, 0.02),
    "encoder.embedding_projection.weight": (check_glorot_uniform,),
    "generator.stack.embedding_projection.weight": (check_glorot_uniform,),
    "replaced_token_head.output.weight": (check_glorot_uniform,),
    "*layer_norm.weight": (check_equal, 1),
    "*bias": (check_equal, 0),
}


@lru_cache
def parameters():
    torch.manual_seed(1)
    model = model_of("convbert_medium")
    model.add_generator()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def rows_of(name):
    return [row for row in TABLE if fnmatchcase(name, row)]


def test_every_parameter_is_in_exactly_one_row():
    assert {name: rows_of(name) for name in parameters() if len(rows_of(name)) != 1} == {}


@pytest.mark.parametrize("row", TABLE)
def test_initial_values(row):
    check, *arguments = TABLE[row]
    tensors = [tensor for name, tensor in parameters().items() if rows_of(name) == [row]]
    assert tensors
    for tensor in tensors:
        check(tensor, *arguments)


def test_layers_start_from_different_numbers():
    tensors = [
        tensor
        for name, tensor in parameters().items()
        if not name.endswith("bias") and "layer_norm" not in name
    ]
    starts = {tuple(tensor.flatten()[:8].tolist()) for tensor in tensors}
    assert len(starts) == len(tensors)


@pytest.mark.parametrize(
    ("kind", "name"), [("light", "conv_branch.kernel_logits"), ("conv", "conv_branch.conv.weight")]
)
def test_the_convolutions_for_comparison(kind, name):
    torch.manual_seed(1)
    model = model_of("convbert_small", 97, conv_type=kind, encoder_layers=1)
    tensor = model.encoder.layers[0].attention.get_parameter(name).detach()
    check_truncated_normal(tensor, 0.02)
