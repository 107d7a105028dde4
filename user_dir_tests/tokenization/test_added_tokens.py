"""Tokens that were added to a vocabulary, in every file that holds them, are one id each."""

import copy
import json
import pickle

import pytest
import transformers
from transformers import AutoTokenizer

from convbert_plugin import ConvBertModel
from convbert_plugin.cli import main as convbert
from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.errors import UserError
from convbert_plugin.tokenization.tokenizer import load_tokenizer
from convbert_plugin.tokenization.tokenizer_interface import difference
from user_dir_tests.tokenization.toy_tokenizers import ROWS as TOY_ROWS
from user_dir_tests.tokenization.toy_tokenizers import save, saved_by_transformers, write_vocab

pytestmark = pytest.mark.weights

ROWS = [*TOY_ROWS, *["<", ">", "url", "[unused1]", "new", "york", "sep", "entity", "dog"]]
COUNT = len(ROWS)
TEXTS = [
    "the <url> cat<url>s",
    "New York the new york, NEW YORK",
    "[ENTITY] sat[ENTITY]",
    "[unused1] the[unused1]",
    "a dog sat, the dogs",
    "URL <URL> <x>",
]


def token(content, **flags):
    usual = dict.fromkeys(("lstrip", "rstrip", "single_word", "special"), False)
    return {"content": content, **usual, "normalized": True, **flags}


CASES = {
    "added_tokens.json": {"added_tokens": {"<url>": COUNT + 1, "New York": COUNT}},
    "special_tokens_map.json": {
        "added_tokens": {"<url>": COUNT, "[ENTITY]": COUNT + 1},
        "special_tokens_map": {"additional_special_tokens": ["[ENTITY]", "[unused1]"]},
    },
    "decoder": {
        "tokenizer_config": {
            "do_lower_case": True,
            "added_tokens_decoder": {
                str(COUNT + 1): token("[ENTITY]", special=True, normalized=False),
                str(COUNT): token("<url>"),
                str(ROWS.index("dog")): token("dog", single_word=True),
                str(ROWS.index("[CLS]")): token("[CLS]", special=True, normalized=False),
            },
        },
        # Left out beside the decoder.
        "added_tokens": {"<x>": COUNT},
    },
    "names alone": {
        "tokenizer_config": {
            "tokenizer_class": "BertTokenizer",
            "additional_special_tokens": ["[unused1]", "[ENTITY]"],
        }
    },
    "cased": {
        "tokenizer_config": {
            "do_lower_case": False,
            "added_tokens_decoder": {
                str(COUNT): token("New York", single_word=True),
                str(COUNT + 1): token("<url>", lstrip=True, normalized=False),
            },
        }
    },
}


# transformers cuts the special ones, and finds the others.
CASES["split"] = {
    "tokenizer_config": {**CASES["decoder"]["tokenizer_config"], "split_special_tokens": True}
}


def write_folder(folder, files, rows=ROWS):
    write_vocab(folder, rows)
    (folder / "config.json").write_text('{"model_type": "convbert"}')
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def ids_of(tokenizer, texts=TEXTS):
    index = {symbol: number for number, symbol in enumerate(tokenizer.symbols)}
    return [[index[piece] for piece in pieces] for pieces in tokenizer.pieces_batch(texts)]


def assert_ids_of(theirs, tokenizer):
    ids = ids_of(tokenizer)
    assert ids == theirs(TEXTS, add_special_tokens=False)["input_ids"]
    assert any(index >= COUNT for row in ids for index in row)
    assert len(tokenizer.symbols) == len(theirs)
    assert all(symbol.split() == [symbol] for symbol in tokenizer.symbols)


@pytest.mark.parametrize("case", CASES)
def test_beside_a_vocab_txt(tmp_path, case):
    folder = write_folder(tmp_path / "source", CASES[case])
    theirs, tokenizer = AutoTokenizer.from_pretrained(folder), load_tokenizer(folder)
    for again in (tokenizer, copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        assert_ids_of(theirs, again)
    tokenizer.save(tmp_path / "ours")
    ours = load_tokenizer(tmp_path / "ours")
    assert ours.identity() == tokenizer.identity()
    for way_back in (tokenizer, ours):
        out = save(way_back, tmp_path / f"out{way_back is ours}")
        back = AutoTokenizer.from_pretrained(out)
        assert back(TEXTS)["input_ids"] == theirs(TEXTS)["input_ids"]
        assert_ids_of(theirs, load_tokenizer(out))
    text = "the <url> cat"
    assert tokenizer.detokenize(tokenizer.pieces(text)).replace(" ", "") == "the<url>cat"


@pytest.mark.parametrize("case", CASES)
def test_the_vocabulary_of_a_vocab_txt_has_them_too(tmp_path, case):
    folder = write_folder(tmp_path / "source", CASES[case])
    with pytest.raises(UserError, match=r"vocab.txt: files beside it add tokens to it \("):
        Vocabulary.load(folder / "vocab.txt")
    tokenizer = load_tokenizer(folder)
    tokenizer.save(tmp_path / "ours")
    vocabulary = Vocabulary.load(tmp_path / "ours" / "dict.txt")
    assert vocabulary.description() == tokenizer.description()
    # Where they are rows that are not looked for, as an earlier version had them.
    write_vocab(tmp_path / "rows", tokenizer.symbols)
    rows = load_tokenizer(tmp_path / "rows" / "vocab.txt", cased="cased" in case)
    assert rows.symbols == tokenizer.symbols
    words = difference(rows.outcomes(), tokenizer.outcomes())
    assert words == f"added tokens ('' and {' '.join(tokenizer.added)!r})"


def test_what_tokenizers_make_of_texts_says_in_what_they_differ(tmp_path):
    made = {}
    for case, flags in {
        "usual": {},
        "cased": {"do_lower_case": False},
        "accents": {"strip_accents": False},
        "Chinese characters": {"tokenize_chinese_chars": False},
    }.items():
        folder = saved_by_transformers(tmp_path / case, rows=ROWS, **flags)
        theirs = load_tokenizer(folder)
        (folder / "tokenizer.json").unlink()
        write_vocab(folder, ROWS)
        # One file or the other: the same outcomes.
        assert theirs.outcomes() == load_tokenizer(folder).outcomes()
        made[case] = theirs.outcomes()
    for case in ("accents", "Chinese characters"):
        assert difference(made["usual"], made[case]).startswith(f"{case} (")
    assert difference(made["usual"], made["cased"]) == "case ('Aa': 'aa' and 'Aa')"
    assert difference(made["usual"], made["usual"]) is None
    assert difference(made["usual"], {}) is None
    assert difference({"é": 7, "new": "x"}, made["usual"]).startswith("accents (")


@pytest.mark.slow
def test_in_and_out_of_a_model(tmp_path):
    source, ours, back = (tmp_path / name for name in ("source", "ours", "back"))
    write_folder(source, CASES["added_tokens.json"])
    config = transformers.ConvBertConfig(
        vocab_size=COUNT + 2, hidden_size=16, num_hidden_layers=1, num_attention_heads=4,
        intermediate_size=20, embedding_size=8, max_position_embeddings=90, conv_kernel_size=3,
    )  # fmt: skip
    transformers.ConvBertModel(config).save_pretrained(source)
    assert convbert(["convert", "--from", "hf", "--to", "fairseq", str(source), str(ours)]) == 0
    assert convbert(["convert", "--from", "fairseq", "--to", "hf", str(ours), str(back)]) == 0
    hub = ConvBertModel.from_pretrained(ours)
    before, after = map(AutoTokenizer.from_pretrained, (source, back))
    for text in TEXTS:
        ids = hub.encode(text).tolist()
        assert ids == before(text)["input_ids"] == after(text)["input_ids"]
    assert hub.decode(hub.encode("the <url> cat")) == "the <url> cat"


@pytest.mark.parametrize("case", ["decoder", "cased", "split"])
def test_beside_a_tokenizer_json(tmp_path, case):
    folder = saved_by_transformers(tmp_path, rows=ROWS)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {**CASES[case]["tokenizer_config"], "do_lower_case": config["do_lower_case"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    theirs, tokenizer = AutoTokenizer.from_pretrained(folder), load_tokenizer(folder)
    assert_ids_of(theirs, tokenizer)
    out = save(tokenizer, tmp_path / "out")
    assert AutoTokenizer.from_pretrained(out)(TEXTS)["input_ids"] == theirs(TEXTS)["input_ids"]


def test_what_adds_nothing_leaves_the_bytes(tmp_path):
    folder = saved_by_transformers(tmp_path, rows=ROWS)
    theirs = AutoTokenizer.from_pretrained(folder)
    theirs.add_tokens(["<url>"])
    theirs.save_pretrained(folder)
    content = (folder / "tokenizer.json").read_bytes()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    added = {str(row["id"]): row for row in json.loads(content)["added_tokens"]}
    decoder = {index: {k: v for k, v in row.items() if k != "id"} for index, row in added.items()}
    config = {**config, "added_tokens_decoder": decoder}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert load_tokenizer(folder).files()["tokenizer.json"] == content


@pytest.mark.parametrize(("piece", "name"), [("a dog", r"a\u0020dog"), ("dog\n", r"dog\u000a")])
def test_a_token_with_whitespace_has_a_name(tmp_path, piece, name):
    folder = write_folder(tmp_path, {"added_tokens": {piece: COUNT}})
    tokenizer, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    texts = [f"the {piece} sat", f"{piece}{piece}", "a  dog", "dog"]
    assert ids_of(tokenizer, texts) == theirs(texts, add_special_tokens=False)["input_ids"]
    assert tokenizer.pieces(f"the {piece} sat") == ["the", name, "sat"]
    assert piece in tokenizer.detokenize(["the", name, "sat"])


BROKEN = {
    "ids": ({"added_tokens": {"<url>": "37"}}, "added_tokens.json: expected tokens and their ids"),
    "hole": ({"added_tokens": {"<url>": COUNT + 1}}, rf"'<url>' has id {COUNT + 1}, and {COUNT} "),
    "row": ({"added_tokens": {"dog": COUNT}}, rf"'dog' has id {COUNT}, and {COUNT - 1} in vocab"),
    "list": ({"tokenizer_config": {"added_tokens_decoder": [1]}}, "_decoder is no object of ids"),
    "names": ({"tokenizer_config": {"added_tokens_decoder": {"a": 1}}}, "is no object of ids"),
    "long id": (
        {"tokenizer_config": {"added_tokens_decoder": {"9" * 5000: token("a")}}},
        "is no object of ids",
    ),
    "ids of one row": (
        {"tokenizer_config": {"added_tokens_decoder": {"37": token("a"), "037": token("b")}}},
        "'a' has id 37, and 35",
    ),
    "token": ({"tokenizer_config": {"added_tokens_decoder": {"37": 1}}}, "added token 1 is none"),
    "nothing": ({"tokenizer_config": {"added_tokens_decoder": {"37": {}}}}, "token {} is none"),
    "flag": (
        {"tokenizer_config": {"added_tokens_decoder": {"37": {"content": "a", "special": 1}}}},
        "added token .* is none",
    ),
    "extra": ({"special_tokens_map": {"additional_special_tokens": [1]}}, "token 1 is none"),
    "extras": ({"special_tokens_map": {"additional_special_tokens": 7}}, "token 7 is none"),
    "no Unicode": ({"added_tokens": {"\ud800": COUNT}}, r"token '\\ud800' is none"),
    "twice": (
        {"tokenizer_config": {"added_tokens_decoder": {"37": token("a"), "38": token("a")}}},
        "'a' has id 38, and",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_are_one_line(tmp_path, kind):
    files, message = BROKEN[kind]
    folder = write_folder(tmp_path, files)
    with pytest.raises(UserError, match=message) as error:
        load_tokenizer(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)
