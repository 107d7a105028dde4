"""Sizes that do not fit are refused in one line that names the option."""

import pytest

from convbert_plugin.errors import UserError
from convbert_plugin.modules.mixed_attention import MixedAttention
from convbert_plugin.modules.shape import released_heads
from user_dir_tests.modules.building import shape_of

pytestmark = pytest.mark.pretraining


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"conv_kernel_size": 4}, "--conv-kernel-size"),
        ({"conv_kernel_size": 0}, "--conv-kernel-size"),
        ({"conv_kernel_size": -3}, "--conv-kernel-size"),
        ({"heads": 5}, "--encoder-attention-heads"),
        ({"hidden": 40}, "--encoder-embed-dim"),
        ({"ffn_groups": 4}, "--ffn-groups"),
        ({"ffn_hidden": 53}, "--encoder-ffn-embed-dim"),
        ({"hidden": 0}, "--encoder-embed-dim"),
        ({"layers": 0}, "--encoder-layers"),
        ({"layers": -1}, "--encoder-layers"),
        ({"heads": 0}, "--encoder-attention-heads"),
        ({"ffn_hidden": 0}, "--encoder-ffn-embed-dim"),
        ({"embedding_dim": 0}, "--embedding-dim"),
        ({"ffn_groups": 0}, "--ffn-groups"),
        ({"head_ratio": 0}, "--head-ratio"),
        ({"dropout": 1.5}, "--dropout"),
        ({"attention_dropout": -1.0}, "--attention-dropout"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_that_names_the_option(changes, option):
    with pytest.raises(UserError) as raised:
        shape_of(**changes)
    line = str(raised.value)
    assert option in line
    assert "\n" not in line


@pytest.mark.parametrize("fraction", [0, -0.25, 1.01, float("nan"), float("inf")])
def test_a_generator_s_size_is_a_fraction(fraction):
    with pytest.raises(UserError, match="--generator-size") as raised:
        shape_of().generator(fraction)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("fraction", [0.001, 0.3])
def test_a_generator_that_does_not_fit_is_blamed_on_its_size(fraction):
    """Nothing is left of a hidden size of 42, or 13, which two heads do not divide."""
    with pytest.raises(UserError, match="--generator-size"):
        shape_of().generator(fraction)


def test_an_unknown_convolution_is_refused():
    with pytest.raises(UserError, match="--conv-type attention: choose one of span_dynamic"):
        MixedAttention(shape_of(conv_type="attention"))


@pytest.mark.parametrize(
    ("hidden", "heads", "ratio", "expected"),
    [
        (256, 4, 2, (2, 64)),
        (384, 8, 2, (4, 48)),
        (768, 12, 2, (6, 64)),
        (768, 12, 1, (12, 64)),
        (768, 12, 3, (4, 64)),
        (768, 12, 4, (3, 64)),
        (768, 12, 5, (2, 64)),
        (64, 1, 2, (1, 64)),
        (96, 2, 2, (1, 48)),
        (256, 4, 8, (1, 64)),
    ],
)
def test_heads_after_the_ratio(hidden, heads, ratio, expected):
    assert released_heads(hidden, heads, ratio) == expected


@pytest.mark.parametrize(
    ("hidden", "heads", "fraction", "expected"),
    [
        # hidden, heads, feed-forward of the released generators
        (256, 4, 1 / 4, (64, 1, 256)),
        (384, 8, 1 / 4, (96, 2, 384)),
        (768, 12, 1 / 3, (256, 4, 1024)),
        (768, 12, 0.333, (256, 4, 1024)),
        (768, 12, 1, (768, 12, 3072)),
        # a fraction that leaves no whole head leaves one
        (256, 4, 1 / 8, (32, 1, 128)),
    ],
)
def test_the_generator_s_sizes(hidden, heads, fraction, expected):
    sizes = {"hidden": hidden, "heads": heads, "ffn_hidden": 4 * hidden, "conv_type": "dynamic"}
    discriminator = shape_of(**sizes, pads_visible=True, dropout=0.3)
    generator = discriminator.generator(fraction)
    assert (generator.hidden, generator.heads, generator.ffn_hidden) == expected
    same = {"embedding_dim", "layers", "ffn_groups", "head_ratio", "conv_kernel_size", "conv_type"}
    same |= {"conv_backend", "dropout", "attention_dropout", "pads_visible"}
    assert all(getattr(generator, name) == getattr(discriminator, name) for name in same)
