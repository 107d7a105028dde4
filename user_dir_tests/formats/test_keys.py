"""The key table: what is missing from it, and every direction back."""

import pytest
import torch

from convbert_plugin.errors import UserError
from convbert_plugin.formats.keys import tensorflow_names, transformers_names
from convbert_plugin.models.architectures import ARCHITECTURES
from convbert_plugin.models.parts import KEYS
from user_dir_tests.models.building import model_of, randomize

pytestmark = pytest.mark.weights

SMALLER = {"encoder_layers": 2, "max_positions": 9}


def pretrained(architecture):
    model = model_of(architecture, 31, **SMALLER)
    model.add_generator()
    return randomize(model)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tensorflow_and_back(architecture):
    model = pretrained(architecture)
    names = tensorflow_names(grouped=model.cfg.ffn_groups > 1)
    theirs = KEYS.from_own(model.state_dict(), names)
    assert len(theirs) == len(model.state_dict())
    again = KEYS.to_own(theirs, model.state_dict(), names)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again[name], tensor), name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("body", ["", "convbert", "electra"])
def test_transformers_and_back(architecture, body):
    model = model_of(architecture, 31, **SMALLER)
    model.add_part("masked_lm_head")
    model.add_part("replaced_token_head")
    model.add_part("question_answering_head")
    model.register_classification_head("topic", 3, "transformers")
    randomize(model)
    names = transformers_names(body)
    theirs = KEYS.from_own(model.state_dict(), names)
    assert len(theirs) == len(model.state_dict())
    again = KEYS.to_own(theirs, model.state_dict(), names)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again[name], tensor), name


def test_a_table_for_the_eye():
    """One name of each kind, from the references."""
    expected = {
        "embeddings.tokens.weight": (
            "embeddings.word_embeddings.weight",
            "electra/embeddings/word_embeddings",
        ),
        "encoder.embedding_projection.weight": (
            "embeddings_project.weight",
            "electra/embeddings_project/kernel",
        ),
        "encoder.layers.7.attention.conv_branch.span_key.depthwise.weight": (
            "encoder.layer.7.attention.self.key_conv_attn_layer.depthwise.weight",
            "electra/encoder/layer_7/attention/self/conv_attn_key/depthwise_kernel",
        ),
        "encoder.layers.11.attention.conv_branch.span_key.pointwise.bias": (
            "encoder.layer.11.attention.self.key_conv_attn_layer.bias",
            "electra/encoder/layer_11/attention/self/conv_attn_key/bias",
        ),
        "encoder.layers.0.attention_layer_norm.weight": (
            "encoder.layer.0.attention.output.LayerNorm.weight",
            "electra/encoder/layer_0/attention/output/LayerNorm/gamma",
        ),
    }
    libraries = (transformers_names("convbert"), tensorflow_names(grouped=False))
    for ours, (theirs, released) in expected.items():
        assert KEYS.foreign_name(ours, libraries[0])[0] == f"convbert.{theirs}"
        assert KEYS.foreign_name(ours, libraries[1])[0] == released
    inner = "generator.stack.layers.3.feed_forward.inner.weight"
    grouped = KEYS.foreign_name(inner, tensorflow_names(grouped=True))[0]
    assert grouped == "generator/encoder/layer_3/intermediate/g_dense/kernel"


def test_what_has_no_counterpart_is_named():
    with pytest.raises(UserError) as raised:
        KEYS.from_own(
            model_of("convbert_small", 31, conv_type="light").state_dict(), transformers_names("")
        )
    assert str(raised.value) == (
        "encoder.layers.{0,1,2,3,4,5,6,7,8,9,10,11}.attention.conv_branch.kernel_logits has no "
        "counterpart"
    )


def test_every_problem_is_named_in_one_line():
    expected = model_of("convbert_small", 31, **SMALLER).state_dict()
    names = transformers_names("")
    shapes = {name: tuple(t.shape) for name, t in KEYS.from_own(expected, names).items()}
    KEYS.check_names(shapes, expected, names)
    for layer in (0, 1):
        del shapes[f"encoder.layer.{layer}.output.dense.bias"]
    shapes["encoder.layer.1.attention.self.query.bias"] = (5,)
    shapes["encoder.layer.12.output.dense.bias"] = (256,)
    shapes["pooler.bias"] = (256,)
    with pytest.raises(UserError) as raised:
        KEYS.check_names(shapes, expected, names)
    assert str(raised.value).split("; ") == [
        "encoder.layer.{0,1}.output.dense.bias is missing",
        "encoder.layer.1.attention.self.query.bias is (5,), not (128,)",
        "encoder.layer.12.output.dense.bias is unknown",
        "pooler.bias is unknown",
    ]
