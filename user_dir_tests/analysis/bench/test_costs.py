"""The formulas against torch's own count of what models of transformers, and ours, compute."""

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from convbert_plugin.analysis.bench.costs import OpSize
from convbert_plugin.analysis.bench.peers import peer_model
from convbert_plugin.analysis.profiling.operations import stack_flops, step_flops, with_backward
from convbert_plugin.analysis.profiling.recipes import RECIPES
from convbert_plugin.models.config import ConvBertConfig, stack_shape
from user_dir_tests.models.building import random_tokens, toy_model

pytestmark = pytest.mark.speed

BATCH, LENGTH, VOCABULARY = 3, 19, 53
# Odd and unequal, but for what transformers can represent.
OPTIONS = {
    "encoder_layers": 3,
    "encoder_embed_dim": 40,
    "encoder_ffn_embed_dim": 56,
    "encoder_attention_heads": 8,
    "embedding_dim": 14,
    "conv_kernel_size": 5,
    "max_positions": 37,
}
CONVBERT = ConvBertConfig(**OPTIONS, head_ratio=2)
ELECTRA = ConvBertConfig(**OPTIONS, head_ratio=1, conv_type="none")


def counted(run) -> int:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("cfg", [CONVBERT, replace(CONVBERT, ffn_groups=2), ELECTRA])
def test_forward_of_an_encoder_of_transformers(cfg):
    model = peer_model("Model", cfg, VOCABULARY).eval()
    tokens = random_tokens(BATCH, LENGTH, vocabulary=VOCABULARY)
    with torch.no_grad():
        found = counted(lambda: model(tokens))
    assert found == stack_flops(stack_shape(cfg), BATCH, LENGTH)


def test_backward_of_an_encoder_of_transformers():
    # ConvBERT's would count its depthwise convolution as a full one.
    model = peer_model("Model", ELECTRA, VOCABULARY)
    tokens = random_tokens(BATCH, LENGTH, vocabulary=VOCABULARY)
    found = counted(lambda: model(tokens).last_hidden_state.sum().backward())
    assert found == with_backward(stack_flops(stack_shape(ELECTRA), BATCH, LENGTH))


@pytest.mark.parametrize("conv_type", ["span_dynamic", "dynamic", "light", "conv", "none"])
def test_every_convolution_here(conv_type):
    model = toy_model(conv_type=conv_type)
    tokens = random_tokens(BATCH, LENGTH, vocabulary=VOCABULARY)
    expected = stack_flops(model.shape, BATCH, LENGTH)
    with torch.no_grad():
        assert counted(lambda: model(tokens, has_pads=False)) == expected
    both = counted(lambda: model(tokens, has_pads=False).sum().backward())
    assert both == with_backward(expected)


def test_a_step_from_the_parts_of_transformers():
    """Only the masked tokens go through the vocabulary, which is not how transformers has it."""
    masked = 7
    cfg = replace(ELECTRA, encoder_embed_dim=24, encoder_ffn_embed_dim=96)
    generator = peer_model("ForMaskedLM", cfg, VOCABULARY).eval()
    discriminator = peer_model("ForPreTraining", ELECTRA, VOCABULARY).eval()
    tokens = random_tokens(BATCH, LENGTH, vocabulary=VOCABULARY)

    def step():
        hidden = generator.electra(tokens).last_hidden_state.flatten(0, 1)[:masked]
        generator.generator_lm_head(generator.generator_predictions(hidden))
        discriminator(tokens)

    with torch.no_grad():
        found = counted(step)
    shapes = stack_shape(ELECTRA), stack_shape(cfg)
    assert step_flops(*shapes, VOCABULARY, BATCH, LENGTH, masked) == with_backward(found)


def test_what_the_op_must_touch():
    value, logits = torch.zeros(2, 5, 12), torch.zeros(2, 5, 3, 7)
    size = OpSize(batch=2, length=5, channels=12, heads=3, taps=7)
    read, written = [value, logits], [value]
    assert size.numbers(backward=False) == sum(map(torch.numel, read + written))
    # The gradient of the output is as large as the value.
    read, written = [value, logits, value], [value, logits]
    assert size.numbers(backward=True) - size.numbers(backward=False) == sum(
        map(torch.numel, read + written)
    )


def test_hours_of_a_recipe():
    # 1 M updates of 256 x 128 tokens = 32.768 G tokens.
    assert RECIPES["convbert_base"].hours(1e6) == pytest.approx(32768 / 3600)
