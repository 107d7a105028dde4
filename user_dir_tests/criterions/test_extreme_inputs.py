"""Losses and gradients at the edges, under autocast on every device, against float64."""

import copy

import pytest
import torch
from fairseq import utils

from convbert_plugin.data.collation import PRETRAINING
from user_dir_tests.tolerances import TOLERANCES

pytestmark = [pytest.mark.pretraining, pytest.mark.speed]

HALVES = pytest.mark.parametrize("precision", ["bfloat16", "float16"])
# fp16 ends at 65,504.
LARGE_LOGIT = 1e4
# What a scaler of losses comes down to before gradients of such logits fit into fp16.
SCALE = 2.0**-14


def of_tokens(tokens, vocabulary, masked):
    """A batch of these tokens, the masked among them hidden and to be guessed."""
    positions = masked.flatten().nonzero()[:, 0]
    targets = tokens.flatten()[positions]
    inputs = {
        "src_tokens": tokens.masked_fill(masked, vocabulary.mask()),
        "segments": torch.zeros_like(tokens),
        "has_pads": bool(tokens.eq(vocabulary.pad()).any()),
        "output": PRETRAINING,
        "masked_positions": positions,
        "masked_targets": targets,
    }
    count = int(tokens.ne(vocabulary.pad()).sum())
    counts = {"ntokens": count, "slots": tokens.numel(), "nsentences": len(tokens)}
    return {"net_input": inputs, "target": targets, **counts}


def every_fifth(tokens):
    return (torch.arange(tokens.numel()) % 5 == 2).view_as(tokens)


def words(vocabulary, *shape):
    ids = torch.tensor([vocabulary.index(f"w{number}") for number in range(21)])
    return ids[torch.randint(len(ids), shape, generator=torch.Generator().manual_seed(1))]


def all_masked(vocabulary):
    tokens = words(vocabulary, 3, 17)
    return of_tokens(tokens, vocabulary, torch.ones_like(tokens, dtype=torch.bool))


def none_masked(vocabulary):
    tokens = words(vocabulary, 3, 17)
    return of_tokens(tokens, vocabulary, torch.zeros_like(tokens, dtype=torch.bool))


def a_row_of_pads(vocabulary):
    tokens = words(vocabulary, 3, 17)
    masked = every_fifth(tokens)
    tokens[1], masked[1] = vocabulary.pad(), False
    return of_tokens(tokens, vocabulary, masked)


def nothing_but_pads(vocabulary):
    tokens = torch.full((2, 9), vocabulary.pad())
    return of_tokens(tokens, vocabulary, torch.zeros_like(tokens, dtype=torch.bool))


def one_token(vocabulary):
    return of_tokens(words(vocabulary, 1, 1), vocabulary, torch.tensor([[True]]))


def usual(vocabulary):
    tokens = words(vocabulary, 4, 32)
    return of_tokens(tokens, vocabulary, every_fifth(tokens))


EDGES = (all_masked, none_masked, a_row_of_pads, nothing_but_pads, one_token)


def masked_lm_log_probs(model, batch):
    names = ("src_tokens", "segments", "masked_positions", "has_pads")
    return model.masked_lm_log_probs(*(batch["net_input"][name] for name in names))


@torch.no_grad()
def draw_the_likeliest(model, batch):
    """Uniform numbers from the middles of the likeliest tokens, so that no rounding moves them."""
    chances = masked_lm_log_probs(model, batch).exp()
    likeliest = chances.max(-1)
    ends = chances.cumsum(-1).gather(1, likeliest.indices[:, None])[:, 0]
    batch["net_input"]["uniforms"] = ends - likeliest.values / 2


def loss_and_gradients(bench, model, batch, device, scale=1.0):
    model.zero_grad()
    batch = utils.apply_to_sample(lambda tensor: tensor.to(device), batch)
    loss, _, log = bench.criterion(model, batch)
    (loss * scale).backward()
    learning = {name: p for name, p in model.named_parameters() if p.grad is not None}
    gradients = {name: parameter.grad / scale for name, parameter in learning.items()}
    return loss, gradients, log


def assert_close_to_float64(bench, batch, device, precision, scale=1.0):
    draw_the_likeliest(bench.model, batch)
    expected, expected_gradients, _ = loss_and_gradients(bench, bench.model, batch, "cpu")
    model = copy.deepcopy(bench.model).float().to(device)
    model.cfg.autocast_dtype = precision
    loss, gradients, log = loss_and_gradients(bench, model, batch, device, scale)
    bound = TOLERANCES[getattr(torch, precision)]["model"]
    assert abs(loss.item() - expected.item()) <= bound * abs(expected.item())
    assert all(torch.isfinite(torch.as_tensor(value)).all() for value in log.values())
    largest = max(gradient.abs().max() for gradient in expected_gradients.values())
    for name, oracle in expected_gradients.items():
        error = (gradients[name].cpu() - oracle).abs().max()
        # Twice the way, there and back.
        assert error <= 2 * bound * largest, name


@HALVES
@pytest.mark.parametrize("edge", EDGES)
def test_batches_at_the_edges(bench, device, precision, edge):
    bench = bench()
    assert_close_to_float64(bench, edge(bench.task.vocabulary), device, precision)


@HALVES
def test_a_batch_without_masks_teaches_what_its_tokens_are(bench, device, precision):
    """The loss is the discriminator's alone, and the generator learns nothing."""
    bench = bench()
    bench.model.float().to(device).cfg.autocast_dtype = precision
    batch = none_masked(bench.task.vocabulary)
    batch["net_input"]["uniforms"] = torch.zeros(0, dtype=torch.float64)
    loss, gradients, log = loss_and_gradients(bench, bench.model, batch, device)
    assert loss.item() > 0
    assert log["generator_loss"] == 0
    assert not any(g.any() for name, g in gradients.items() if name.startswith("generator."))


@torch.no_grad()
def enlarge_logits(model, batch):
    """Until the largest of each head are as large as is asked for."""
    logits = masked_lm_log_probs(model, batch)
    model.generator.head.layer_norm.weight *= LARGE_LOGIT / (logits.amax() - logits.amin())
    tokens = batch["net_input"]["src_tokens"]
    largest = model.replaced_logits(tokens).abs().amax()
    for parameter in model.replaced_token_head.output.parameters():
        parameter *= LARGE_LOGIT / largest


@HALVES
def test_logits_of_ten_thousand(bench, device, precision):
    """A network that is sure of everything, and mostly wrong: the losses are as large."""
    bench = bench()
    batch = usual(bench.task.vocabulary)
    enlarge_logits(bench.model, batch)
    with torch.no_grad():
        assert masked_lm_log_probs(bench.model, batch).amin() < -0.5 * LARGE_LOGIT
    assert_close_to_float64(bench, batch, device, precision, SCALE)
