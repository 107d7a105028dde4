"""The amount of padding never changes the output of a real token."""

import copy

import pytest
import torch

from user_dir_tests.models.building import (
    MASK,
    PAD,
    SEPARATOR,
    empty_model,
    random_tokens,
    randomize,
    toy_model,
)
from user_dir_tests.tolerances import TOLERANCES

pytestmark = pytest.mark.pretraining

VOCABULARY = 211
LENGTH = 32
PADS = (1, 2, 4, 5, 9, 33, 64)
POSITIONS = torch.tensor([3, 9, LENGTH - 1])


@pytest.fixture(scope="module", params=["convbert_small", "convbert_medium", "convbert_base"])
def model(request):
    """A pretraining model of that size, in float32."""
    with torch.device("meta"):
        model = empty_model(request.param, VOCABULARY)
        model.add_generator()
    return randomize(model.to_empty(device="cpu")).eval()


def with_pads_visible(model):
    twin = empty_model(model.cfg._name, VOCABULARY, pads_visible=True)
    with torch.device("meta"):
        twin.add_generator()
    torch.nn.Module.load_state_dict(twin, model.state_dict(), assign=True)
    return twin.eval()


def sentence():
    tokens = random_tokens(1, LENGTH, vocabulary=VOCABULARY)
    tokens[0, 11], tokens[0, POSITIONS] = SEPARATOR, MASK
    return tokens


@torch.no_grad()
def outputs_at_real_tokens(model, pads):
    """Hidden state, replaced-token logits and the generator's log-probabilities."""
    tokens = torch.nn.functional.pad(sentence(), (0, pads), value=PAD)
    hidden = model.hidden_states(tokens)[-1]
    logits = model.replaced_token_head(hidden)
    log_probs = model.masked_lm_log_probs(tokens, None, POSITIONS)
    return hidden[:, :LENGTH], logits[:, :LENGTH], log_probs


def largest_changes(model, pads=PADS):
    """The largest change of each output, relative to its deviation, over all amounts of pads."""
    alone = outputs_at_real_tokens(model, 0)
    changes = torch.tensor(
        [
            [
                (after - before).abs().max() / before.std()
                for after, before in zip(outputs_at_real_tokens(model, each), alone, strict=True)
            ]
            for each in pads
        ]
    )
    return changes.max(dim=0).values


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_pads_change_nothing(model, dtype):
    precise = copy.deepcopy(model).to(dtype)
    assert 0.9 < outputs_at_real_tokens(precise, 0)[0].std() < 1.1
    assert largest_changes(precise).max() <= TOLERANCES[dtype]["padding"]


def test_visible_pads_change_every_output(model):
    """As released; else the test above would show nothing."""
    assert largest_changes(with_pads_visible(model), pads=[1, 4]).min() > 0.01


@pytest.mark.parametrize("kind", ["span_dynamic", "dynamic", "light", "conv", "none"])
@torch.no_grad()
def test_a_batch_of_many_lengths_equals_its_rows_alone(kind):
    model = randomize(toy_model(generator=True, conv_type=kind), std=0.3).double().eval()
    lengths = (17, 9, 4, 2)
    tokens = random_tokens(len(lengths), max(lengths), vocabulary=len(model.vocabulary))
    tokens.masked_fill_(torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None], PAD)
    hidden, logits = model(tokens), model.replaced_logits(tokens, None)
    for row, length in enumerate(lengths):
        alone = tokens[row : row + 1, :length]
        position = torch.tensor([length - 1])
        pairs = [
            (hidden[row, :length], model(alone)[0]),
            (logits[row, :length], model.replaced_logits(alone, None)[0]),
            (
                model.masked_lm_log_probs(tokens, None, position + row * max(lengths)),
                model.masked_lm_log_probs(alone, None, position),
            ),
        ]
        for together, expected in pairs:
            error = (together - expected).abs().max()
            assert error <= TOLERANCES[torch.float64]["padding"] * expected.abs().max().clamp(min=1)
