"""The walk from masked tokens to the discriminator's logits, one step at a time."""

import numpy as np
import pytest
import torch

from convbert_plugin.models.architectures import released_generator_size
from user_dir_tests.models.building import (
    PAD,
    UNKNOWN,
    empty_model,
    masked_batch,
    randomize,
    toy_model,
)

pytestmark = pytest.mark.pretraining


@pytest.fixture
def model():
    return randomize(toy_model(generator=True), std=0.3).double().eval()


@torch.no_grad()
def test_sampled_tokens_come_from_the_generator_s_distribution(model):
    batch = masked_batch()
    batch["uniforms"] = batch["uniforms"].double()
    output = model(**batch)
    inputs = (batch[name] for name in ("src_tokens", "segments", "masked_positions"))
    log_probs = model.masked_lm_log_probs(*inputs)
    assert torch.allclose(log_probs.exp().sum(1), torch.ones(18).double())
    of_targets = log_probs.gather(1, batch["masked_targets"][:, None])
    assert torch.allclose(output.masked_lm_loss, -of_targets.sum())
    assert torch.equal(output.guessed, log_probs.argmax(1))
    cumulative = log_probs.exp().numpy().cumsum(axis=1)
    expected = [
        np.searchsorted(row / row[-1], uniform, side="right")
        for row, uniform in zip(cumulative, batch["uniforms"].numpy(), strict=True)
    ]
    assert output.sampled.tolist() == expected


@torch.no_grad()
def test_the_discriminator_sees_the_samples_in_the_original_text(model):
    batch = masked_batch()
    output = model(**batch)
    expected = batch["src_tokens"].flatten().clone()
    for position, token in zip(batch["masked_positions"], output.sampled, strict=True):
        expected[position] = token
    expected = expected.view_as(batch["src_tokens"])
    assert torch.equal(output.corrupted, expected)
    assert torch.equal(output.corrupted.eq(PAD), batch["src_tokens"].eq(PAD))
    logits = model.replaced_logits(expected, model._inputs(batch["src_tokens"], None, None)[1])
    assert torch.equal(output.replaced_logits, logits)


@torch.no_grad()
def test_a_sampled_pad_is_a_replaced_token_like_any_other(model):
    """As released: what is padding is a matter of the text, not of what the generator draws."""
    word = UNKNOWN
    model.embeddings.tokens.weight[word] = model.embeddings.tokens.weight[PAD]
    logits = {}
    for drawn in (PAD, word):
        model.generator.head.bias.zero_()
        model.generator.head.bias[drawn] = 1e4
        output = model(**masked_batch())
        assert output.sampled.eq(drawn).all()
        logits[drawn] = output.replaced_logits
    assert torch.equal(logits[PAD], logits[word])


@torch.no_grad()
def test_segments_are_those_of_the_masked_text(model):
    """Separators sampled before the first true one must not move them."""
    batch = masked_batch()
    batch["src_tokens"][:, [5, 15]] = batch["src_tokens"][:, [15, 5]]
    given = model._inputs(batch["src_tokens"], None, None)[1]
    explicit = model(**{**batch, "segments": given})
    separators = torch.full_like(batch["masked_targets"], model.vocabulary.eos())
    model.generator.head.bias[model.vocabulary.eos()] = 1e4
    output = model(**batch)
    assert torch.equal(output.sampled, separators)
    logits = model.replaced_logits(output.corrupted, given)
    assert torch.equal(output.replaced_logits, logits)
    assert not torch.equal(explicit.sampled, separators)


@torch.no_grad()
def test_a_position_drawn_twice_gets_the_mean_of_its_samples(model):
    batch = masked_batch(rows=1)
    first = batch["masked_positions"][0]
    batch["masked_positions"] = torch.cat([batch["masked_positions"], first[None]])
    batch["masked_targets"] = torch.cat([batch["masked_targets"], batch["masked_targets"][:1]])
    batch["uniforms"] = torch.cat([batch["uniforms"], 1 - batch["uniforms"][:1]])
    output = model(**batch)
    twice = output.sampled[[0, -1]].tolist()
    assert twice[0] != twice[1]
    assert output.corrupted.flatten()[first] == sum(twice) // 2


@torch.no_grad()
def test_one_example_samples_the_same_in_any_batch(model):
    batch = masked_batch()
    rows = len(batch["src_tokens"])
    order = [2, 0, 1]
    count = len(batch["uniforms"]) // rows
    moved = {
        "src_tokens": batch["src_tokens"][order],
        "output": batch["output"],
        "masked_positions": batch["masked_positions"],
        "masked_targets": batch["masked_targets"].view(rows, count)[order].flatten(),
        "uniforms": batch["uniforms"].view(rows, count)[order].flatten(),
    }
    expected = model(**batch).corrupted[order]
    assert torch.equal(model(**moved).corrupted, expected)


def test_features_where_nothing_is_masked(model):
    tokens = masked_batch()["src_tokens"]
    states = model.hidden_states(tokens)
    assert len(states) == model.cfg.encoder_layers + 1
    assert torch.equal(model(tokens), states[-1])


@pytest.mark.parametrize(
    ("architecture", "hidden"),
    [
        ("convbert_small", 64),
        ("convbert_medium", 96),
        ("convbert_base", 256),
        ("electra_small", 64),
        ("electra_base", 256),
    ],
)
def test_the_released_generator_is_the_default(architecture, hidden):
    model = empty_model(architecture)
    with torch.device("meta"):
        model.add_generator()
    assert model.generator.stack.embedding_projection.out_features == hidden
    expected = 1 / 3 if architecture.endswith("base") else 1 / 4
    assert released_generator_size(architecture) == expected
