"""The whole model against the released computation, from weights under TensorFlow's names."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from convbert_plugin.errors import UserError
from convbert_plugin.formats.keys import tensorflow_names
from convbert_plugin.models.parts import KEYS
from user_dir_tests.models.building import PAD, empty_model, random_tokens
from user_dir_tests.oracles.released_model import (
    RELEASED_SIZES,
    discriminator_states,
    generator_states,
    masked_lm_logits,
    optimizer_shapes,
    random_variables,
    replaced_logits,
    variable_shapes,
)
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.weights

# Fewer rows than the released tables have; every width and all layers are the released ones.
VOCABULARY, POSITIONS = 997, 40
REAL_TOKENS = (9, 5)
LENGTH = max(REAL_TOKENS)
TRAINED_NUMBERS = {"small": 14_019_903, "medium": 18_539_191, "base": 115_836_059}


def empty_pretraining_model(size, **changes):
    with torch.device("meta"):
        model = empty_model(
            f"convbert_{size}", VOCABULARY, max_positions=POSITIONS, dropout=0.0, **changes
        )
        model.add_generator()
    return model.eval()


def own_tensors(variables, size):
    tensors = {name: torch.from_numpy(values) for name, values in variables.items()}
    library = tensorflow_names(grouped=RELEASED_SIZES[size].groups > 1)
    return KEYS.to_own(tensors, empty_pretraining_model(size).state_dict(), library)


@pytest.fixture(scope="module", params=RELEASED_SIZES)
def released(request):
    """Variables of a released size, in TensorFlow's names and in ours."""
    size = request.param
    shapes = variable_shapes(RELEASED_SIZES[size], VOCABULARY, POSITIONS)
    variables = random_variables(shapes, seed=1)
    return SimpleNamespace(size=size, variables=variables, own=own_tensors(variables, size))


@pytest.mark.parametrize("pads_visible", [True, False], ids=["visible pads", "hidden pads"])
@torch.no_grad()
def test_equals_the_released_model(released, pads_visible):
    pads = torch.arange(LENGTH) >= torch.tensor(REAL_TOKENS)[:, None]
    tokens = random_tokens(*pads.shape, vocabulary=VOCABULARY).masked_fill(pads, PAD)
    segments = random_tokens(*pads.shape, seed=2) % 2
    model = empty_pretraining_model(released.size, pads_visible=pads_visible)
    torch.nn.Module.load_state_dict(model, released.own, strict=True, assign=True)

    embedded, everywhere = model.embeddings(tokens, segments), torch.arange(tokens.numel())
    hidden = model.generator(embedded, pads, everywhere)
    logits = model.generator.head(hidden, model.embeddings.tokens.weight)
    results = [
        *model.hidden_states(tokens, segments),
        *model.generator.stack.levels(embedded, pads),
        model.replaced_logits(tokens, segments),
        logits.unflatten(0, tokens.shape),
    ]

    arguments = (
        tokens.numpy(),
        segments.numpy(),
        released.variables,
        RELEASED_SIZES[released.size],
        pads.numpy(),
        pads_visible,
    )
    discriminator, generator = discriminator_states(*arguments), generator_states(*arguments)
    expected = [
        *discriminator,
        *generator,
        replaced_logits(discriminator[-1], released.variables),
        masked_lm_logits(generator[-1], released.variables),
    ]
    errors = [relative_error(*pair) for pair in zip(results, expected, strict=True)]
    assert max(errors) <= TOLERANCES[torch.float64]["block"], errors


def test_every_variable_has_its_place(released):
    assert len(released.own) == len(released.variables)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda variables: variables.pop("generator_predictions/output_bias"), "is missing"),
        (lambda variables: variables.update(global_step=np.array(7)), "is unknown"),
    ],
)
def test_no_other_set_of_variables_fits(change, message):
    """Else the test above would show nothing."""
    shapes = variable_shapes(RELEASED_SIZES["small"], VOCABULARY, POSITIONS)
    variables = {name: np.zeros(shape) for name, shape in shapes.items()}
    change(variables)
    with pytest.raises(UserError, match=message):
        own_tensors(variables, "small")


@pytest.mark.parametrize("size", RELEASED_SIZES)
def test_the_released_sizes_have_the_published_number_of_parameters(size):
    shapes = variable_shapes(RELEASED_SIZES[size])
    assert sum(map(math.prod, shapes.values())) == TRAINED_NUMBERS[size]


def test_the_optimizer_keeps_two_numbers_a_parameter():
    shapes = variable_shapes(RELEASED_SIZES["small"])
    slots = optimizer_shapes(shapes)
    assert slots.pop("global_step") == ()
    assert sum(map(math.prod, slots.values())) == 2 * TRAINED_NUMBERS["small"]
    assert not slots.keys() & shapes.keys()
