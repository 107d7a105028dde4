import copy
import json
import os
import pickle

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer, BertTokenizer

from convbert_plugin.cli import main as convbert
from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.errors import UserError
from convbert_plugin.tokenization.tokenizer import check_rows, load_tokenizer
from convbert_plugin.tokenization.tokenizer_writing import transformers_files
from convbert_plugin.tokenization.wordpiece import WordPieceSettings, WordPieceTokenizer
from user_dir_tests.tokenization.toy_tokenizers import (
    ROLES,
    ROWS,
    SETTINGS,
    TEXTS,
    assert_same_ids,
    encoder,
    save,
    saved_by_transformers,
    write_vocab,
)

pytestmark = pytest.mark.weights

FRAMING = ["BertTokenizer", "BertTokenizerFast", "ConvBertTokenizer", "ElectraTokenizerFast"]
GENERIC = '{"tokenizer_class": "PreTrainedTokenizerFast"}'


@pytest.mark.parametrize(
    "name", ["BertTokenizer", "BertTokenizerFast", "ConvBertTokenizer", "ElectraTokenizer"]
)
@pytest.mark.parametrize("settings", SETTINGS)
def test_what_transformers_saves_is_read(tmp_path, name, settings):
    folder = saved_by_transformers(
        tmp_path,
        name,
        do_lower_case=not settings.cased,
        strip_accents=settings.strip_accents,
        tokenize_chinese_chars=settings.split_chinese,
    )
    tokenizer = load_tokenizer(folder)
    theirs = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.symbols == ROWS
    assert tokenizer.pieces_batch(TEXTS) == [theirs.tokenize(text) for text in TEXTS]
    # Our own WordPiece has another limit on the length of a word.
    texts = [text for text in TEXTS if "xx" not in text]
    ours = WordPieceTokenizer(ROWS, settings)
    assert tokenizer.pieces_batch(texts) == ours.pieces_batch(texts)


def test_an_export_saved_again_by_transformers_is_read(tmp_path):
    tokenizer = WordPieceTokenizer(ROWS, WordPieceSettings(cased=True))
    theirs = AutoTokenizer.from_pretrained(save(tokenizer, tmp_path / "export"))
    theirs.save_pretrained(tmp_path / "again")
    again = load_tokenizer(tmp_path / "again")
    assert again.symbols == tokenizer.symbols
    assert again.pieces_batch(TEXTS) == tokenizer.pieces_batch(TEXTS)


def test_added_tokens_are_rows_at_their_ids(tmp_path):
    folder = saved_by_transformers(tmp_path)
    theirs = AutoTokenizer.from_pretrained(folder)
    theirs.add_tokens(["dog", "[ENTITY]"])
    theirs.save_pretrained(folder)
    tokenizer = load_tokenizer(folder)
    assert tokenizer.symbols == [*ROWS, "dog", "[ENTITY]"]
    assert encoder(tokenizer)("the dog") == theirs("the dog", add_special_tokens=False)["input_ids"]
    # As transformers 4 wrote them: with vocab.txt, which lacks them.
    write_vocab(folder)
    assert load_tokenizer(folder).symbols == [*ROWS, "dog", "[ENTITY]"]
    (folder / "tokenizer.json").unlink()
    (folder / "added_tokens.json").write_text(json.dumps({"[ENTITY]": len(ROWS)}))
    assert load_tokenizer(folder).symbols == [*ROWS, "[ENTITY]"]
    (folder / "added_tokens.json").write_text(json.dumps({"[ENTITY]": len(ROWS) + 1}))
    with pytest.raises(UserError, match=r"json: its token '\[ENTITY\]' has id 27, and 26 in voc"):
        load_tokenizer(folder)


def test_a_tokenizer_json_may_be_named_itself(tmp_path):
    folder = saved_by_transformers(tmp_path, do_lower_case=False)
    for path in (folder, folder / "tokenizer.json"):
        assert load_tokenizer(path).pieces("Cat the") == ["Cat", "the"]
        for flags in ({"strip_accents": True}, {"cased": True}):
            with pytest.raises(UserError, match=r"tokenizer.json: it has its own rules .*: drop"):
                load_tokenizer(path, **flags)
    vocab = write_vocab(tmp_path / "bare")
    assert load_tokenizer(vocab, cased=True).pieces("Cat the") == ["Cat", "the"]


@pytest.mark.parametrize("has_pipeline", [False, True])
def test_the_advice_for_a_padded_table_helps(tmp_path, good_files, has_pipeline):
    names = ["vocab.txt", *(["tokenizer.json"] if has_pipeline else [])]
    for name in names:
        (tmp_path / name).write_bytes(good_files[name])
    with pytest.raises(UserError) as error:
        check_rows(load_tokenizer(tmp_path), 28, tmp_path)
    line = str(error.value)
    assert "28 rows in the model and 26 symbols in the vocabulary: " in line
    assert "append the lines [unused26] to [unused27] to vocab.txt" in line
    assert 'tokenizer.json has them in its model\'s vocab as "[unused27]": 27' in line
    rows = {index: f"[unused{index}]" for index in (26, 27)}
    if has_pipeline:
        content = json.loads(good_files["tokenizer.json"])
        content["model"]["vocab"] |= {name: id_ for id_, name in rows.items()}
        (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    write_vocab(tmp_path, [*ROWS, *rows.values()])
    check_rows(load_tokenizer(tmp_path), 28, tmp_path)
    with pytest.raises(UserError, match=r"27 rows .* 28 symbols .*: give the .* by --tokenizer$"):
        check_rows(load_tokenizer(tmp_path), 27, tmp_path)


def test_a_folder_of_transformers_4_is_read(tmp_path):
    vocab = write_vocab(tmp_path)
    assert load_tokenizer(tmp_path).identity() == load_tokenizer(vocab).identity()
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert load_tokenizer(tmp_path).pieces("Cat") == ["Cat"]
    fast = json.loads(transformers_files(load_tokenizer(tmp_path))["tokenizer.json"])
    del fast["model"]["type"]
    fast["post_processor"] = {"type": "BertProcessing", "sep": ["[SEP]", 8], "cls": ["[CLS]", 6]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(fast))
    assert load_tokenizer(tmp_path).pieces("Cat") == ["Cat"]


def test_files_that_contradict_each_other_are_refused(tmp_path):
    folder = saved_by_transformers(tmp_path, do_lower_case=False)
    write_vocab(folder)
    assert load_tokenizer(folder).symbols == ROWS
    write_vocab(folder, ["dog" if row == "cat" else row for row in ROWS])
    with pytest.raises(UserError, match=r"vocab.txt and .*tokenizer.json disagree \(id 2 is 'dog'"):
        load_tokenizer(folder)
    write_vocab(folder, (*ROWS, "dog"))
    with pytest.raises(UserError, match=r"disagree \(27 and 26 symbols\): remove the one"):
        load_tokenizer(folder)
    write_vocab(folder)
    # The tokenizer.json decides, whatever stands beside it.
    config = folder / "tokenizer_config.json"
    for settings in ({"do_lower_case": True}, {"tokenizer_class": "PreTrainedTokenizerFast"}):
        config.write_text(json.dumps(settings))
        assert load_tokenizer(folder).pieces("Cat") == ["Cat"]
    config.unlink()
    assert load_tokenizer(folder).pieces("Cat") == ["Cat"]


def test_a_sentencepiece_export_without_its_model_or_dictionary(tmp_path, vocabulary):
    folder = save(load_tokenizer(vocabulary), tmp_path / "export")
    rows = (folder / "dict.txt").read_text().split("\n")
    (folder / "dict.txt").write_text("\n".join([rows[1], rows[0], *rows[2:]]))
    # The model and its dictionary decide where both are there.
    numbered = [row.split(" ")[0] for row in (rows[1], rows[0])]
    assert load_tokenizer(folder).symbols[4:6] == numbered
    (folder / "sentencepiece.bpe.model").unlink()
    with pytest.raises(UserError, match=r"dict.txt and .*tokenizer.json disagree \(id 4 is"):
        load_tokenizer(folder)
    (folder / "dict.txt").unlink()
    tokenizer, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    assert_same_ids(tokenizer, theirs, TEXTS)


BROKEN_FILES = {
    "empty file": (b"", r"broken JSON \(Expecting value"),
    "half": (b'{"model": {"vocab"', "broken JSON"),
    "list": (b"[1]", "not a JSON object"),
    "encoding": (b'{"model": "\xe9"}', "not UTF-8"),
    "deep": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    "long number": (b'{"a": ' + b"9" * 5000 + b"}", "broken JSON"),
    "no model": (b"{}", r"the tokenizers library fails \(Model missing"),
}

FAILS = r"tokenizer.json: the tokenizers library fails \(.*\): copy the file again$"
NO_FRAME = r"post_processor does not give \[CLS\] A \[SEP\] and, of pairs, \[CLS\] A \[SEP\] B"
CLS, SEP = ({"SpecialToken": {"id": name, "type_id": 0}} for name in ("[CLS]", "[SEP]"))
TEXT, TEXT_B = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
# Where in tokenizer.json, what stands there, what is said.
CHANGES = {
    "bpe": ("model.type", "BPE", FAILS),
    "strange type": ("model.type", ["BPE"] * 999, FAILS),
    "model": ("model", 7, FAILS),
    "prefix's type": ("model.continuing_subword_prefix", 7, FAILS),
    "unknown": ("model.unk_token", "<unk>", FAILS),
    "unknown's type": ("model.unk_token", {"a": 1}, FAILS),
    "words": ("model.max_input_chars_per_word", "100", FAILS),
    "negative words": ("model.max_input_chars_per_word", -1, FAILS),
    "no vocab": ("model.vocab", None, FAILS),
    "empty vocab": ("model.vocab", {}, r"0 pieces none has id 0|no piece \[PAD\]|none has id"),
    "flat vocab": ("model.vocab", ["the"], FAILS),
    "hole": ("model.vocab.cat", 9999, "of its 26 pieces none has id 2"),
    "huge id": ("model.vocab.cat", 10**30, FAILS),
    "negative id": ("model.vocab.cat", -1, FAILS),
    "same id": ("model.vocab.cat", 4, "of its 26 pieces none has id 2"),
    "truth": ("model.vocab.cat", True, FAILS),
    "text id": ("model.vocab.cat", "2", FAILS),
    "fraction": ("model.vocab.cat", 2.0, FAILS),
    "not a number": ("model.vocab.cat", float("nan"), FAILS),
    "no Unicode": ("model.vocab.\ud800", 26, FAILS),
    "added": ("added_tokens", {"a": 1}, FAILS),
    "added rows": ("added_tokens", [1], FAILS),
    "added without id": ("added_tokens", [{"content": "dog"}], FAILS),
    "odd normalizer": ("normalizer", {"type": "Nothing"}, FAILS),
    "clean": ("normalizer.clean_text", 1, FAILS),
    "lower": ("normalizer.lowercase", "no", FAILS),
    "accents": ("normalizer.strip_accents", [1], FAILS),
    "splitter": ("pre_tokenizer.type", "Nothing", FAILS),
    "frame": (
        "post_processor",
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False},
        NO_FRAME,
    ),
    "other frame": (
        "post_processor",
        {"type": "TemplateProcessing", "special_tokens": {"<s>": {}}},
        FAILS,
    ),
    "frame's type": ("post_processor", [1], FAILS),
    "no frame": ("post_processor", None, NO_FRAME),
    "frame's order": ("post_processor.single", [TEXT, SEP, CLS], NO_FRAME),
    "frame's segments": ("post_processor.pair", [CLS, TEXT, SEP, TEXT_B, SEP], NO_FRAME),
    "frame's id": (
        "post_processor.special_tokens.[SEP]",
        {"id": "[SEP]", "ids": [ROWS.index("[CLS]")], "tokens": ["[SEP]"]},
        NO_FRAME,
    ),
    "old frame's id": (
        "post_processor",
        {"type": "BertProcessing", "sep": ["[SEP]", 0], "cls": ["[CLS]", 6]},
        NO_FRAME,
    ),
}


def assert_refused(folder, message, name="tokenizer.json"):
    with pytest.raises(UserError, match=message) as error:
        load_tokenizer(folder)
    line = str(error.value)
    assert "\n" not in line
    assert len(line) < 400
    assert str(folder / name) in line
    assert ": " in line.replace(str(folder), "").removeprefix("/tokenizer.json: ")


@pytest.fixture(scope="module")
def good_files():
    return transformers_files(WordPieceTokenizer(ROWS))


@pytest.mark.parametrize("kind", BROKEN_FILES)
def test_a_broken_file_is_one_line(tmp_path, kind):
    content, message = BROKEN_FILES[kind]
    (tmp_path / "tokenizer.json").write_bytes(content)
    assert_refused(tmp_path, message)
    if kind != "no model":
        write_vocab(tmp_path)
        (tmp_path / "tokenizer_config.json").write_bytes(content)
        (tmp_path / "tokenizer.json").unlink()
        assert_refused(tmp_path, message, "tokenizer_config.json")


@pytest.mark.parametrize("kind", CHANGES)
def test_a_pipeline_unlike_ours_is_one_line(tmp_path, good_files, kind):
    place, value, message = CHANGES[kind]
    content = json.loads(good_files["tokenizer.json"])
    part = content
    *way, last = place.split(".", 2)
    for step in way:
        part = part[step]
    part[last] = value
    if kind == "empty vocab":
        content["added_tokens"] = []
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "tokenizer_config.json").write_text(GENERIC)
    assert_refused(tmp_path, message)


@pytest.mark.parametrize("token", [{"content": "dog", "id": 2}, {"content": "cat", "id": 26}])
def test_an_added_token_has_the_id_that_the_library_gives(tmp_path, good_files, token):
    content = json.loads(good_files["tokenizer.json"])
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    content["added_tokens"].append({**token, **flags})
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    library = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    symbols = load_tokenizer(tmp_path).symbols
    assert symbols == [library.id_to_token(n) for n in range(library.get_vocab_size())]
    assert symbols.index("cat") == 2


def test_special_tokens_are_text_also_where_the_file_calls_them_usual(tmp_path, good_files):
    content = json.loads(good_files["tokenizer.json"])
    for row in content["added_tokens"]:
        row["special"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    ours, texts = WordPieceTokenizer(ROWS), ["the [SEP] cat[MASK]", "[CLS][PAD] [UNK]"]
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.pieces_batch(texts) == ours.pieces_batch(texts)
    assert pickle.loads(pickle.dumps(tokenizer)).pieces_batch(texts) == ours.pieces_batch(texts)


# What our own WordPiece does not do.
WORKS = {
    "prefix": ("model.continuing_subword_prefix", "@@"),
    "short words": ("model.max_input_chars_per_word", 3),
    "long words": ("model.max_input_chars_per_word", 5000),
    "no normalizer": ("normalizer", None),
    "empty sequence": ("normalizer", {"type": "Sequence", "normalizers": []}),
    "kept controls": ("normalizer.clean_text", False),
    "splitter": ("pre_tokenizer", {"type": "WhitespaceSplit"}),
    "no splitter": ("pre_tokenizer", None),
    "whitespace": ("model.vocab.a\u3000b\n", 26),
    "empty piece": ("model.vocab.", 26),
    "byte-order mark": (
        "model.vocab",
        {f"\ufeff{row}" if row == ROWS[0] else row: index for index, row in enumerate(ROWS)},
    ),
}
# What no text shows.
ONLY_ROWS = ("no splitter", "whitespace", "empty piece")


@pytest.mark.parametrize("kind", WORKS)
def test_a_pipeline_unlike_ours_gives_the_ids_of_transformers(tmp_path, good_files, kind):
    place, value = WORKS[kind]
    content = json.loads(good_files["tokenizer.json"])
    part, (*way, last) = content, place.split(".")
    for step in way:
        part = part[step]
    part[last] = value
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "tokenizer_config.json").write_text(GENERIC)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert_same_ids(tokenizer, theirs, TEXTS)
    assert len(set(tokenizer.symbols)) == len(tokenizer.symbols) == len(theirs)
    assert all(symbol.split() == [symbol] for symbol in tokenizer.symbols)
    tokenizer.save(tmp_path / "ours")
    assert_same_ids(load_tokenizer(tmp_path / "ours"), theirs, TEXTS)
    if kind not in ONLY_ROWS:
        assert tokenizer.pieces_batch(TEXTS) != WordPieceTokenizer(ROWS).pieces_batch(TEXTS)


@pytest.mark.parametrize("name", [None, *FRAMING, "PreTrainedTokenizerFast", "OddTokenizer"])
def test_a_pipeline_without_a_frame_is_framed_where_transformers_frames(tmp_path, good_files, name):
    folder = save(WordPieceTokenizer(ROWS), tmp_path / "saved", model_config=True)
    (folder / "vocab.txt").unlink()
    content = {**json.loads(good_files["tokenizer.json"]), "post_processor": None}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    config = {"tokenizer_class": name} if name else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    ids = AutoTokenizer.from_pretrained(folder)("the cat")["input_ids"]
    if ids == [0, 2]:
        assert_refused(folder, NO_FRAME)
    else:
        assert ids == [6, 0, 2, 8]
        tokenizer = load_tokenizer(folder)
        assert tokenizer.symbols == ROWS
        tokenizer.save(tmp_path / "ours")
        again = tmp_path / "again"
        save(load_tokenizer(tmp_path / "ours"), again, model_config=True)
        assert AutoTokenizer.from_pretrained(again)("the cat")["input_ids"] == ids


ODD_SPECIALS = {
    "mask": "<mask>",
    "cls": "[SEP]",
    "sep": {"content": "[CLS]", "lstrip": False},
    "unk": "[MASK]",
    "pad": 7,
}


@pytest.mark.parametrize("role", ODD_SPECIALS)
@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("files", ["vocab.txt", "tokenizer.json"])
def test_special_tokens_of_other_names_are_refused(tmp_path, good_files, files, name, role):
    (tmp_path / files).write_bytes(good_files[files])
    ours = {f"{other}_token": {"content": special} for other, special in ROLES.items()}
    (tmp_path / name).write_text(json.dumps({**ours, "mask_token": None}))
    assert load_tokenizer(tmp_path).symbols == ROWS
    (tmp_path / name).write_text(json.dumps({**ours, f"{role}_token": ODD_SPECIALS[role]}))
    message = rf"its {role}_token is .*, where \{ROLES[role]} is expected: give another voc"
    assert_refused(tmp_path, message, name)
    if name == "special_tokens_map.json":
        # transformers leaves it out beside these.
        (tmp_path / "tokenizer_config.json").write_text('{"added_tokens_decoder": {}}')
        assert load_tokenizer(tmp_path).symbols == ROWS


def test_a_mask_that_transformers_calls_otherwise_is_refused(tmp_path):
    folder = saved_by_transformers(tmp_path, mask_token="<mask>")
    message = r"mask_token is '<mask>', where \[MASK\] is expected: .*called \[MASK\]$"
    assert_refused(folder, message, "tokenizer_config.json")


def test_a_sentencepiece_export_names_as_ours(tmp_path, vocabulary):
    folder = save(load_tokenizer(vocabulary), tmp_path / "export")
    settings = folder / "tokenizer_config.json"
    config = json.loads(settings.read_text())
    settings.write_text(json.dumps({**config, "mask_token": "[MASK]"}))
    assert_refused(folder, r"mask_token is '\[MASK\]', where <mask> is expected", settings.name)


def tokenizer_or_error(folder):
    try:
        return load_tokenizer(folder)
    except UserError as error:
        return str(error)


@pytest.mark.slow
def test_wrong_types_anywhere_are_no_traceback(tmp_path, good_files):
    good = json.loads(good_files["tokenizer.json"])

    def places(part, way=()):
        for key in part if isinstance(part, dict) else range(len(part)):
            yield (*way, key)
            if isinstance(part[key], (dict, list)):
                yield from places(part[key], (*way, key))

    for way in places(good):
        for value in (None, [], {}, [[]], -1, True, "", 1e300):
            content = copy.deepcopy(good)
            part = content
            for step in way[:-1]:
                part = part[step]
            part[way[-1]] = value
            (tmp_path / "tokenizer.json").write_text(json.dumps(content))
            outcome = tokenizer_or_error(tmp_path)
            if isinstance(outcome, str):
                assert "\n" not in outcome
            else:
                assert len(outcome.symbols) >= len(ROWS)


def test_a_folder_without_a_tokenizer(tmp_path):
    with pytest.raises(
        UserError,
        match=r"holds no tokenizer: expected .*, sentence.* in it: give another vocabulary "
        "with --tokenizer, or with the option that named this one$",
    ):
        load_tokenizer(tmp_path)
    with pytest.raises(UserError, match="nowhere: no such file"):
        load_tokenizer(tmp_path / "nowhere")
    (tmp_path / "tokenizer.json").mkdir()
    with pytest.raises(UserError, match=r"tokenizer.json: a folder, where a file is expected"):
        load_tokenizer(tmp_path)


PIPES = ["tokenizer.json", "tokenizer_config.json", "vocab.txt", "added_tokens.json", "dict.txt"]


@pytest.mark.parametrize("name", PIPES)
def test_a_pipe_in_a_folder_is_one_line(tmp_path, no_hanging, name):
    write_vocab(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    assert_refused(tmp_path, "a pipe or a device, where a regular file is expected", name)


def conversion(folder):
    return str(folder / "source"), str(folder / "here")


def test_a_pipe_for_the_config_is_one_line(no_hanging, tmp_path):
    os.mkfifo(write_vocab(tmp_path / "source").with_name("config.json"))
    with pytest.raises(UserError, match=r"config.json: a pipe or a device"):
        convbert(["convert", "--from", "hf", "--to", "fairseq", *conversion(tmp_path)])
    assert not (tmp_path / "here").exists()


def test_a_device_in_a_folder_is_one_line(tmp_path):
    (tmp_path / "tokenizer.json").symlink_to(os.devnull)
    assert_refused(tmp_path, "a pipe or a device, where a regular file is expected")


def test_a_byte_order_mark_of_the_config_is_dropped(tmp_path):
    config = write_vocab(tmp_path / "source").with_name("config.json")
    config.write_text('\ufeff{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(UserError, match="'bert'"):
        convbert(["convert", "--from", "hf", "--to", "fairseq", *conversion(tmp_path)])


def test_a_byte_order_mark_is_dropped(tmp_path):
    folder = saved_by_transformers(tmp_path, do_lower_case=False)
    for path in folder.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_tokenizer(folder).pieces("Cat the") == ["Cat", "the"]


def test_settings_of_wrong_types_are_one_line(tmp_path, good_files):
    (tmp_path / "vocab.txt").write_bytes(good_files["vocab.txt"])
    for content in ('{"do_lower_case": "yes"}', '{"strip_accents": []}'):
        (tmp_path / "tokenizer_config.json").write_text(content)
        assert_refused(tmp_path, "have to be true or false", "tokenizer_config.json")


FOREIGN = {
    "class": ({"tokenizer_config": {"tokenizer_class": "BertJapaneseTokenizer"}}, True),
    "of the model": ({"config": {"tokenizer_class": "BertJapaneseTokenizer"}}, True),
    "words": ({"tokenizer_config": {"word_tokenizer_type": "mecab"}}, True),
    "pieces": ({"tokenizer_config": {"subword_tokenizer_type": "character"}}, True),
    "jieba": ({"tokenizer_config": {"tokenizer_class": "RoFormerTokenizerFast"}}, True),
    "unknown": ({"tokenizer_config": {"tokenizer_class": "OurOwnTokenizer"}}, False),
    "bytes": ({"tokenizer_config": {"tokenizer_class": "RobertaTokenizer"}}, False),
    "number": ({"tokenizer_config": {"tokenizer_class": 7}}, False),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_class_that_splits_words_otherwise_is_refused_by_its_name(tmp_path, good_files, kind):
    files, is_always = FOREIGN[kind]
    ((name, content),) = files.items()
    ((key, value),) = content.items()
    write_vocab(tmp_path)
    (tmp_path / f"{name}.json").write_text(json.dumps({**content, "do_lower_case": False}))
    message = f"its {key} {value!r} splits texts by what is in none of its files.*: give another"
    assert_refused(tmp_path, message, f"{name}.json")
    with pytest.raises(UserError, match=message):
        load_tokenizer(tmp_path / "vocab.txt", cased=True)
    # Where there is a tokenizer.json, another class may split by it.
    (tmp_path / "tokenizer.json").write_bytes(good_files["tokenizer.json"])
    if is_always:
        assert_refused(tmp_path, message, f"{name}.json")
    else:
        assert load_tokenizer(tmp_path).symbols == ROWS


@pytest.mark.parametrize("name", [*FRAMING, "DistilBertTokenizerFast", "PreTrainedTokenizerFast"])
def test_classes_that_split_as_bert_does_are_read(tmp_path, name):
    write_vocab(tmp_path)
    # The settings are asked before the model.
    (tmp_path / "config.json").write_text('{"tokenizer_class": "BertJapaneseTokenizer"}')
    config = {"tokenizer_class": name, "word_tokenizer_type": "basic", "do_lower_case": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert load_tokenizer(tmp_path).pieces("The Cat") == ["[UNK]", "Cat"]


# U+2028 is a row of bert-base-chinese.
BLANK_ROWS = {
    "one": (3, "\u2028"),
    "empty": (3, ""),
    "several": (2, "\u3000", "", "\u2028", " ", "\t"),
    "duplicates": (5, "\u2028", "", "\u2028", "", "\x85"),
    "last": (len(ROWS), "\u2028"),
    "first": (0, "\u2028"),
    "named as another": (7, "\u2028", r"\u2028"),
}


@pytest.mark.parametrize("kind", BLANK_ROWS)
def test_blank_rows_keep_their_ids_and_bytes(tmp_path, kind):
    place, *blanks = BLANK_ROWS[kind]
    rows = [*ROWS[:place], *blanks, *ROWS[place:]]
    given = write_vocab(tmp_path, rows)
    tokenizer, theirs = load_tokenizer(given), BertTokenizer(vocab=str(given))
    assert len(set(tokenizer.symbols)) == len(tokenizer.symbols) == len(rows)
    assert [row for row in tokenizer.symbols if row in ROWS] == ROWS
    assert all(symbol.split() == [symbol] for symbol in tokenizer.symbols)
    texts = [*(text for text in TEXTS if "xx" not in text), r"the \u2028 cat \empty"]
    ids = [[tokenizer.symbols.index(piece) for piece in tokenizer.pieces(text)] for text in texts]
    assert ids == theirs(texts, add_special_tokens=False)["input_ids"]
    tokenizer.save(tmp_path / "ours")
    vocabulary = Vocabulary.load(tmp_path / "ours" / "dict.txt")
    assert vocabulary.symbols == tokenizer.symbols
    vocabulary.save(str(tmp_path / "data" / "dict.txt"))
    out = save(load_tokenizer(tmp_path / "data"), tmp_path / "out")
    for folder in ("ours", "data", "out"):
        assert (tmp_path / folder / "vocab.txt").read_bytes() == given.read_bytes()
        assert load_tokenizer(tmp_path / folder).symbols == tokenizer.symbols
    (tmp_path / "out" / "vocab.txt").unlink()
    assert load_tokenizer(out).symbols == tokenizer.symbols
    exported = AutoTokenizer.from_pretrained(out)
    assert exported(texts)["input_ids"] == [
        [theirs.cls_token_id, *row, theirs.sep_token_id] for row in ids
    ]
    assert len(exported) == len(rows)
    if len(set(blanks)) == len(blanks):
        assert exported.convert_ids_to_tokens(range(place, place + len(blanks))) == blanks
