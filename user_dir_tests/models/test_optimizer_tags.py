"""What the optimizer is told of each parameter of a model of twelve layers."""

from fnmatch import fnmatchcase

import pytest
import torch

from user_dir_tests.models.building import empty_model

pytestmark = pytest.mark.pretraining

HEADS = 13
DEPTHS = {
    "embeddings.*": 0,
    "encoder.embedding_projection.*": 0,
    "generator.stack.embedding_projection.*": 0,
    "*.layers.0.*": 1,
    "*.layers.1.*": 2,
    "*.layers.2.*": 3,
    "*.layers.3.*": 4,
    "*.layers.4.*": 5,
    "*.layers.5.*": 6,
    "*.layers.6.*": 7,
    "*.layers.7.*": 8,
    "*.layers.8.*": 9,
    "*.layers.9.*": 10,
    "*.layers.10.*": 11,
    "*.layers.11.*": 12,
    "generator.head.*": HEADS,
    "replaced_token_head.*": HEADS,
    "masked_lm_head.*": HEADS,
    "question_answering_head.*": HEADS,
}
# endings of the parameters that decay, and of those that do not
DECAYED = (
    "embeddings.tokens.weight",
    "embeddings.positions.weight",
    "embeddings.segments.weight",
    "embedding_projection.weight",
    "attention.query.weight",
    "attention.key.weight",
    "attention.value.weight",
    "attention.conv_value.weight",
    "attention.output.weight",
    "span_key.depthwise.weight",
    "span_key.pointwise.weight",
    "conv.weight_linear.weight",
    "conv.weight",
    "kernel_logits",
    "feed_forward.inner.weight",
    "feed_forward.outer.weight",
    "head.dense.weight",
    "replaced_token_head.output.weight",
    "answering_head.start.weight",
    "answering_head.end_dense.weight",
    "answering_head.end_output.weight",
    "answering_head.impossible_dense.weight",
    "answering_head.impossible_output.weight",
    "answering_head.output.weight",
)
NOT_DECAYED = (
    "embeddings.layer_norm.weight",
    "attention_layer_norm.weight",
    "feed_forward_layer_norm.weight",
    "head.layer_norm.weight",
    ".bias",
)


def tags_of(model):
    return {
        name: parameter.optim_overrides["convbert_adamw"]
        for name, parameter in model.named_parameters()
    }


def expected_tag(name):
    depths = [depth for pattern, depth in DEPTHS.items() if fnmatchcase(name, pattern)]
    decays = [name.endswith(DECAYED), name.endswith(NOT_DECAYED)]
    assert len(depths) == 1, name
    assert sum(decays) == 1, name
    return {"depth": depths[0], "max_depth": HEADS, "decay": decays[0]}


def check(model):
    tags = tags_of(model)
    assert tags == {name: expected_tag(name) for name in tags}
    return tags


@pytest.mark.parametrize("kind", ["span_dynamic", "dynamic", "light", "conv", "none"])
@pytest.mark.parametrize("architecture", ["convbert_medium", "convbert_base"])
def test_a_pretraining_model(architecture, kind):
    model = empty_model(architecture, 97, conv_type=kind)
    with torch.device("meta"):
        model.add_generator()
    tags = check(model)
    # 13 depths of the discriminator, 13 of the generator, their heads
    assert {tag["depth"] for tag in tags.values()} == set(range(14))
    assert sum("layers.11." in name for name in tags) == 2 * len(
        list(model.encoder.layers[11].parameters())
    )


def test_an_encoder_alone():
    assert {tag["depth"] for tag in check(empty_model("convbert_small", 97)).values()} == set(
        range(13)
    )


def test_a_masked_lm_model():
    model = empty_model("convbert_small", 97)
    with torch.device("meta"):
        model.add_part("masked_lm_head")
    assert check(model)["masked_lm_head.bias"] == {"depth": 13, "max_depth": 13, "decay": False}


@pytest.mark.squad
@pytest.mark.parametrize(("kind", "tensors"), [("released", 10), ("transformers", 2)])
def test_a_question_answering_model(kind, tensors):
    model = empty_model("convbert_small", 97)
    with torch.device("meta"):
        model.add_part("question_answering_head", kind=kind)
    assert sum(name.startswith("question_answering_head") for name in check(model)) == tensors
