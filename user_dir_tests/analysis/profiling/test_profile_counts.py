"""Parameters and FLOPs of profiles, beside models that were built and published counts."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from convbert_plugin.analysis.profiling.subjects import SIZE_OPTIONS
from convbert_plugin.models.architectures import ARCHITECTURES, BASE
from user_dir_tests.analysis.profiling.profiled_models import (
    SWITCHES,
    TOY_OPTIONS,
    built,
    full_batch,
    loss_of,
    profile,
    without_values,
    words,
)

pytestmark = pytest.mark.experiments

# The reference's columns, counted by hand from the released code.
ENCODERS = {
    "convbert_small": 13_143_768,
    "convbert_medium": 17_475_888,
    "convbert_base": 105_680_520,
    "electra_small": 13_483_008,
}
# The paper's table 3, and what the script of ELECTRA's authors prints for theirs.
PUBLISHED_FLOPS = {
    "convbert_small": 1.26e18,
    "convbert_medium": 1.57e18,
    "convbert_base": 1.89e19,
    "electra_small": 1.29e18,
    "electra_base": 6.43e19,
}


def size_of(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def counts_of(model):
    encoder = size_of(model.embeddings) + size_of(model.encoder)
    return {
        "layer": size_of(model.encoder.layers[0]),
        "encoder": encoder,
        "all": size_of(model),
    }


def found_counts(found):
    return {name: found["parameters"][name] for name in ("layer", "encoder", "all")}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_parameters_of_the_named_sizes(arch):
    found = profile(arch)
    assert found_counts(found) == counts_of(without_values(arch, {}))
    assert found["parameters"]["encoder"] == ENCODERS.get(arch, found["parameters"]["encoder"])


@pytest.mark.parametrize("changes", SWITCHES, ids=words)
def test_parameters_with_every_switch(changes):
    options = {**TOY_OPTIONS, **changes}
    found = profile("convbert_small", **options)
    assert found_counts(found) == counts_of(without_values("convbert_small", options))


def test_parameters_of_the_parts():
    """By the names of the modules that learn them."""
    model = without_values("convbert_base", {})
    found = profile("convbert_base")["parameters"]["parts"]
    layer = model.encoder.layers[0]
    attention, branch = layer.attention, layer.attention.conv_branch
    layers = {
        "query, key, value": [attention.query, attention.key, attention.value],
        "span key": [branch.span_key],
        "kernels": [branch.conv],
        "convolution value": [attention.conv_value],
        "output layer": [attention.output],
        "feed-forward": [layer.feed_forward],
        "LayerNorms": [layer.attention_layer_norm, layer.feed_forward_layer_norm],
    }
    assert found["encoder"] == {
        "embeddings": size_of(model.embeddings),
        **{part: 12 * sum(map(size_of, modules)) for part, modules in layers.items()},
        "head": size_of(model.replaced_token_head),
    }
    generator = found["generator"]
    assert generator["head"] == size_of(model.generator.head)
    assert sum(generator.values()) == size_of(model.generator)


# Of L layers of hidden size d, inner size F, with N heads of size s (a = N s), K taps, g groups.
L, D, F, K = 12, 768, 3072, 9


def attention_parameters(heads, size=64):
    """Query, key, value, and the output layer of both branches or of one."""
    return 3 * (D + 1) * heads * size


def span_parameters(heads, taps=K, size=64):
    """Depthwise and pointwise convolution, kernels, value, and the output layer's second half."""
    width = heads * size
    return D * taps + (D + 1) * width + (width + 1) * heads * taps + (D + 1) * width + width * D


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"conv_type": "none"}, -L * span_parameters(6)),
        ({"conv_type": "dynamic"}, -L * (D * K + (D + 1) * 384)),
        ({"conv_type": "light"}, -L * (D * K + (D + 1) * 384 + 384 * 6 * K)),
        ({"conv_type": "conv"}, L * (384 * 384 * K + 384 - D * K - (D + 1) * 384 - 385 * 6 * K)),
        (
            {"head_ratio": 1},
            L
            * (
                attention_parameters(12)
                - attention_parameters(6)
                + span_parameters(12)
                - span_parameters(6)
                + 384 * D
            ),
        ),
        ({"conv_kernel_size": 17}, L * 8 * (D + 385 * 6)),
        ({"ffn_groups": 4}, -L * 2 * D * F * 3 // 4),
        ({"encoder_ffn_embed_dim": 1536}, -L * 1536 * (2 * D + 1)),
        ({"max_positions": 1024}, 512 * D),
        ({"vocabulary": 30000}, -522 * D),
    ],
    ids=lambda value: words(value) if isinstance(value, dict) else "",
)
def test_closed_formulas_of_the_switches(changes, difference):
    before, after = profile("convbert_base"), profile("convbert_base", **changes)
    assert after["parameters"]["encoder"] - before["parameters"]["encoder"] == difference


@pytest.mark.parametrize("arch", PUBLISHED_FLOPS)
def test_published_flops(arch):
    found = profile(arch)["flops"]["authors"]["training"]
    assert found == pytest.approx(PUBLISHED_FLOPS[arch], rel=0.005)


def electra_flops(width, head, length, embedding=768, vocabulary=30522):
    """The forward of one token through twelve layers of ELECTRA, by its authors' rules."""
    heads = max(1, width // 64)
    one_hot = 2 * embedding * (vocabulary + length + 2) + (2 + 5 + 4) * embedding
    project = (2 * embedding + 1) * width if embedding != width else 0
    softmax, dropout, norm, gelu = 5, 4, 5, 8
    attention = 4 * (2 * width * width + width) + 4 * width * length
    attention += heads * length * (softmax + dropout + 1)
    feed_forward = 16 * width * width + 4 * width * (1 + gelu) + width
    around = 2 * width * (dropout + 1 + norm)
    # Theirs has no bias of the one logit, and one LayerNorm of the two as of a single number.
    as_they_have_it = 12 * norm * (width - 1)
    return one_hot + project + 12 * (attention + feed_forward + around) + head, as_they_have_it


@pytest.mark.parametrize(
    ("arch", "width", "generator", "embedding", "length"),
    [("electra_small", 256, 64, 128, 128), ("electra_base", 768, 256, 768, 512)],
)
def test_electra_by_the_rules_of_its_authors(arch, width, generator, embedding, length):
    detect = 2 * width * width + width + 8 * width + 2 * width + 1
    guess = (2 * generator + 1) * embedding + 13 * embedding + 30522 * (2 * embedding + 7)
    networks = (
        electra_flops(width, detect, length, embedding),
        electra_flops(generator, guess * 5 / 32, length, embedding),
    )
    found = profile(arch)["flops"]["authors"]["forward"]
    assert found == pytest.approx(sum(forward for forward, _ in networks), rel=1e-12)
    slip = sum(slip for _, slip in networks)
    assert 0 < slip < 1e-3 * found


def counted(run) -> int:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("changes", SWITCHES, ids=words)
def test_torch_counts_as_many_flops_in_a_step(changes):
    options = {**TOY_OPTIONS, **changes}
    model = built("convbert_small", options)
    # 15.5% of 19 tokens, rounded down.
    batch = full_batch(3, 19, 2, options["vocabulary"])
    found = profile("convbert_small", **options)["flops"]["usual"]
    assert found["update"] == counted(lambda: loss_of(model, batch).backward())
    assert found["backward"] == 2 * found["forward"] == pytest.approx(found["update"] / 57 * 2 / 3)
    with torch.no_grad():
        forward = counted(lambda: model(batch["src_tokens"], batch["segments"], has_pads=False))
    assert found["encoder_forward"] == pytest.approx(forward / 57, rel=1e-12)


def test_torch_counts_as_many_flops_in_a_step_of_the_small_model():
    model = built("convbert_small", {"dropout": 0.0, "attention_dropout": 0.0})
    batch = full_batch(1, 128, 19, 30522)
    found = profile("convbert_small", batch_size=1)["flops"]["usual"]["update"]
    assert found == counted(lambda: loss_of(model, batch).backward())


def test_every_size_is_an_option():
    assert SIZE_OPTIONS.keys() == BASE.keys()
