"""Checkpoints into models: what is dropped, filled, refused, and what the user is told."""

import logging

import pytest
import torch

from convbert_plugin.errors import UserError
from convbert_plugin.models.parts import QUESTION_ANSWERING_HEAD as QA
from convbert_plugin.models.parts import parts_of
from user_dir_tests.models.building import TOY, TOY_GENERATOR_SIZE, empty_model, toy_model

pytestmark = pytest.mark.pretraining


@pytest.fixture
def log(caplog):
    """The lines that were logged while loading."""
    caplog.set_level(logging.INFO, logger="convbert_plugin.models.state")

    def lines():
        return [record.getMessage() for record in caplog.records]

    return lines


def copy_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def error_of(model, state) -> str:
    with pytest.raises(UserError) as raised:
        model.load_state_dict(state)
    line = str(raised.value)
    assert "\n" not in line
    return line


def test_the_same_model_loads_in_silence(log):
    source, target = toy_model(generator=True, seed=1), toy_model(generator=True, seed=2)
    target.load_state_dict(copy_of(source))
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor)
    assert log() == []


def test_an_encoder_drops_what_pretraining_left(log):
    source, target = toy_model(generator=True, seed=1), toy_model(seed=2)
    target.load_state_dict(copy_of(source))
    for name, tensor in target.state_dict().items():
        assert torch.equal(source.state_dict()[name], tensor)
    assert log() == [
        "the checkpoint's generator is not used here: dropped",
        "the checkpoint's replaced-token head is not used here: dropped",
    ]


def test_a_pretraining_model_starts_from_an_encoder(log):
    source, target = toy_model(seed=1), toy_model(generator=True, seed=2)
    before = copy_of(target)
    target.load_state_dict(copy_of(source))
    for name, tensor in target.state_dict().items():
        fresh = name.startswith(("generator.", "replaced_token_head."))
        assert torch.equal(tensor, before[name] if fresh else source.state_dict()[name])
    assert log() == [
        "the checkpoint has no generator: it starts from a fresh one",
        "the checkpoint has no replaced-token head: it starts from a fresh one",
    ]


def test_a_bert_from_an_electra(log):
    source, target = toy_model(generator=True, seed=1), toy_model(seed=2)
    target.add_part("masked_lm_head")
    head = copy_of(target.masked_lm_head)
    target.load_state_dict(copy_of(source))
    assert all(torch.equal(target.masked_lm_head.state_dict()[name], head[name]) for name in head)
    assert log() == [
        "the checkpoint's generator is not used here: dropped",
        "the checkpoint's replaced-token head is not used here: dropped",
        "the checkpoint has no masked-LM head: it starts from a fresh one",
    ]


def test_a_missing_tensor_is_named():
    state = copy_of(toy_model())
    del state["encoder.layers.1.attention.query.bias"]
    line = error_of(toy_model(), state)
    assert "(encoder.layers.1.attention.query.bias is missing)" in line
    assert "--arch convbert_small" in line


def test_an_unknown_tensor_is_named():
    state = copy_of(toy_model())
    state["encoder.pooler.weight"] = torch.zeros(3)
    assert "(encoder.pooler.weight is unknown)" in error_of(toy_model(), state)


def test_a_wrong_shape_is_named():
    state = copy_of(toy_model())
    state["encoder.layers.0.attention.output.bias"] = torch.zeros(41)
    line = error_of(toy_model(), state)
    assert "(encoder.layers.0.attention.output.bias is (41,), not (42,))" in line


def test_a_part_with_a_hole_is_refused_and_not_filled():
    state = copy_of(toy_model(generator=True))
    del state["generator.head.bias"]
    assert "(generator.head.bias is missing)" in error_of(toy_model(generator=True), state)


@pytest.mark.squad
@pytest.mark.parametrize("kinds", [("released", "transformers"), ("transformers", "released")])
def test_a_question_answering_head_of_another_kind_is_refused(kinds):
    source, target = toy_model(seed=1), toy_model(seed=2)
    for model, kind in zip((source, target), kinds, strict=True):
        model.add_part("question_answering_head", kind=kind)
    line = error_of(target, copy_of(source))
    assert line == (
        "the checkpoint's question-answering head is of another kind: add "
        f"--question-answering-head {kinds[0]}"
    )
    for model in (source, target):
        other = toy_model(seed=3)
        other.add_part("question_answering_head", **parts_of(model.state_dict())[QA])
        other.load_state_dict(copy_of(model))
        assert all(
            torch.equal(tensor, model.state_dict()[name])
            for name, tensor in other.state_dict().items()
        )


@pytest.mark.squad
def test_the_plain_head_is_what_it_was_before_there_were_kinds():
    model = toy_model()
    model.add_part(QA)
    of_head = [name for name in model.state_dict() if name.startswith(QA)]
    assert of_head == [f"{QA}.output.weight", f"{QA}.output.bias"]
    assert parts_of(model.state_dict()) == {QA: {"kind": "transformers"}}


def test_all_problems_are_named():
    state = copy_of(toy_model())
    missing = [name for name in state if name.startswith("encoder.layers.1.")]
    for name in missing:
        del state[name]
    line = error_of(toy_model(), state)
    assert len(missing) > 20
    assert all(f"{name} is missing" in line for name in missing)


def test_what_layers_share_is_told_once():
    state = copy_of(toy_model())
    state["encoder.layers.2.attention.query.bias"] = torch.zeros(5)
    for layer in (0, 1):
        state[f"encoder.layers.{layer}.attention.output.bias"] = torch.zeros(41)
        del state[f"encoder.layers.{layer}.feed_forward.inner.bias"]
    problems = [
        "encoder.layers.{0,1}.attention.output.bias is (41,), not (42,)",
        "encoder.layers.{0,1}.feed_forward.inner.bias is missing",
        "encoder.layers.2.attention.query.bias is unknown",
    ]
    assert error_of(toy_model(), state).endswith(f"({'; '.join(problems)})")


def test_another_architecture_is_refused():
    state = dict(empty_model("convbert_small").state_dict())
    line = error_of(empty_model("convbert_medium"), state)
    assert line.startswith("the checkpoint does not fit --arch convbert_medium: give the --arch")


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder_layers": 3},
        {"encoder_layers": 1},
        {"conv_kernel_size": 7},
        {"conv_type": "none"},
        {"head_ratio": 1},
        {"ffn_groups": 1},
        {"max_positions": TOY["max_positions"] + 1},
        {"embedding_dim": TOY["encoder_embed_dim"]},
    ],
    ids=str,
)
def test_other_sizes_are_refused(changes):
    assert "sizes that it was trained with" in error_of(toy_model(**changes), copy_of(toy_model()))


def test_another_generator_size_is_refused():
    other = toy_model()
    other.add_generator(2 * TOY_GENERATOR_SIZE)
    line = error_of(toy_model(generator=True), copy_of(other))
    assert "generator." in line


def test_another_vocabulary_is_told_by_its_size():
    state = copy_of(toy_model())
    state["embeddings.tokens.weight"] = torch.zeros(54, TOY["embedding_dim"])
    line = error_of(toy_model(), state)
    assert "the checkpoint's vocabulary has 54 tokens, this data's has 53" in line


def test_nothing_is_loaded_from_a_checkpoint_that_does_not_fit():
    target = toy_model(seed=2)
    before = copy_of(target)
    state = copy_of(toy_model(seed=1))
    del state["encoder.layers.1.attention.query.bias"]
    error_of(target, state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())
