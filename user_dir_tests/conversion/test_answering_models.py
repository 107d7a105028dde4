"""Models that answer questions, in and out: their heads, their logits, how they read contexts."""

import json

import pytest
import torch
import transformers

from convbert_plugin import ConvBertModel
from convbert_plugin.formats.fairseq_checkpoint import read_checkpoint
from convbert_plugin.formats.reading import Reading
from user_dir_tests.models.answering_models import save_answering_model
from user_dir_tests.oracles.transformers_models import VOCABULARY, save_folder, toy_model
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = [pytest.mark.squad, pytest.mark.weights]

HEAD = "question_answering_head"
READING = Reading(30, 9, 11, 7, 5, True, -1.5)
KINDS = ["released", "transformers"]


def checkpoint_in(folder):
    return read_checkpoint(folder / "model.pt")


def head_in(folder):
    tensors = checkpoint_in(folder).tensors
    return {name: tensor for name, tensor in tensors.items() if name.startswith(HEAD)}


@pytest.mark.parametrize("reading", [READING, None])
@pytest.mark.parametrize("kind", KINDS)
def test_more_positions_change_neither_head_nor_reading(convert, tmp_path, kind, reading):
    source = save_answering_model(tmp_path / "source", kind, VOCABULARY, reading)
    folder, lines = convert("fairseq", "fairseq", source, tmp_path / "new", "--max-positions", 50)
    assert not any("windows" in line for line in lines)
    assert checkpoint_in(folder).reading == reading
    old, new = head_in(source), head_in(folder)
    assert len(old) == {"released": 10, "transformers": 2}[kind]
    assert old.keys() == new.keys()
    assert all(torch.equal(tensor, new[name]) for name, tensor in old.items())
    hubs = [ConvBertModel.from_pretrained(f) for f in (source, folder)]
    tokens = torch.randint(5, 60, (2, 19), generator=torch.Generator().manual_seed(1))
    answerable = torch.ones_like(tokens, dtype=torch.bool)
    ours, theirs = (
        hub.model.head_logits(HEAD, tokens, None, False, answerable=answerable) for hub in hubs
    )
    assert all(torch.equal(*pair) for pair in zip(ours[:2], theirs[:2], strict=True))


def test_fewer_positions_make_shorter_windows(convert, tmp_path):
    source = save_answering_model(tmp_path / "source", "released", VOCABULARY, READING)
    folder, lines = convert("fairseq", "fairseq", source, tmp_path / "new", "--max-positions", 21)
    assert "questions are answered in windows of 21, not 30" in lines
    assert checkpoint_in(folder).reading == READING._replace(length=21)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ConvBert", "Electra"])
def test_logits_are_those_of_transformers(convert, tmp_path, name):
    """Of the head as it is trained and asked here, and of the model that goes out again."""
    theirs = toy_model(f"{name}ForQuestionAnswering")
    source = save_folder(theirs, tmp_path / "source")
    folder, _ = convert("hf", "fairseq", source, tmp_path / "here")
    back, _ = convert("fairseq", "hf", folder, tmp_path / "back")
    again = transformers.AutoModelForQuestionAnswering.from_pretrained(back)
    assert type(again) is type(theirs)
    model = ConvBertModel.from_pretrained(folder).model
    tokens = torch.randint(5, 60, (3, 23), generator=torch.Generator().manual_seed(1))
    segments = (torch.arange(23) > 9).long().expand(3, -1)
    logits = model(
        tokens, segments, False, output=HEAD, answerable=segments.bool(), starts=segments[:, 0]
    )
    for oracle in (theirs, again.eval()):
        expected = oracle(tokens, token_type_ids=segments)
        for mine, reference in (
            (logits.start, expected.start_logits),
            (logits.end_of_loss, expected.end_logits),
        ):
            assert relative_error(mine, reference) <= TOLERANCES[torch.float32]["transformers"]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["convbert_small", "electra_small"])
def test_how_contexts_are_read_goes_there_and_back(convert, tmp_path, architecture):
    source = save_answering_model(
        tmp_path / "source", "transformers", VOCABULARY, READING, architecture=architecture
    )
    folder, lines = convert("fairseq", "hf", source, tmp_path / "there")
    assert not any("left out" in line for line in lines)
    assert lines[1].endswith("ForQuestionAnswering")
    config = transformers.AutoConfig.from_pretrained(folder)
    assert config.reading == READING._asdict()
    assert config.num_labels == 2
    # What transformers does with it does not lose it.
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder)
    model.save_pretrained(folder)
    back, _ = convert("hf", "fairseq", folder, tmp_path / "back")
    assert checkpoint_in(back).reading == READING
    new = head_in(back)
    assert all(torch.equal(tensor, new[name]) for name, tensor in head_in(source).items())


def test_a_model_of_transformers_says_nothing_of_how_it_reads(convert, tmp_path):
    source = save_folder(toy_model("ConvBertForQuestionAnswering"), tmp_path / "source")
    folder, _ = convert("hf", "fairseq", source, tmp_path / "here")
    assert checkpoint_in(folder).reading is None


def test_a_released_head_cannot_go_to_transformers(convert, tmp_path):
    source = save_answering_model(tmp_path / "source", "released", VOCABULARY, READING)
    folder, lines = convert("fairseq", "hf", source, tmp_path / "there")
    assert lines[1:3] == [
        "the discriminator as ConvBertModel",
        "left out: the question-answering head: it is the released one, whose ends follow from the "
        "start, and the one of transformers gives each token two scores: train one that fits by "
        "--question-answering-head transformers",
    ]
    assert "reading" not in json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("reading", [{}, {**READING._asdict(), "length": 0}, [3]], ids=str)
def test_a_damaged_reading_is_told_in_a_line(convert_fails, tmp_path, reading):
    source = save_folder(toy_model("ElectraForQuestionAnswering"), tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "reading": reading}))
    line = convert_fails("hf", "fairseq", source, tmp_path / "here")
    assert line.startswith(f"{source / 'config.json'}: its reading is ")
