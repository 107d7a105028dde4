import copy
import json
import lzma
import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer, BertTokenizer, ConvBertConfig

from convbert_plugin.cli import main as convbert
from convbert_plugin.conversion.tokenizer_files import read_tokenizer, transformers_files
from convbert_plugin.data.text_files import ODD_WHITESPACE
from convbert_plugin.data.tokenizer import (
    SentencePieceTokenizer,
    WordPieceSettings,
    WordPieceTokenizer,
    load_tokenizer,
)
from convbert_plugin.errors import UserError

pytestmark = pytest.mark.weights

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
BERT_VOCAB = DATA / "vocab" / "bert-base-uncased.txt"
needs_data = pytest.mark.skipif(not BERT_VOCAB.exists(), reason="the shared data are absent")

# The specials stand at odd rows, so that no id agrees by chance.
TOY_VOCAB = (
    "the [PAD] cat [UNK] sat ##s [CLS] , [SEP] é [MASK] [ ] mask Cat café cafe 漢 字 ! ' ( ) ."
)
ROWS = [*TOY_VOCAB.split(), "x", "##x"]
ROLES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
FAIRSEQ_ROLES = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}

SETTINGS = [
    WordPieceSettings(cased, accents, chinese)
    for cased, accents, chinese in [
        (False, None, True),
        (False, False, True),
        (True, None, False),
        (True, True, True),
    ]
]
TEXTS = [
    "The Cat sat, the cats (the CAFÉ) sat!",
    "café cafe\u0301 É e\u0301",
    "漢字cat漢 字",
    "the\xa0cat\tsat\u3000cat\x85cat\u2028 cat \r\n sat",
    "\x00c\x07at\x7f the\u200b\ufeff sat \xad\u200d.",
    "cat 😀👩\u200d👩\u200d👧🇩🇪 the",
    "x" * 150,
    "x" * 201 + " the",
    "",
    "  ",
    "▁the ▁ cat▁",
    "①ﬁ Ａ ½ the №3",
    "1000000 the --- ..... -----",
]


def save(tokenizer, folder, model_config=False, **arguments):
    folder.mkdir(parents=True)
    for name, content in transformers_files(tokenizer, **arguments).items():
        (folder / name).write_bytes(content)
    if model_config:
        ConvBertConfig(vocab_size=len(tokenizer.symbols)).save_pretrained(folder)
    return folder


def encoder(tokenizer):
    """What the hub's ``encode`` gives between the separators: a literal mask is one."""
    index = {symbol: number for number, symbol in enumerate(tokenizer.symbols)}

    def encode(text):
        parts = [[index[p] for p in tokenizer.pieces(part)] for part in text.split(tokenizer.mask)]
        return [number for part in parts for number in (index[tokenizer.mask], *part)][1:]

    return encode


def assert_same_ids(tokenizer, theirs, texts):
    encode = encoder(tokenizer)
    assert theirs(texts, add_special_tokens=False)["input_ids"] == [encode(text) for text in texts]


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
        assert read_tokenizer(folder).identity() == tokenizer.identity()
        assert load_tokenizer(folder).identity() == tokenizer.identity()


def test_an_export_serves_the_class_of_bert_too(tmp_path):
    tokenizer = WordPieceTokenizer(ROWS, WordPieceSettings(cased=True, strip_accents=True))
    theirs = BertTokenizer.from_pretrained(save(tokenizer, tmp_path / "export"))
    # That class has its own limit of 100 characters.
    assert_same_ids(tokenizer, theirs, [text for text in TEXTS if "xx" not in text])


def test_the_maximal_length_is_stored(tmp_path):
    folder = save(WordPieceTokenizer(ROWS), tmp_path / "export", max_length=6)
    theirs = AutoTokenizer.from_pretrained(folder)
    assert len(theirs("the cat " * 9, truncation=True)["input_ids"]) == 6


def made_lines(count=400):
    rng = random.Random(3)
    syllables = ["ca", "té", "lo", "mi", "ra", "sun", "ing", "pré", "é", "dor", "ba", "tu"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(150)]
    words += ["the", "cat", "cats", "sat", "(the", "mat)", "--", "...", "1000", "2024", "X-ray"]
    words += ["the cat sat on the mat"] * 9
    return [
        " ".join(rng.choices(words, k=9)).capitalize() + rng.choice(".!?") for _ in range(count)
    ]


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def vocabulary(request, tmp_path_factory):
    """A folder of ``convbert train-vocab``."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "text").write_text("\n".join(made_lines()), encoding="utf-8")
    flags = ("--vocab-size", "180", "--model-type", request.param)
    assert convbert(["train-vocab", *flags, str(folder / "text"), str(folder / "out")]) == 0
    return folder / "out"


@pytest.mark.parametrize("model_config", [False, True])
def test_sentencepiece_gives_the_same_ids_in_transformers(tmp_path, vocabulary, model_config):
    tokenizer = load_tokenizer(vocabulary)
    folder = save(tokenizer, tmp_path / "export", model_config)
    theirs = AutoTokenizer.from_pretrained(folder)
    assert_equivalent(tokenizer, theirs, FAIRSEQ_ROLES)
    assert_same_ids(tokenizer, theirs, made_lines())
    assert theirs("cat the cats").word_ids()[1:-1][-1] == 2
    assert read_tokenizer(folder).identity() == tokenizer.identity()
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
    assert read_tokenizer(folder).identity() == tokenizer.identity()


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


@needs_data
def test_wordpiece_on_real_text(tmp_path, real_text):
    tokenizer = load_tokenizer(BERT_VOCAB)
    theirs = AutoTokenizer.from_pretrained(save(tokenizer, tmp_path / "export"))
    assert_same_ids(tokenizer, theirs, real_text[::2])


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


def write_vocab(folder, rows=ROWS):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return folder / "vocab.txt"


def saved_by_transformers(folder, name="BertTokenizer", **arguments):
    import transformers

    vocab = write_vocab(folder / "given")
    tokenizer = getattr(transformers, name)(vocab=str(vocab), **arguments)
    tokenizer.save_pretrained(folder / "saved")
    assert sorted(path.name for path in (folder / "saved").iterdir()) == [
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    return folder / "saved"


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
    tokenizer = read_tokenizer(folder)
    assert tokenizer.identity() == WordPieceTokenizer(ROWS, settings).identity()
    theirs = AutoTokenizer.from_pretrained(folder)
    texts = [text for text in TEXTS if "xx" not in text]
    assert tokenizer.pieces_batch(texts) == [theirs.tokenize(text) for text in texts]


def test_an_export_saved_again_by_transformers_is_read(tmp_path):
    tokenizer = WordPieceTokenizer(ROWS, WordPieceSettings(cased=True))
    theirs = AutoTokenizer.from_pretrained(save(tokenizer, tmp_path / "export"))
    theirs.save_pretrained(tmp_path / "again")
    assert read_tokenizer(tmp_path / "again").identity() == tokenizer.identity()


def test_added_tokens_are_rows_at_their_ids(tmp_path):
    folder = saved_by_transformers(tmp_path)
    theirs = AutoTokenizer.from_pretrained(folder)
    theirs.add_tokens(["dog", "[ENTITY]"])
    theirs.save_pretrained(folder)
    tokenizer = read_tokenizer(folder)
    assert tokenizer.symbols == [*ROWS, "dog", "[ENTITY]"]
    assert encoder(tokenizer)("the dog") == theirs("the dog", add_special_tokens=False)["input_ids"]
    # As transformers 4 wrote them: with vocab.txt, which lacks them.
    write_vocab(folder)
    assert read_tokenizer(folder).symbols == [*ROWS, "dog", "[ENTITY]"]
    (folder / "tokenizer.json").unlink()
    (folder / "added_tokens.json").write_text(json.dumps({"[ENTITY]": len(ROWS)}))
    assert read_tokenizer(folder).symbols == [*ROWS, "[ENTITY]"]
    (folder / "added_tokens.json").write_text(json.dumps({"[ENTITY]": len(ROWS) + 1}))
    with pytest.raises(UserError, match=r"added_tokens.json: .*none has id 26"):
        read_tokenizer(folder)


def test_a_folder_of_transformers_4_is_read(tmp_path):
    vocab = write_vocab(tmp_path)
    assert read_tokenizer(tmp_path).identity() == load_tokenizer(vocab).identity()
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert read_tokenizer(tmp_path).pieces("Cat") == ["Cat"]
    fast = json.loads(transformers_files(read_tokenizer(tmp_path))["tokenizer.json"])
    del fast["model"]["type"]
    fast["post_processor"] = {"type": "BertProcessing", "sep": ["[SEP]", 8], "cls": ["[CLS]", 6]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(fast))
    assert read_tokenizer(tmp_path).pieces("Cat") == ["Cat"]


def test_files_that_contradict_each_other_are_refused(tmp_path):
    folder = saved_by_transformers(tmp_path, do_lower_case=False)
    write_vocab(folder)
    assert read_tokenizer(folder).symbols == ROWS
    write_vocab(folder, ["dog" if row == "cat" else row for row in ROWS])
    with pytest.raises(UserError, match=r"vocab.txt and .*tokenizer.json disagree \(id 2 is 'dog'"):
        read_tokenizer(folder)
    for rows, sizes in {(*ROWS, "dog"): "27 and 26", tuple(ROWS[:-1]): "25 and 26"}.items():
        write_vocab(folder, rows)
        with pytest.raises(UserError, match=rf"disagree \({sizes} pieces\): remove the one"):
            read_tokenizer(folder)
    write_vocab(folder)
    config = folder / "tokenizer_config.json"
    # Without a word on case, BertTokenizer lower-cases, whatever tokenizer.json says.
    for settings in ({"do_lower_case": True}, {"tokenizer_class": "BertTokenizer"}):
        config.write_text(json.dumps(settings))
        with pytest.raises(UserError, match=r"config.json and .*tokenizer.json disagree on case"):
            read_tokenizer(folder)
    config.write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    assert read_tokenizer(folder).pieces("Cat") == ["Cat"]
    config.unlink()
    assert read_tokenizer(folder).pieces("Cat") == ["Cat"]


def test_a_sentencepiece_export_without_its_model_or_dictionary(tmp_path, vocabulary):
    folder = save(load_tokenizer(vocabulary), tmp_path / "export")
    rows = (folder / "dict.txt").read_text().split("\n")
    (folder / "dict.txt").write_text("\n".join([rows[1], rows[0], *rows[2:]]))
    with pytest.raises(UserError, match=r"model and .*tokenizer.json disagree \(id 4 is"):
        read_tokenizer(folder)
    (folder / "sentencepiece.bpe.model").unlink()
    message = r"model is '(Unigram|BPE)', .* needs its sentencepiece.bpe.model and dict.txt here"
    with pytest.raises(UserError, match=message):
        read_tokenizer(folder)


BROKEN_FILES = {
    "empty file": (b"", r"broken JSON \(Expecting value"),
    "half": (b'{"model": {"vocab"', "broken JSON"),
    "list": (b"[1]", "not a JSON object"),
    "encoding": (b'{"model": "\xe9"}', "not UTF-8"),
    "deep": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    "long number": (b'{"a": ' + b"9" * 5000 + b"}", "broken JSON"),
    "no model": (b"{}", "its model is None, where WordPiece is expected"),
}

# Where in tokenizer.json, what stands there, what is said.
CHANGES = {
    "bpe": ("model.type", "BPE", "its model is 'BPE', where WordPiece is expected"),
    "strange type": ("model.type", ["BPE"] * 999, "where WordPiece is expected"),
    "model": ("model", 7, "its model is 7"),
    "prefix": ("model.continuing_subword_prefix", "@@", r"its model is '@@', .*'##' is expected"),
    "unknown": ("model.unk_token", "<unk>", r"unk_token of its model is '<unk>'"),
    "unknown's type": ("model.unk_token", {"a": 1}, r"unk_token of its model is"),
    "short words": ("model.max_input_chars_per_word", 20, r"is 20, .*at least 100"),
    "words": ("model.max_input_chars_per_word", "100", r"max_input_chars_per_word is '100'"),
    "no vocab": ("model.vocab", None, "its model has no vocab"),
    "empty vocab": ("model.vocab", {}, r"0 pieces none has id 0|no piece \[PAD\]|none has id"),
    "flat vocab": ("model.vocab", ["the"], "its model has no vocab"),
    "hole": ("model.vocab.cat", 9999, "of its 26 pieces none has id 2"),
    "huge id": ("model.vocab.cat", 10**30, "of its 26 pieces none has id 2"),
    "negative id": ("model.vocab.cat", -1, "of its 26 pieces none has id 2"),
    "same id": ("model.vocab.cat", 4, r"'sat' with id 4 contradicts 'cat' with id 4"),
    "truth": ("model.vocab.cat", True, r"'cat' with id True in its vocabulary"),
    "text id": ("model.vocab.cat", "2", r"'cat' with id '2' in its vocabulary"),
    "fraction": ("model.vocab.cat", 2.0, r"'cat' with id 2.0 in its vocabulary"),
    "not a number": ("model.vocab.cat", float("nan"), r"'cat' with id nan"),
    "whitespace": ("model.vocab.a\u3000b\n", 26, r"its piece 'a\\u3000b\\n' is empty, holds"),
    "empty piece": ("model.vocab.", 26, "its piece '' is empty"),
    "no Unicode": ("model.vocab.\ud800", 26, r"its piece '\\ud800' .* is no Unicode"),
    "added": ("added_tokens", {"a": 1}, "its added_tokens are no list of objects"),
    "added rows": ("added_tokens", [1], "its added_tokens are no list of objects"),
    "added without id": ("added_tokens", [{"content": "dog"}], "'dog' with id None"),
    "added twice": (
        "added_tokens",
        [{"content": "dog", "id": 2}],
        r"'dog' with id 2 contradicts 'cat'",
    ),
    "moved": (
        "added_tokens",
        [{"content": "cat", "id": 26}],
        r"'cat' with id 26 contradicts 'cat'",
    ),
    "normalizer": ("normalizer", None, "type of its normalizer is None"),
    "sequence": ("normalizer", {"type": "Sequence", "normalizers": []}, "'BertNormalizer' is exp"),
    "clean": ("normalizer.clean_text", 1, r"clean_text of its normalizer is 1, .*True is expected"),
    "lower": ("normalizer.lowercase", "no", "lowercase, strip_accents, handle_chinese_chars have"),
    "accents": ("normalizer.strip_accents", [1], "strip_accents also null"),
    "splitter": ("pre_tokenizer.type", "Whitespace", "type of its pre_tokenizer is 'Whitespace'"),
    "frame": ("post_processor", {"type": "ByteLevel"}, r"\[CLS\] and \[SEP\] is expected"),
    "other frame": (
        "post_processor",
        {"type": "TemplateProcessing", "special_tokens": {"<s>": {}}},
        r"post_processor is 'different', .*\[CLS\] and \[SEP\] is expected",
    ),
    "frame's type": ("post_processor", [1], r"\[CLS\] and \[SEP\] is expected"),
}


def assert_refused(folder, message, name="tokenizer.json"):
    with pytest.raises(UserError, match=message) as error:
        read_tokenizer(folder)
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
    assert_refused(tmp_path, message)


def tokenizer_or_error(folder):
    try:
        return read_tokenizer(folder)
    except UserError as error:
        return str(error)


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
        UserError, match=r"none of vocab.txt, tokenizer.json, sentence.* --tokenizer"
    ):
        read_tokenizer(tmp_path)
    with pytest.raises(UserError, match="nowhere: no such file"):
        read_tokenizer(tmp_path / "nowhere")
    (tmp_path / "tokenizer.json").mkdir()
    with pytest.raises(UserError, match=r"tokenizer.json: a folder, where a file is expected"):
        read_tokenizer(tmp_path)


def test_settings_of_wrong_types_are_one_line(tmp_path, good_files):
    (tmp_path / "tokenizer.json").write_bytes(good_files["tokenizer.json"])
    for content in ('{"do_lower_case": "yes"}', '{"strip_accents": []}'):
        (tmp_path / "tokenizer_config.json").write_text(content)
        assert_refused(tmp_path, "have to be true or false", "tokenizer_config.json")
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.txt").write_bytes(good_files["vocab.txt"])
    assert_refused(tmp_path, "have to be true or false", "tokenizer_config.json")
