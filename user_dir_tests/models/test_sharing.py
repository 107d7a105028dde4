"""What generator and discriminator share, and what they do not."""

import pytest
import torch
import torch.nn.functional as F

from user_dir_tests.models.building import (
    PAD,
    START,
    UNKNOWN,
    masked_batch,
    randomize,
    toy_model,
)
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.pretraining


@pytest.fixture
def model():
    return randomize(toy_model(generator=True), std=0.3).double()


def generator_loss(model, batch):
    log_probs = model.masked_lm_log_probs(
        batch["src_tokens"], batch["segments"], batch["masked_positions"]
    )
    return F.nll_loss(log_probs, batch["masked_targets"])


def discriminator_loss(model, batch):
    output = model(**batch)
    return F.binary_cross_entropy_with_logits(
        output.replaced_logits, output.corrupted.ne(batch["src_tokens"]).float()
    )


def parameters_with_gradient(model, loss):
    loss.backward()
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_the_generator_has_no_embeddings_of_its_own(model):
    rows = len(model.vocabulary)
    tables = [
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if parameter.dim() == 2 and parameter.size(0) in (rows, model.cfg.max_positions)
    ]
    assert tables == ["embeddings.tokens.weight", "embeddings.positions.weight"]
    assert not any(isinstance(part, torch.nn.Embedding) for part in model.generator.modules())
    assert {name for name, _ in model.generator.named_children()} == {"stack", "head"}


def test_each_has_its_own_projection_and_layers(model):
    own = set(map(id, model.generator.parameters()))
    shared = own & set(map(id, model.encoder.parameters()))
    assert shared == set()
    assert model.generator.stack.embedding_projection.weight.shape == (14, 10)
    assert model.encoder.embedding_projection.weight.shape == (42, 10)


EMBEDDINGS = {
    "embeddings.tokens.weight",
    "embeddings.positions.weight",
    "embeddings.segments.weight",
    "embeddings.layer_norm.weight",
    "embeddings.layer_norm.bias",
}


def test_both_losses_reach_the_embeddings_and_their_layer_norm(model):
    batch = masked_batch()
    for loss, part in ((generator_loss, "generator"), (discriminator_loss, "encoder")):
        model.zero_grad()
        reached = parameters_with_gradient(model, loss(model, batch))
        assert reached >= EMBEDDINGS
        assert all(model.get_parameter(name).grad.any() for name in EMBEDDINGS)
        assert any(name.startswith(part) for name in reached)


def test_the_discriminator_s_loss_does_not_reach_the_generator(model):
    reached = parameters_with_gradient(model, discriminator_loss(model, masked_batch()))
    assert not any(name.startswith("generator") for name in reached)


def test_the_generator_s_loss_does_not_reach_the_discriminator(model):
    reached = parameters_with_gradient(model, generator_loss(model, masked_batch()))
    assert not any(name.startswith(("encoder", "replaced_token_head")) for name in reached)


def test_the_softmax_matrix_is_the_token_table(model):
    """The table's gradient is the sum of what its two uses give, each with a copy of its own."""
    batch = masked_batch()
    tokens, positions = batch["src_tokens"], batch["masked_positions"]
    generator_loss(model, batch).backward()
    total = model.embeddings.tokens.weight.grad.clone()
    table = model.embeddings.tokens.weight.detach()
    as_input, as_output = table.clone().requires_grad_(), table.clone().requires_grad_()
    segments = model._inputs(tokens, None, None)[1]
    summed = as_input[tokens] + model.embeddings.segments(segments)
    summed = summed + model.embeddings.positions.weight[: tokens.size(1)]
    embedded = model.embeddings.layer_norm(summed)
    logits = model.generator.head(model.generator(embedded, tokens.eq(PAD), positions), as_output)
    F.cross_entropy(logits, batch["masked_targets"]).backward()
    assert as_input.grad.any()
    assert as_output.grad.any()
    expected = as_input.grad + as_output.grad
    assert relative_error(total, expected) <= TOLERANCES[torch.float64]["block"]


def test_the_table_s_gradient_equals_finite_differences(model):
    batch = masked_batch()
    table = model.embeddings.tokens.weight
    generator_loss(model, batch).backward()
    seen = set(batch["src_tokens"].flatten().tolist())
    unseen = next(token for token in range(START + 3, len(model.vocabulary)) if token not in seen)
    assert UNKNOWN not in seen
    # input and output; output alone, twice; and the pad, which stands in the input too
    rows = (START, unseen, UNKNOWN, PAD)
    assert table.grad[list(rows)].any(dim=1).all()
    step = 1e-3
    for row in rows:
        losses = {}
        for count in (-2, -1, 1, 2):
            with torch.no_grad():
                table[row, 3] += count * step
                losses[count] = generator_loss(model, batch).item()
                table[row, 3] -= count * step
        expected = 8 * (losses[1] - losses[-1]) - (losses[2] - losses[-2])
        expected /= 12 * step
        error = abs(table.grad[row, 3].item() - expected)
        assert error <= TOLERANCES[torch.float64]["finite_difference"] * table.grad.abs().max()
