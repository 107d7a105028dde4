"""Longer models, and models of another vocabulary."""

import json

import pytest
import torch

from convbert_plugin import ConvBertModel
from convbert_plugin.conversion.fairseq_folder import write_fairseq
from convbert_plugin.conversion.portable import PortableModel
from convbert_plugin.data.tokenizer import WordPieceTokenizer
from convbert_plugin.models.loading import config_of
from user_dir_tests.models.building import model_of, randomize
from user_dir_tests.tolerances import TOLERANCES

pytestmark = pytest.mark.weights

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
OLD = [*SPECIALS, "the", "cat", "play", "##ing", "##s", "p", "##la", "##y", "##er", "."]
NEW = [".", "##s", "[MASK]", "playing", "[SEP]", "Players", "[UNK]", "the", "##laying", "zebra",
       "[CLS]", "[PAD]"]  # fmt: skip
POSITIONS = 24


@pytest.fixture
def folder(tmp_path):
    """A pretrained model of 24 positions of which training reached 10."""
    model = model_of(
        "convbert_small", len(OLD), encoder_layers=2, encoder_embed_dim=32,
        encoder_ffn_embed_dim=48, embedding_dim=12, max_positions=POSITIONS,
    )  # fmt: skip
    model.add_generator(0.5)
    randomize(model)
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config = config_of({**vars(model.cfg)}, tensors, "model")
    (tmp_path / "old").mkdir()
    write_fairseq(
        PortableModel(config, tensors, WordPieceTokenizer(OLD), 10, 0.5), tmp_path / "old"
    )
    return tmp_path / "old"


def tensors_of(folder):
    return torch.load(folder / "model.pt", weights_only=True)["model"]


def cfg_of(folder):
    return torch.load(folder / "model.pt", weights_only=True)["cfg"]


@pytest.mark.parametrize("positions", [7, 10, 24, 33])
def test_positions(convert, folder, tmp_path, positions):
    arguments = ("--max-positions", positions)
    longer, lines = convert("fairseq", "fairseq", folder, tmp_path / "new", *arguments)
    old, new = tensors_of(folder), tensors_of(longer)
    table, changed = old.pop("embeddings.positions.weight"), new.pop("embeddings.positions.weight")
    expected = torch.stack([table[row % 10] for row in range(positions)])
    assert torch.equal(changed, expected)
    assert old.keys() == new.keys()
    assert all(torch.equal(tensor, new[name]) for name, tensor in old.items())
    assert cfg_of(longer)["model"]["max_positions"] == positions
    assert cfg_of(longer)["task"]["tokens_per_sample"] == min(10, positions)
    told = [line for line in lines if line.startswith(f"{positions} positions")]
    assert len(told) == 1
    assert ("tiled" in told[0]) == (positions > 10)
    if positions > 10:
        assert "the 10 that training reached" in told[0]


def test_short_texts_give_what_they_gave_and_long_ones_something(convert, folder, tmp_path):
    longer, _ = convert("fairseq", "fairseq", folder, tmp_path / "new", "--max-positions", 60)
    before, after = ConvBertModel.from_pretrained(folder), ConvBertModel.from_pretrained(longer)
    short, long = before.encode("the cat plays."), before.encode("the cat plays. " * 10)
    assert len(short) <= 10 < POSITIONS < len(long)
    assert torch.equal(before.extract_features(short), after.extract_features(short))
    with pytest.raises(ValueError, match="24 positions"):
        before.extract_features(long)
    assert after.extract_features(long).isfinite().all()


def test_the_length_of_training_can_be_said(convert, folder, tmp_path):
    arguments = ("--max-positions", 20, "--trained-length", 6)
    longer, _ = convert("fairseq", "fairseq", folder, tmp_path / "new", *arguments)
    old, new = (tensors_of(f)["embeddings.positions.weight"] for f in (folder, longer))
    assert torch.equal(new, torch.stack([old[row % 6] for row in range(20)]))


@pytest.fixture
def new_vocabulary(tmp_path):
    path = tmp_path / "new.txt"
    path.write_text("".join(f"{row}\n" for row in NEW))
    return path


def test_vocabulary(convert, folder, new_vocabulary, tmp_path):
    changed, lines = convert(
        "fairseq", "fairseq", folder, tmp_path / "new", "--vocab", new_vocabulary
    )
    old, new = tensors_of(folder), tensors_of(changed)
    # An uncased model cuts "Players" as it cuts "players".
    means = {
        "playing": ("play", "##ing"),
        "Players": ("play", "##er", "##s"),
        "##laying": ("##la", "##y", "##ing"),
    }
    for name in ("embeddings.tokens.weight", "generator.head.bias"):
        before, after = old[name], new[name]
        assert len(after) == len(NEW)
        for row, symbol in enumerate(NEW):
            if symbol in OLD:
                assert torch.equal(after[row], before[OLD.index(symbol)]), symbol
            elif symbol in means:
                rows = torch.stack([before[OLD.index(piece)] for piece in means[symbol]])
                assert torch.allclose(after[row], rows.mean(dim=0)), symbol
    fresh = new["embeddings.tokens.weight"][NEW.index("zebra")]
    assert 0 < fresh.abs().max() <= 0.04
    untouched = old.keys() - {"embeddings.tokens.weight", "generator.head.bias"}
    assert all(torch.equal(old[name], new[name]) for name in untouched)
    assert "12 symbols: 8 keep their rows, 3 are means of pieces, 1 are fresh" in lines


def test_shared_text_gives_the_same_features(convert, folder, new_vocabulary, tmp_path):
    changed, _ = convert("fairseq", "fairseq", folder, tmp_path / "new", "--vocab", new_vocabulary)
    before, after = ConvBertModel.from_pretrained(folder), ConvBertModel.from_pretrained(changed)
    ids = before.encode("the. the"), after.encode("the. the")
    assert not torch.equal(*ids)
    features = before.extract_features(ids[0]), after.extract_features(ids[1])
    assert torch.allclose(*features, atol=TOLERANCES[torch.float32]["padding"])
    assert after.decode(ids[1]) == "the. the"
    assert len(after.fill_mask("the [MASK].", topk=len(NEW))) == len(NEW)


def test_special_ids_follow_the_vocabulary(convert, folder, new_vocabulary, tmp_path):
    there, _ = convert("fairseq", "hf", folder, tmp_path / "there", "--vocab", new_vocabulary)
    config = json.loads((there / "config.json").read_text())
    ids = [config[f"{role}_token_id"] for role in ("pad", "bos", "eos")]
    assert ids == [NEW.index(symbol) for symbol in ("[PAD]", "[CLS]", "[SEP]")]
    back, _ = convert("hf", "hf", there, tmp_path / "back", "--vocab", folder)
    config = json.loads((back / "config.json").read_text())
    ids = [config[f"{role}_token_id"] for role in ("pad", "bos", "eos")]
    assert ids == [OLD.index(symbol) for symbol in ("[PAD]", "[CLS]", "[SEP]")]


def test_a_vocabulary_that_is_no_wordpiece(convert_fails, folder, tmp_path):
    (tmp_path / "words.txt").write_text("the\ncat\n")
    arguments = ("fairseq", "fairseq", folder, tmp_path / "new", "--vocab", tmp_path / "words.txt")
    line = convert_fails(*arguments)
    assert "words.txt" in line
    assert "[PAD]" in line


def test_the_tokenizer_of_a_folder_is_its_own(convert_fails, folder, new_vocabulary, tmp_path):
    arguments = ("fairseq", "fairseq", folder, tmp_path / "new", "--tokenizer", new_vocabulary)
    assert "--vocab" in convert_fails(*arguments)


def test_the_generator_alone_goes_only_to_transformers(convert_fails, folder, tmp_path):
    arguments = ("fairseq", "fairseq", folder, tmp_path / "new", "--network", "generator")
    assert "--to hf" in convert_fails(*arguments)
