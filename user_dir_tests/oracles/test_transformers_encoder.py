"""The encoder against transformers' models with the same random weights, level by level."""

from types import SimpleNamespace

import pytest
import torch

from user_dir_tests.models.building import PAD, empty_model, random_tokens
from user_dir_tests.oracles.transformers_models import (
    LAYERS,
    plugin_state_dict,
    transformers_model,
)
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = [pytest.mark.pretraining, pytest.mark.weights]

# length: real tokens of each row
BATCHES = {1: (1, 1, 1), 2: (2, 1), 9: (9, 5, 2), 128: (128, 77, 3), 512: (512, 500)}
MODELS = [
    *((f"convbert_{size}", seed) for size in ("small", "medium", "base") for seed in (1, 2, 3)),
    *((f"electra_{size}", 1) for size in ("small", "base")),
]


@pytest.fixture(scope="module", params=MODELS, ids=lambda of: f"{of[0]}-seed{of[1]}")
def models(request):
    """transformers' model and ours, with the same tensors."""
    architecture, seed = request.param
    theirs = transformers_model(architecture, seed)
    ours = empty_model(architecture, pads_visible=True).eval()
    state = plugin_state_dict(theirs, ours)
    torch.nn.Module.load_state_dict(ours, state, strict=True, assign=True)
    return SimpleNamespace(architecture=architecture, theirs=theirs, ours=ours)


@pytest.mark.parametrize("length", BATCHES)
@torch.no_grad()
def test_hidden_states_of_every_level(models, length):
    real = torch.tensor(BATCHES[length])
    pads = torch.arange(length) >= real[:, None]
    tokens = random_tokens(len(real), length).masked_fill(pads, PAD)
    segments = random_tokens(len(real), length, seed=2) % 2
    expected = models.theirs(
        tokens, attention_mask=(~pads).long(), token_type_ids=segments, output_hidden_states=True
    ).hidden_states
    result = models.ours.hidden_states(tokens, segments)
    assert len(result) == len(expected) == LAYERS + 1
    errors = [relative_error(mine, oracle) for mine, oracle in zip(result, expected, strict=True)]
    assert max(errors) <= TOLERANCES[torch.float32]["transformers"], errors


@torch.no_grad()
def test_segments_follow_from_the_separators(models):
    tokens = random_tokens(1, 9)
    tokens[0, [4, 8]] = models.ours.vocabulary.eos()
    segments = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1, 1]])
    expected = models.theirs(tokens, token_type_ids=segments).last_hidden_state
    error = relative_error(models.ours(tokens), expected)
    assert error <= TOLERANCES[torch.float32]["transformers"]
