"""Numbers of parameters, and that every one of them takes part."""

import pytest
import torch
import torch.nn.functional as F

from user_dir_tests.models.building import empty_model, masked_batch, randomize, toy_model
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.pretraining

CONV_TYPES = ("span_dynamic", "dynamic", "light", "conv", "none")


def size_of(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def pretraining_model(architecture):
    model = empty_model(architecture)
    with torch.device("meta"):
        model.add_generator()
    return model


# The columns of the reference, counted by hand from the released code.
COUNTS = {
    "convbert_small": {
        "encoder": 13_143_768,
        "layer": 761_490,
        "replaced-token head": 66_049,
        "generator body": 770_988,
        "generator head": 39_098,
        "all": 14_019_903,
    },
    "convbert_medium": {
        "encoder": 17_475_888,
        "layer": 1_121_124,
        "replaced-token head": 148_225,
        "generator body": 871_884,
        "generator head": 43_194,
        "all": 18_539_191,
    },
    "convbert_base": {
        "encoder": 105_680_520,
        "layer": 6_820_278,
        "replaced-token head": 591_361,
        "generator body": 9_334_744,
        "generator head": 229_434,
        "all": 115_836_059,
    },
}


@pytest.mark.parametrize("architecture", COUNTS)
def test_counts_of_every_part(architecture):
    alone, model = empty_model(architecture), pretraining_model(architecture)
    assert {
        "encoder": size_of(alone),
        "layer": size_of(alone.encoder.layers[0]),
        "replaced-token head": size_of(model.replaced_token_head),
        "generator body": size_of(model.generator.stack),
        "generator head": size_of(model.generator.head),
        "all": size_of(model),
    } == COUNTS[architecture]


@pytest.mark.parametrize(
    ("architecture", "parts"),
    [
        (
            "convbert_small",
            {
                "attention": 98_688,
                "depthwise": 2_304,
                "pointwise": 32_768 + 128,
                "kernels": 2_322,
                "convolution value": 32_896,
                "output": 65_792,
                "feed-forward": 525_568,
                "LayerNorms": 1_024,
            },
        ),
        (
            "convbert_medium",
            {
                "attention": 221_760,
                "depthwise": 3_456,
                "pointwise": 73_728 + 192,
                "kernels": 6_948,
                "convolution value": 73_920,
                "output": 147_840,
                "feed-forward": 591_744,
                "LayerNorms": 1_536,
            },
        ),
        (
            "convbert_base",
            {
                "attention": 885_888,
                "depthwise": 6_912,
                "pointwise": 294_912 + 384,
                "kernels": 20_790,
                "convolution value": 295_296,
                "output": 590_592,
                "feed-forward": 4_722_432,
                "LayerNorms": 3_072,
            },
        ),
    ],
)
def test_counts_within_a_layer(architecture, parts):
    layer = empty_model(architecture).encoder.layers[0]
    attention, branch = layer.attention, layer.attention.conv_branch
    assert {
        "attention": sum(map(size_of, (attention.query, attention.key, attention.value))),
        "depthwise": size_of(branch.span_key.depthwise),
        "pointwise": size_of(branch.span_key.pointwise),
        "kernels": size_of(branch.conv),
        "convolution value": size_of(attention.conv_value),
        "output": size_of(attention.output),
        "feed-forward": size_of(layer.feed_forward),
        "LayerNorms": size_of(layer.attention_layer_norm) + size_of(layer.feed_forward_layer_norm),
    } == parts


def test_electra_small():
    assert size_of(empty_model("electra_small")) == 13_483_008


@pytest.mark.parametrize(
    ("architecture", "changes", "millions"),
    [
        ("convbert_small", {"conv_type": "none"}, 11.91),
        ("convbert_medium", {"conv_type": "none", "ffn_groups": 1}, 21.77),
        ("convbert_medium", {"conv_type": "none"}, 14.69),
        ("convbert_medium", {"ffn_groups": 1}, 24.55),
        ("convbert_medium", {}, 17.48),
    ],
)
def test_the_ablations_of_the_paper(architecture, changes, millions):
    assert round(size_of(empty_model(architecture, **changes)) / 1e6, 2) == millions


def loss_of(model, batch):
    """Both losses; logits far from zero, so that no gradient is lost in rounding."""
    output = model(**batch)
    loss = output.masked_lm_loss.double() / len(batch["masked_targets"])
    if output.replaced_logits is not None:
        replaced = output.corrupted.ne(batch["src_tokens"]).double()
        loss = loss + F.binary_cross_entropy_with_logits(output.replaced_logits.double(), replaced)
    return loss


def parameters_without_effect(model, gradients):
    """A shift of all keys changes no attention: the gradient of their bias is zero."""
    return [
        name
        for name, gradient in gradients.items()
        if (gradient is None or not gradient.any()) and not name.endswith("attention.key.bias")
    ]


def gradients_of(model, batch):
    model.zero_grad()
    loss_of(model, batch).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("kind", CONV_TYPES)
@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
def test_backward_reaches_every_parameter(kind, precision):
    autocast = precision if precision == "bfloat16" else "float32"
    model = toy_model(generator=True, conv_type=kind, autocast_dtype=autocast)
    randomize(model, std=0.3).to(torch.float64 if precision == "float64" else torch.float32)
    gradients = gradients_of(model, masked_batch())
    assert parameters_without_effect(model, gradients) == []
    assert all(gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize("backend", ["auto", "eager", "fairseq"])
@pytest.mark.parametrize("ratio", [1, 2, 3, 4])
def test_every_head_ratio_trains(ratio, backend):
    """12 heads leave 12, 6, 4, 3; a generator of a third 4, 2, 1, 1."""
    model = toy_model(
        generator=True,
        head_ratio=ratio,
        encoder_embed_dim=84,
        encoder_attention_heads=12,
        conv_backend=backend,
    )
    randomize(model, std=0.2)
    heads = {1: 12, 2: 6, 3: 4, 4: 3}[ratio]
    attention = model.encoder.layers[0].attention
    assert attention.query.out_features == heads * 7
    assert attention.output.in_features == 2 * heads * 7
    gradients = gradients_of(model, masked_batch())
    assert parameters_without_effect(model, gradients) == []


def test_the_masked_lm_model_trains():
    model = toy_model()
    model.add_part("masked_lm_head")
    gradients = gradients_of(randomize(model, std=0.3), masked_batch())
    assert parameters_without_effect(model, gradients) == []


@pytest.mark.parametrize("kind", CONV_TYPES)
def test_autocast_computes_the_same_function(kind):
    """Parameters stay in float32, losses too; only the products lose digits."""
    model, half = (
        randomize(toy_model(generator=True, conv_type=kind, autocast_dtype=dtype), std=0.1)
        for dtype in ("float32", "bfloat16")
    )
    batch = masked_batch()
    with torch.no_grad():
        expected, result = (each(batch["src_tokens"]) for each in (model, half))
        output = half(**batch)
    assert 0 < relative_error(result, expected) <= TOLERANCES[torch.bfloat16]["model"]
    assert output.masked_lm_loss.dtype == output.replaced_logits.dtype == torch.float32
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}
    expected_gradients, gradients = gradients_of(model, batch), gradients_of(half, batch)
    for name in ("embeddings.tokens.weight", "encoder.layers.0.feed_forward.inner.weight"):
        error = relative_error(gradients[name], expected_gradients[name])
        assert error <= 2 * TOLERANCES[torch.bfloat16]["model"]


def test_an_autocast_around_the_model_stays_in_force():
    """As --amp opens one; the model's own is in float32, that is none."""
    model = toy_model(generator=True)
    seen = []
    query = model.encoder.layers[0].attention.query
    query.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model(masked_batch()["src_tokens"])
    assert seen == [torch.bfloat16]


@torch.no_grad()
@pytest.mark.parametrize("scope", ["classification_heads.topic", "question_answering_head"])
def test_fine_tuned_heads_are_not_autocast(scope):
    model = toy_model(autocast_dtype="bfloat16").eval()
    model.register_classification_head("topic", 3, "transformers")
    model.add_part("question_answering_head")
    randomize(model)
    tokens = masked_batch()["src_tokens"]
    hidden = model.features(tokens)
    assert hidden.dtype == torch.bfloat16 or hidden.to(torch.bfloat16).ne(hidden).any()
    logits = model.head_logits(scope, tokens)
    assert torch.equal(logits, model.get_submodule(scope)(hidden.float()))
    # Of bfloat16, no logit would change when it is rounded to it.
    assert logits.to(torch.bfloat16).ne(logits).any()


@pytest.mark.squad
@torch.no_grad()
@pytest.mark.parametrize("kind", ["released", "transformers"])
def test_spans_are_not_autocast(kind):
    model = toy_model(autocast_dtype="bfloat16").eval()
    model.add_part("question_answering_head", kind=kind)
    randomize(model)
    tokens = masked_batch()["src_tokens"]
    answerable, starts = tokens > 20, torch.tensor([3, 0, 5])
    head, hidden = model.question_answering_head, model.features(tokens).float()
    with torch.autocast("cpu", torch.bfloat16):
        spans = model(
            tokens, output="question_answering_head", answerable=answerable, starts=starts
        )
    for logits, expected in zip(spans, head(hidden, answerable, starts), strict=True):
        assert (logits is None) == (expected is None)
        assert logits is None or torch.equal(logits, expected)
        if logits is not None and logits.is_floating_point():
            assert logits.dtype == torch.float32
            assert logits.to(torch.bfloat16).ne(logits).any()
