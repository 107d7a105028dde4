import json
import lzma
from pathlib import Path

import pytest
from transformers import AutoTokenizer, BertTokenizer

from convbert_plugin.cli import main as convbert
from convbert_plugin.errors import UserError
from convbert_plugin.files.text_files import ODD_WHITESPACE
from convbert_plugin.tokenization.sentencepiece_tokenizer import SentencePieceTokenizer
from convbert_plugin.tokenization.tokenizer import load_tokenizer
from convbert_plugin.tokenization.tokenizer_writing import transformers_files
from convbert_plugin.tokenization.wordpiece import WordPieceSettings, WordPieceTokenizer
from user_dir_tests.tokenization.toy_tokenizers import (
    FAIRSEQ_ROLES,
    ROLES,
    ROWS,
    SETTINGS,
    TEXTS,
    assert_same_ids,
    encoder,
    made_lines,
    save,
)

pytestmark = pytest.mark.weights

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
BERT_VOCAB = DATA / "vocab" / "bert-base-uncased.txt"
needs_data = pytest.mark.skipif(not BERT_VOCAB.exists(), reason="the shared data are absent")


def assert_equivalent(tokenizer, theirs, roles):
    """``theirs`` has the ids of ``tokenizer``, frames and pads as the models were trained."""
    mask = roles["mask"]
    texts = [*TEXTS, f"the {mask} sat {mask}.", f"{mask}the{mask}", mask]
    assert_same_ids(tokenizer, theirs, texts)
    assert len(theirs) == len(tokenizer.symbols)
    ids = {role: tokenizer.symbols.index(symbol) for role, symbol in roles.items()}
    assert {role: getattr(theirs, f"{role}_token") for role in roles} == roles
    assert {role: getattr(theirs, f"{role}_token_id") for role in roles} == ids
    a, b = map(encoder(tokenizer), ("the cat", "cats sat"))
    batch = theirs(["the cat"] * 2, ["cats sat", ""], padding=True)
    pair = [ids["cls"], *a, ids["sep"], *b, ids["sep"]]
    pads = [ids["pad"]] * (len(b))
    assert batch["input_ids"] == [pair, [*pair[: len(a) + 2], ids["sep"], *pads]]
    assert batch["token_type_ids"][0] == [0] * (len(a) + 2) + [1] * (len(b) + 1)
    assert batch["attention_mask"][1] == [1] * (len(a) + 3) + [0] * len(b)
    assert theirs("the cat")["input_ids"] == [ids["cls"], *a, ids["sep"]]
    assert theirs.convert_ids_to_tokens(a) == tokenizer.pieces("the cat")
    assert theirs.decode(pair[: len(a) + 2], skip_special_tokens=True) == "the cat"
    assert theirs.decode(b) == "cats sat"


@pytest.mark.parametrize("settings", SETTINGS)
def test_wordpiece_gives_the_same_ids_in_transformers(tmp_path, settings):
    tokenizer = WordPieceTokenizer(ROWS, settings)
    for model_config in (False, True):
        folder = save(tokenizer, tmp_path / str(model_config), model_config)
        assert_equivalent(tokenizer, AutoTokenizer.from_pretrained(folder), ROLES)
        for name in ("nothing", "vocab.txt"):
            (folder / name).unlink(missing_ok=True)
            again = load_tokenizer(folder)
            assert again.symbols == tokenizer.symbols
            assert again.pieces_batch(TEXTS) == tokenizer.pieces_batch(TEXTS)


NAMES = [*ROLES.values(), *FAIRSEQ_ROLES.values()]
TEXTS_OF_NAMES = [*NAMES, "".join(NAMES), *(f"the cat {name}the{name} cat" for name in NAMES)]


def assert_special_symbols_are_text(folder, tokenizer):
    ids = [[tokenizer.symbols.index(p) for p in tokenizer.pieces(text)] for text in TEXTS_OF_NAMES]
    specials = {tokenizer.symbols.index(name) for name in tokenizer.specials.values()}
    assert specials & {n for row in ids for n in row} <= {
        tokenizer.symbols.index(tokenizer.unknown)
    }
    theirs = AutoTokenizer.from_pretrained(folder)
    assert theirs(TEXTS_OF_NAMES, add_special_tokens=False)["input_ids"] == ids
    theirs.save_pretrained(folder)
    again = AutoTokenizer.from_pretrained(folder)
    assert again(TEXTS_OF_NAMES, add_special_tokens=False)["input_ids"] == ids
    # What transformers does by its own choice.
    told = theirs(tokenizer.mask, add_special_tokens=False, split_special_tokens=False)
    assert told["input_ids"][-1] == tokenizer.symbols.index(tokenizer.mask)


@pytest.mark.parametrize("settings", SETTINGS)
def test_special_symbols_are_text_where_no_mask_is_filled(tmp_path, settings):
    tokenizer = WordPieceTokenizer(ROWS, settings)
    folder = save(tokenizer, tmp_path / "export", fills_masks=False)
    assert_special_symbols_are_text(folder, tokenizer)
    back = transformers_files(load_tokenizer(folder), fills_masks=True)
    assert "split_special_tokens" not in json.loads(back["tokenizer_config.json"])


def test_names_of_special_symbols_are_no_pieces_of_a_sentencepiece_model(tmp_path, vocabulary):
    tokenizer = load_tokenizer(vocabulary)
    folder = save(tokenizer, tmp_path / "export", fills_masks=False)
    assert_special_symbols_are_text(folder, tokenizer)


def test_an_export_serves_the_class_of_bert_too(tmp_path):
    tokenizer = WordPieceTokenizer(ROWS, WordPieceSettings(cased=True, strip_accents=True))
    theirs = BertTokenizer.from_pretrained(save(tokenizer, tmp_path / "export"))
    # That class has its own limit of 100 characters.
    assert_same_ids(tokenizer, theirs, [text for text in TEXTS if "xx" not in text])


def test_the_maximal_length_is_stored(tmp_path):
    folder = save(WordPieceTokenizer(ROWS), tmp_path / "export", max_length=6)
    theirs = AutoTokenizer.from_pretrained(folder)
    assert len(theirs("the cat " * 9, truncation=True)["input_ids"]) == 6


@pytest.mark.parametrize("model_config", [False, True])
def test_sentencepiece_gives_the_same_ids_in_transformers(tmp_path, vocabulary, model_config):
    tokenizer = load_tokenizer(vocabulary)
    folder = save(tokenizer, tmp_path / "export", model_config)
    theirs = AutoTokenizer.from_pretrained(folder)
    assert_equivalent(tokenizer, theirs, FAIRSEQ_ROLES)
    assert_same_ids(tokenizer, theirs, made_lines())
    assert theirs("cat the cats").word_ids()[1:-1][-1] == 2
    assert load_tokenizer(folder).identity() == tokenizer.identity()
    assert load_tokenizer(folder).identity() == tokenizer.identity()


def test_a_dictionary_may_have_its_own_order_and_rows(tmp_path, vocabulary):
    own = load_tokenizer(vocabulary)
    rows = own.symbols[4:][::-1]
    # Rows as fairseq adds them, pieces spelt out by other programs, other special symbols.
    strange = ["madeupword0000", "漢", "the", "▁", "<sep>"]
    rows[3:3] = dict.fromkeys(row for row in strange if row not in rows)
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "dict.txt").write_text("".join(f"{row} 1\n" for row in rows))
    (tmp_path / "given" / "sentencepiece.bpe.model").write_bytes(own.model)
    tokenizer = load_tokenizer(tmp_path / "given")
    folder = save(tokenizer, tmp_path / "export")
    theirs = AutoTokenizer.from_pretrained(folder)
    assert_equivalent(tokenizer, theirs, FAIRSEQ_ROLES)
    assert_same_ids(
        tokenizer, theirs, ["madeupword0000", "漢 漢字", "<sep>", "the", *made_lines(50)]
    )
    assert load_tokenizer(folder).identity() == tokenizer.identity()


def trained(**arguments):
    import io

    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(made_lines()),
        model_writer=model,
        minloglevel=2,
        **{"vocab_size": 130, "control_symbols": "<mask>", **arguments},
    )
    return SentencePieceTokenizer(model.getvalue(), "a.model")


def test_an_unknown_character_costs_the_same(tmp_path):
    from sentencepiece.sentencepiece_model_pb2 import ModelProto

    model = ModelProto()
    model.normalizer_spec.name = "identity"
    model.pieces.add(piece="<unk>", type=ModelProto.SentencePiece.UNKNOWN)
    for piece, score in {"▁pq": -30, "r": -30, "▁": -1, "qr": -1, "<mask>": -1}.items():
        model.pieces.add(piece=piece, score=score)
    tokenizer = SentencePieceTokenizer(model.SerializeToString(), "a.model")
    # The unknown p (-40) and qr beat the known pieces (-60).
    assert tokenizer.pieces("pqr") == ["▁", "<unk>", "qr"]
    theirs = AutoTokenizer.from_pretrained(save(tokenizer, tmp_path / "export"))
    assert_same_ids(tokenizer, theirs, ["pqr", "pq r pqr qrr"])


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"normalization_rule_name": "identity"},
        {"normalization_rule_name": "nmt_nfkc_cf"},
        {"add_dummy_prefix": False},
        {"remove_extra_whitespaces": False, "allow_whitespace_only_pieces": True},
        {"split_by_whitespace": False},
        {"byte_fallback": True, "vocab_size": 420},
    ],
    ids=str,
)
def test_options_of_sentencepiece_are_kept(tmp_path, model_type, arguments):
    tokenizer = trained(model_type=model_type, **arguments)
    over_spaces = any("▁" in symbol.lstrip("▁") for symbol in tokenizer.symbols)
    assert over_spaces == ("split_by_whitespace" in arguments)
    theirs = AutoTokenizer.from_pretrained(save(tokenizer, tmp_path / "export"))
    spaces = [chr(code) for code in range(0x3001) if ODD_WHITESPACE.match(chr(code))]
    assert len(spaces) > 25
    texts = ["the  cat  sat", " the cat ", *(f"the{space}cat" for space in spaces), *made_lines(99)]
    assert_same_ids(tokenizer, theirs, texts)
    assert theirs.decode(theirs("the cat")["input_ids"], skip_special_tokens=True) == "the cat"


def test_what_transformers_cannot_express_is_refused(vocabulary):
    own = load_tokenizer(vocabulary)
    *others, last = own.symbols
    for tokenizer, problem in {
        SentencePieceTokenizer(own.model, "m", others): f"dict.txt lacks 1 of its pieces, '{last}'",
        trained(model_type="char", vocab_size=40): "its model type is CHAR",
        trained(model_type="word"): "its model type is WORD",
        trained(treat_whitespace_as_suffix=True): "marks spaces otherwise than at the start",
        trained(
            user_defined_symbols="<sep>"
        ): "1 of its pieces are user-defined or unused, '<sep>'",
    }.items():
        with pytest.raises(UserError, match=problem) as error:
            transformers_files(tokenizer)
        assert str(error.value).startswith("sentencepiece.bpe.model: ")
        assert "\n" not in str(error.value)


def test_a_mask_among_the_users_symbols_is_the_mask(tmp_path):
    tokenizer = trained(control_symbols="", user_defined_symbols="<mask>")
    theirs = AutoTokenizer.from_pretrained(save(tokenizer, tmp_path / "export"))
    assert_equivalent(tokenizer, theirs, FAIRSEQ_ROLES)


def test_the_files_are_the_same_each_time(vocabulary):
    for path in (vocabulary, vocabulary / "sentencepiece.bpe.model"):
        assert transformers_files(load_tokenizer(path)) == transformers_files(load_tokenizer(path))
    files = transformers_files(load_tokenizer(vocabulary))
    # transformers 4.40 reads no other form.
    merges = json.loads(files["tokenizer.json"])["model"].get("merges", [])
    assert all(isinstance(merge, str) for merge in merges)
    assert sorted(files) == [
        "dict.txt",
        "sentencepiece.bpe.model",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


@pytest.fixture(scope="module")
def real_text():
    names = ("glue/CoLA/dev.tsv.xz", "corpus/wiki.valid.txt.xz")
    cola, wiki = (
        lzma.decompress((DATA / name).read_bytes()).decode().split("\n") for name in names
    )
    return [*wiki, *(row.split("\t")[3] for row in cola if row)]


@pytest.mark.slow
@needs_data
def test_wordpiece_on_real_text(tmp_path, real_text):
    tokenizer = load_tokenizer(BERT_VOCAB)
    folder = save(tokenizer, tmp_path / "export")
    assert_same_ids(tokenizer, AutoTokenizer.from_pretrained(folder), real_text[::2])
    (folder / "vocab.txt").unlink()
    again = load_tokenizer(folder)
    assert again.identity() != tokenizer.identity()
    assert again.pieces_batch(real_text) == tokenizer.pieces_batch(real_text)


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_sentencepiece_on_real_text(tmp_path, real_text, model_type):
    (tmp_path / "text").write_text("\n".join(real_text[:1200]), encoding="utf-8")
    flags = ("--vocab-size", "2000", "--model-type", model_type)
    convbert(["train-vocab", *flags, str(tmp_path / "text"), str(tmp_path / "out")])
    tokenizer = load_tokenizer(tmp_path / "out")
    theirs = AutoTokenizer.from_pretrained(save(tokenizer, tmp_path / "export"))
    encode = encoder(tokenizer)
    ids = theirs(real_text, add_special_tokens=False)["input_ids"]
    different = sum(ours != encode(text) for ours, text in zip(ids, real_text, strict=True))
    # Segmentations of equal score, such as 00|0 and 0|00: sentencepiece sums in single precision.
    assert different <= (len(real_text) // 1000 if model_type == "unigram" else 0)
