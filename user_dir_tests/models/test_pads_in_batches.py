"""What a batch says of its pads, and what a model keeps while it runs."""

import weakref

import pytest
import torch
import torch.nn.functional as F

from user_dir_tests.models.building import PAD, TOY_VOCABULARY, random_tokens, randomize, toy_model
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.speed

ROUNDING = TOLERANCES[torch.float32]["padding"]


@pytest.fixture
def masks(monkeypatch):
    """The masks that attention gets, call by call."""
    seen, attend = [], F.scaled_dot_product_attention

    def spy(*states, attn_mask=None, **options):
        seen.append(attn_mask)
        return attend(*states, attn_mask=attn_mask, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    return seen


@pytest.mark.parametrize("pads_visible", [False, True])
def test_attention_gets_no_mask_where_there_are_no_pads(masks, pads_visible):
    model = randomize(toy_model(pads_visible=pads_visible), std=0.3).eval()
    tokens = random_tokens(3, 19, vocabulary=TOY_VOCABULARY)
    told = model(tokens, has_pads=False)
    assert masks == [None, None]
    masks.clear()
    looked = model(tokens)
    assert all(mask is not None and mask.all() for mask in masks)
    assert relative_error(told, looked) <= ROUNDING


def test_pads_that_are_told_of_are_masked(masks):
    model = randomize(toy_model(), std=0.3).eval()
    tokens = random_tokens(2, 19, vocabulary=TOY_VOCABULARY)
    tokens[1, 12:] = PAD
    assert torch.equal(model(tokens, has_pads=True), model(tokens))
    assert [mask[:, 0, 0].tolist() for mask in masks[:2]] == [tokens.ne(PAD).tolist()] * 2


@pytest.mark.parametrize("kind", ["released", "transformers"])
def test_every_output_takes_what_the_batch_says(masks, kind):
    model = toy_model(generator=True)
    model.register_classification_head("topic", 3, kind)
    model.add_part("question_answering_head")
    tokens = random_tokens(3, 19, vocabulary=TOY_VOCABULARY)
    model.replaced_logits(tokens, None, False)
    model.masked_lm_log_probs(tokens, None, torch.arange(4), False)
    model.head_logits("question_answering_head", tokens, None, False)
    model(tokens, has_pads=False, output="classification_heads.topic")
    model.hidden_states(tokens, None, False)
    assert len(masks) == 10
    assert all(mask is None for mask in masks)


@torch.no_grad()
def test_levels_that_nobody_asked_for_are_not_kept():
    model = toy_model(encoder_layers=4).eval()
    outputs, alive = [], []

    def look(layer, inputs, output):
        alive.append([kept() is not None for kept in outputs])
        outputs.append(weakref.ref(output))

    for layer in model.encoder.layers:
        layer.register_forward_hook(look)
    model(random_tokens(2, 9, vocabulary=TOY_VOCABULARY))
    # When a layer is done, its input is there still, and no level below that.
    assert alive == [[], [True], [False, True], [False, False, True]]


@pytest.mark.parametrize("output", [None, "question_answering_head"])
def test_inputs_that_an_output_does_not_take_are_refused(output):
    model = toy_model()
    model.add_part("question_answering_head")
    tokens = random_tokens(2, 9, vocabulary=TOY_VOCABULARY)
    with pytest.raises(TypeError, match="uniforms"):
        model(tokens, output=output, uniforms=torch.zeros(3))
