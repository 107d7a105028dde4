"""Sizes that do not fit are refused in one line that names the option."""

import itertools

import pytest
import torch

from convbert_plugin.errors import UserError
from convbert_plugin.modules.convolution import CONV_BRANCHES
from convbert_plugin.modules.layer import ConvBertStack
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
    switches = {"pads_visible": True, "compile": True, "checkpoint_activations": True}
    discriminator = shape_of(**sizes, **switches, dropout=0.3)
    generator = discriminator.generator(fraction)
    assert (generator.hidden, generator.heads, generator.ffn_hidden) == expected
    same = {"embedding_dim", "layers", "ffn_groups", "head_ratio", "conv_kernel_size", "conv_type"}
    same |= {"conv_backend", "dropout", "attention_dropout", "pads_visible"}
    same |= {"compile", "checkpoint_activations"}
    assert all(getattr(generator, name) == getattr(discriminator, name) for name in same)


def of_the_same_tensors():
    """Stacks of one layer by the shapes of their tensors."""
    groups = {}
    options = itertools.product(
        (2, 3, 4, 6, 12), (1, 2, 4, 5), CONV_BRANCHES, (3, 5), (False, True)
    )
    for heads, ratio, conv_type, taps, pads_visible in options:
        shape = shape_of(
            **{"hidden": 12, "heads": heads, "head_ratio": ratio, "conv_type": conv_type},
            **{"layers": 1, "conv_kernel_size": taps, "pads_visible": pads_visible},
        )
        stack = ConvBertStack(shape).eval()
        sizes = tuple((name, tensor.shape) for name, tensor in stack.state_dict().items())
        groups.setdefault(sizes, []).append((shape, stack))
    return [group for group in groups.values() if len(group) > 1]


@torch.no_grad()
def test_shapes_are_unlike_where_the_same_tensors_give_something_else():
    generator = torch.Generator().manual_seed(1)
    embedded = torch.randn(2, 9, 10, generator=generator)
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[1, 6:] = True
    told = set()
    for (shape, stack), *others in of_the_same_tensors():
        for parameter in stack.parameters():
            parameter.normal_(std=0.3, generator=generator)
        expected = stack(embedded, padding)[~padding]
        for other, built in others:
            built.load_state_dict(stack.state_dict())
            is_same = torch.allclose(built(embedded, padding)[~padding], expected, atol=1e-5)
            assert (shape.unlike(other) is None) == is_same, (shape, other)
            told |= {word for word in (shape.unlike(other) or "").split() if word[:2] == "--"}
    # Convolutions of two types never have the same tensors.
    options = {"--encoder-attention-heads", "--head-ratio", "--conv-kernel-size", "--pads-visible"}
    assert told == options


def test_what_does_not_change_the_function_is_not_told():
    shape = shape_of(heads=6, head_ratio=4)
    for changes in ({"head_ratio": 5}, {"dropout": 0.3}, {"conv_backend": "fairseq"}):
        assert shape.unlike(shape_of(**{"heads": 6, "head_ratio": 4, **changes})) is None
    assert shape_of().unlike(shape_of(heads=14)) == "--encoder-attention-heads 7 (here 14)"
