"""Before training, the losses are those of someone who knows nothing."""

from math import log

import pytest
import torch
import torch.nn.functional as F

from convbert_plugin.models.architectures import ARCHITECTURES, released_generator_size
from convbert_plugin.models.config import ConvBertConfig, stack_shape
from convbert_plugin.models.parts import REPLACED_TOKEN_HEAD
from convbert_plugin.modules.embeddings import Embeddings
from convbert_plugin.modules.generator import Generator
from user_dir_tests.models.building import (
    MASK,
    PAD,
    RELEASED_VOCABULARY,
    masked_batch,
    model_of,
    random_tokens,
)

pytestmark = pytest.mark.pretraining

# Initializing a body takes ten times as long as drawing a head for it.
BODIES, HEADS = 4, 5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_the_generator_s_loss_is_that_of_an_even_guess(architecture):
    """Its parts alone: to initialize the base discriminator beside them takes ten seconds."""
    torch.manual_seed(1)
    cfg = ConvBertConfig(**ARCHITECTURES[architecture])
    shape = stack_shape(cfg).generator(released_generator_size(architecture))
    embeddings = Embeddings(RELEASED_VOCABULARY, cfg.max_positions, cfg.embedding_dim, 0.0)
    generator = Generator(shape, RELEASED_VOCABULARY).eval()
    tokens = random_tokens(4, 64)
    positions = torch.arange(0, tokens.numel(), 3)
    masked = tokens.flatten().index_fill(0, positions, MASK).view_as(tokens)
    embedded = embeddings(masked, torch.zeros_like(masked))
    hidden = generator(embedded, masked.eq(PAD), positions)
    logits = generator.head(hidden, embeddings.tokens.weight)
    loss = F.cross_entropy(logits, tokens.flatten()[positions]).item()
    assert loss == pytest.approx(log(RELEASED_VOCABULARY), rel=0.02)


@pytest.mark.slow
@torch.no_grad()
def test_the_discriminator_s_loss_is_that_of_a_coin():
    """In the mean over heads: the Glorot-uniform output of a single one moves it."""
    losses = []
    for seed in range(BODIES):
        torch.manual_seed(seed)
        model = model_of("convbert_small", 997)
        model.add_generator()
        batch = masked_batch(rows=4, length=64, vocabulary=997, seed=seed)
        output = model.eval()(**batch)
        original = batch["src_tokens"].flatten().clone()
        original[batch["masked_positions"]] = batch["masked_targets"]
        replaced = output.corrupted.ne(original.view_as(output.corrupted)).float()
        real = batch["src_tokens"].ne(PAD)
        logits = [output.replaced_logits]
        for _ in range(HEADS - 1):
            model.add_part(REPLACED_TOKEN_HEAD)
            logits.append(model.replaced_logits(output.corrupted))
        losses += [
            F.binary_cross_entropy_with_logits(each[real], replaced[real]).item() for each in logits
        ]
    assert sum(losses) / len(losses) == pytest.approx(log(2), rel=0.1)


@torch.no_grad()
def test_the_whole_model_s_generator_loss():
    torch.manual_seed(1)
    model = model_of("convbert_small")
    model.add_generator()
    batch = masked_batch(rows=8, length=64, vocabulary=RELEASED_VOCABULARY)
    output = model.eval()(**batch)
    loss = output.masked_lm_loss.item() / len(batch["masked_targets"])
    assert loss == pytest.approx(log(RELEASED_VOCABULARY), rel=0.02)
