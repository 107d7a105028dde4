"""Longer models, and models of another vocabulary."""

import json

import pytest
import torch

from convbert_plugin import ConvBertModel
from convbert_plugin.conversion.fairseq_folder import write_fairseq
from convbert_plugin.conversion.portable import PortableModel
from convbert_plugin.conversion.resizing import change_vocabulary
from convbert_plugin.models.config import ConvBertConfig
from convbert_plugin.models.loading import config_of
from convbert_plugin.tokenization.tokenizer import load_tokenizer
from convbert_plugin.tokenization.wordpiece import WordPieceSettings, WordPieceTokenizer
from user_dir_tests.models.building import model_of, randomize
from user_dir_tests.tokenization.toy_pipelines import saved_pipeline
from user_dir_tests.tokenization.toy_tokenizers import save, saved_by_transformers, write_vocab
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


def test_the_flags_are_for_the_new_vocabulary_alone(convert, folder, new_vocabulary, tmp_path):
    arguments = ("fairseq", "fairseq", folder, tmp_path / "new", "--vocab", new_vocabulary)
    changed, lines = convert(*arguments, "--cased")
    settings = json.loads((changed / "tokenizer_config.json").read_text())
    assert settings["do_lower_case"] is False
    # The source still lower-cases "Players": with its case it would be fresh.
    assert "12 symbols: 8 keep their rows, 3 are means of pieces, 1 are fresh" in lines
    there, _ = convert("fairseq", "hf", folder, tmp_path / "there")
    _, lines = convert("hf", "hf", there, tmp_path / "back", *arguments[4:], "--cased")
    assert "12 symbols: 8 keep their rows, 3 are means of pieces, 1 are fresh" in lines


# Row of [UNK], and what the old vocabulary has of the pieces; the row is the id.
UNKNOWN, FRESH = 1.0, "fresh"
RARE = [*SPECIALS, "the", "cafe", "o", "##e", "##s", "漢", "##漢", "##字", "café", "é", ".", "Cafe"]
UNCASED, KEPT = WordPieceSettings(), WordPieceSettings(strip_accents=False)
CASED = WordPieceSettings(cased=True)
ROWS_OF = [
    # As the old tokenizer would have made of the text.
    (UNCASED, "CAFÉ", 6),
    (UNCASED, "Thé", 5),
    (UNCASED, "thés", (5 + 9) / 2),
    (KEPT, "CAFÉ", 13),
    (KEPT, "Thé", FRESH),
    (CASED, "Café", FRESH),
    (CASED, "Cafes", (16 + 9) / 2),
    (UNCASED, "the.", (5 + 15) / 2),
    (UNCASED, "漢漢o", (10 + 10 + 7) / 3),
    (UNCASED, "the.q", FRESH),
    # Pieces that go on with a word.
    (UNCASED, "##É", 8),
    (UNCASED, "##ÉS", (8 + 9) / 2),
    (KEPT, "##és", FRESH),
    (CASED, "##ES", FRESH),
    (UNCASED, "##漢字", (11 + 12) / 2),
    (UNCASED, "##es.", FRESH),
    # Nothing is left of an accent alone.
    (UNCASED, "##\u0301", FRESH),
    (UNCASED, "\u0301", FRESH),
    # A word of more than 200 characters is unknown.
    (UNCASED, "##" + "s" * 200, 9),
    (UNCASED, "o" + "s" * 199, (7 + 199 * 9) / 200),
    (UNCASED, "##" + "s" * 201, UNKNOWN),
    (UNCASED, "o" + "s" * 200, UNKNOWN),
    (UNCASED, "##" + "s" * 100_000, UNKNOWN),
    (UNCASED, "o" + "s" * 100_000, UNKNOWN),
]


@pytest.mark.parametrize("from_json", [False, True], ids=["vocab.txt", "tokenizer.json"])
@pytest.mark.parametrize(("settings", "symbol", "row"), ROWS_OF, ids=lambda value: str(value)[:30])
def test_a_new_piece_is_made_of_what_the_old_tokenizer_makes_of_it(
    tmp_path, from_json, settings, symbol, row
):
    name = "embeddings.tokens.weight"
    table = torch.arange(len(RARE), dtype=torch.float32)[:, None]
    tokenizer = WordPieceTokenizer(RARE, settings)
    if from_json:
        tokenizer = load_tokenizer(save(tokenizer, tmp_path / "export") / "tokenizer.json")
        assert not isinstance(tokenizer, WordPieceTokenizer)
    old = PortableModel(ConvBertConfig(), {name: table}, tokenizer, 10)
    changed = change_vocabulary(old, WordPieceTokenizer([*SPECIALS, symbol]))
    number = changed.tensors[name][-1].item()
    if row == FRESH:
        assert 0 < abs(number) <= 0.04
    else:
        assert number == pytest.approx(row, rel=1e-6)
    fresh = int(row == FRESH)
    assert changed.remarks == (
        f"6 symbols: 5 keep their rows, {1 - fresh} are means of pieces, {fresh} are fresh",
    )


FORMS = ["vocab.txt", "folder", "folder of tokenizer.json", "tokenizer.json"]


def vocabulary_of(form, rows, folder):
    """A vocabulary in one of the forms; transformers writes the tokenizer.json."""
    if form == "vocab.txt":
        return write_vocab(folder, rows)
    if form == "folder":
        return write_vocab(folder, rows).parent
    saved = saved_by_transformers(folder, rows=rows)
    (saved / "tokenizer_config.json").unlink()
    return saved if form.startswith("folder") else saved / "tokenizer.json"


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_vocabulary_in_every_form_beside_more_positions(convert, folder, tmp_path, form):
    vocabulary = vocabulary_of(form, NEW, tmp_path / "given")
    arguments = ("--vocab", vocabulary, "--max-positions", 33)
    changed, lines = convert("fairseq", "fairseq", folder, tmp_path / "new", *arguments)
    old, new = tensors_of(folder), tensors_of(changed)
    table = old["embeddings.positions.weight"]
    assert torch.equal(new["embeddings.positions.weight"], table[[row % 10 for row in range(33)]])
    for name in ("embeddings.tokens.weight", "generator.head.bias"):
        assert len(new[name]) == len(NEW)
        for row, symbol in enumerate(NEW):
            if symbol in OLD:
                assert torch.equal(new[name][row], old[name][OLD.index(symbol)]), symbol
    assert (changed / "dict.txt").read_text().split()[::2] == NEW
    assert "12 symbols: 8 keep their rows, 3 are means of pieces, 1 are fresh" in lines
    assert ConvBertModel.from_pretrained(changed).encode("the. the").tolist() == [10, 7, 0, 7, 4]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_sources_vocabulary_in_every_form(convert, folder, tmp_path, form):
    there, _ = convert("fairseq", "hf", folder, tmp_path / "there")
    for path in there.glob("*"):
        if path.name.startswith(("vocab", "tokenizer")):
            path.unlink()
    vocabulary = vocabulary_of(form, OLD, tmp_path / "given")
    back, _ = convert("hf", "fairseq", there, tmp_path / "back", "--tokenizer", vocabulary)
    assert (back / "dict.txt").read_text().split()[::2] == OLD


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


@pytest.mark.parametrize("kind", ["bytes", "unigram"])
def test_a_tokenizer_json_that_is_no_wordpiece(convert_fails, folder, tmp_path, kind):
    vocabulary = saved_pipeline(kind, tmp_path / "given")
    line = convert_fails("fairseq", "fairseq", folder, tmp_path / "new", "--vocab", vocabulary)
    assert "--vocab maps one WordPiece vocabulary to another" in line


def test_words_are_cut_by_the_limit_of_the_tokenizer_json(tmp_path):
    """Of a word that the old tokenizer takes for too long, the row of [UNK] is taken."""
    folder = save(WordPieceTokenizer(RARE), tmp_path / "export")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["max_input_chars_per_word"] = 5
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "vocab.txt").unlink()
    name = "embeddings.tokens.weight"
    table = torch.arange(len(RARE), dtype=torch.float32)[:, None]
    old = PortableModel(ConvBertConfig(), {name: table}, load_tokenizer(folder), 10)
    symbols = [*SPECIALS, "##" + "s" * 5, "##" + "s" * 6, "o" + "s" * 5]
    changed = change_vocabulary(old, WordPieceTokenizer(symbols))
    assert changed.tensors[name][-3:, 0].tolist() == [9, UNKNOWN, UNKNOWN]


def test_the_tokenizer_of_a_folder_is_its_own(convert_fails, folder, new_vocabulary, tmp_path):
    arguments = ("fairseq", "fairseq", folder, tmp_path / "new", "--tokenizer", new_vocabulary)
    assert "--vocab" in convert_fails(*arguments)
