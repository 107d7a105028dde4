import lzma
import pickle
from pathlib import Path

import pytest

from convbert_plugin.errors import UserError
from convbert_plugin.tokenization.symbols import read_symbols
from convbert_plugin.tokenization.tokenizer import load_tokenizer

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
BERT_VOCAB = DATA / "vocab" / "bert-base-uncased.txt"
needs_data = pytest.mark.skipif(not BERT_VOCAB.exists(), reason="the shared data are absent")

# The specials stand at odd rows, so that no id agrees by chance.
TOY_VOCAB = "the [PAD] cat [UNK] sat ##s [CLS] , [SEP] é [MASK] [ ] mask Cat café cafe 漢 ! ' ( )"


def write_vocab(folder: Path, rows: str = TOY_VOCAB, name: str = "vocab.txt") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("".join(f"{row}\n" for row in rows.split()), encoding="utf-8")
    return path


def sentencepiece_model(path: Path, **arguments) -> Path:
    from sentencepiece import SentencePieceTrainer

    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as model:
        SentencePieceTrainer.train(
            sentence_iterator=iter(f"the cat sat on mat {n} , a café !" for n in range(300)),
            model_writer=model,
            minloglevel=2,
            **{"vocab_size": 40, **arguments},
        )
    return path


@pytest.fixture(scope="module")
def real_text() -> list[str]:
    cola, wiki = (
        lzma.decompress((DATA / name).read_bytes()).decode().split("\n")
        for name in ("glue/CoLA/dev.tsv.xz", "corpus/wiki.valid.txt.xz")
    )
    return [*wiki, *(row.split("\t")[3] for row in cola if row)]


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize("cased", [False, True])
@pytest.mark.parametrize("strip_accents", [None, False, True])
def test_wordpiece_equals_transformers_on_real_text(real_text, cased, strip_accents):
    from transformers import BertTokenizer

    oracle = BertTokenizer(
        vocab=str(BERT_VOCAB), do_lower_case=not cased, strip_accents=strip_accents
    )
    ours = load_tokenizer(BERT_VOCAB, cased=cased, strip_accents=strip_accents)
    assert ours.pieces_batch(real_text) == [oracle.tokenize(text) for text in real_text]


@pytest.mark.slow
@needs_data
def test_wordpiece_equals_the_original_python_on_real_text(real_text):
    from transformers.models.bert.tokenization_bert_legacy import BasicTokenizer, WordpieceTokenizer

    basic = BasicTokenizer(do_lower_case=True)
    words = WordpieceTokenizer(dict.fromkeys(read_symbols(BERT_VOCAB).symbols, 0), "[UNK]", 200)
    texts = real_text[::7]
    assert load_tokenizer(BERT_VOCAB).pieces_batch(texts) == [
        [piece for word in basic.tokenize(text) for piece in words.tokenize(word)] for text in texts
    ]


def test_text_of_special_symbols_is_plain_text(tmp_path):
    wordpiece = load_tokenizer(write_vocab(tmp_path))
    pieces = wordpiece.pieces("[MASK] [UNK] cats[SEP]")
    assert " ".join(pieces) == "[ mask ] [ [UNK] ] cat ##s [ [UNK] ]"
    # Without those characters in the model, sentencepiece spells "<mask>" out as one piece.
    sentencepiece = load_tokenizer(sentencepiece_model(tmp_path / "m.model"))
    specials = {"<s>", "<pad>", "</s>", "<mask>", "[MASK]"}
    assert specials.isdisjoint(sentencepiece.pieces("<s> <pad> </s> <mask> [MASK]"))


def test_a_word_may_have_200_characters(tmp_path):
    tokenizer = load_tokenizer(write_vocab(tmp_path, TOY_VOCAB + " x ##x"))
    assert tokenizer.pieces("x" * 200) == ["x"] + ["##x"] * 199
    assert tokenizer.pieces("x" * 201) == ["[UNK]"]


def test_case_and_accents(tmp_path):
    vocab = write_vocab(tmp_path, name="any.txt")
    pieces = {
        (cased, strip): load_tokenizer(vocab, cased=cased, strip_accents=strip).pieces("Cat café")
        for cased in (False, True)
        for strip in (None, False, True)
    }
    assert pieces == {
        (False, None): ["cat", "cafe"],
        (False, False): ["cat", "café"],
        (False, True): ["cat", "cafe"],
        (True, None): ["Cat", "café"],
        (True, False): ["Cat", "café"],
        (True, True): ["Cat", "cafe"],
    }


@pytest.mark.parametrize("space", ["\x85", "\u2028", "\u3000", "\xa0", "\t", "\r", "\x0b", "\x1c"])
def test_no_piece_holds_whitespace(tmp_path, space):
    text = f"the{space}cat {space} sat{space}"
    for path in (write_vocab(tmp_path), sentencepiece_model(tmp_path / "m.model")):
        pieces = load_tokenizer(path).pieces(text)
        assert " ".join(pieces).split() == pieces


def test_sentencepiece_equals_sentencepiece(tmp_path):
    from sentencepiece import SentencePieceProcessor

    path = sentencepiece_model(tmp_path / "m.model")
    texts = ["the cat sat on the mat", "a café !", "", "12 cats"]
    oracle = SentencePieceProcessor(model_file=str(path))
    ours = load_tokenizer(path)
    assert ours.pieces_batch(texts) == [oracle.encode(text, out_type=str) for text in texts]
    assert [ours.detokenize(ours.pieces(text)) for text in texts] == texts
    assert ours.pieces("the 漢字")[-1] == ours.unknown
    assert ours.detokenize([*ours.pieces("the cat"), "<mask>", *ours.pieces("sat")]) == (
        "the cat <mask> sat"
    )


def test_wordpiece_detokenizes(tmp_path):
    tokenizer = load_tokenizer(write_vocab(tmp_path))
    assert tokenizer.detokenize(tokenizer.pieces("The cats ( the cat'the ) sat, [MASK]!")) == (
        "the cats (the cat'the) sat, [mask]!"
    )


def test_a_long_text_is_the_sum_of_its_words(tmp_path, monkeypatch):
    from convbert_plugin.tokenization import wordpiece as module

    monkeypatch.setattr(module, "CACHED_CHARACTERS", 10)
    tokenizer = load_tokenizer(write_vocab(tmp_path))
    texts = ["the cats sat, 漢漢 cat" * 3, "sat the cat"] * 5
    assert [tokenizer.pieces(text) for text in texts] == tokenizer.pieces_batch(texts)
    assert tokenizer.pieces("the cat " * 50_000) == ["the", "cat"] * 50_000


@pytest.mark.parametrize(
    "arguments",
    [{}, {"cased": True}, {"strip_accents": False}, {"cased": True, "strip_accents": True}],
)
def test_a_saved_folder_needs_no_flags(tmp_path, arguments):
    saved = tmp_path / "new" / "folder"
    tokenizer = load_tokenizer(write_vocab(tmp_path, name="any.txt"), **arguments)
    tokenizer.save(saved)
    tokenizer.save(saved)
    again = load_tokenizer(saved)
    assert again.identity() == tokenizer.identity()
    assert again.pieces("Cat café") == tokenizer.pieces("Cat café")
    assert load_tokenizer(saved, **arguments).identity() == tokenizer.identity()
    assert load_tokenizer(saved / "vocab.txt").identity() == tokenizer.identity()
    assert (saved / "dict.txt").read_text().split()[::2] == tokenizer.symbols
    assert sorted(path.name for path in saved.iterdir()) == [
        "dict.txt",
        "tokenizer_config.json",
        "vocab.txt",
    ]


def test_transformers_reads_a_saved_folder(tmp_path):
    from transformers import AutoTokenizer

    tokenizer = load_tokenizer(write_vocab(tmp_path, name="any.txt"), cased=True)
    tokenizer.save(tmp_path / "saved")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert theirs.tokenize("the Cat sat, café") == tokenizer.pieces("the Cat sat, café")
    roles = ("pad", "unk", "cls", "sep", "mask")
    assert [getattr(theirs, f"{role}_token_id") for role in roles] == [1, 3, 6, 8, 10]


def test_a_folder_written_by_transformers_keeps_its_settings(tmp_path):
    write_vocab(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false, "other": 1}')
    assert load_tokenizer(tmp_path).pieces("Cat café") == ["Cat", "café"]
    assert load_tokenizer(tmp_path, cased=True).pieces("Cat") == ["Cat"]


def test_symbols_of_a_sentencepiece_model(tmp_path):
    # As sentencepiece numbers by default: no pad, <unk> first, no mask.
    path = sentencepiece_model(tmp_path / "m.model")
    tokenizer = load_tokenizer(path)
    assert tokenizer.symbols[:4] == ["<s>", "<pad>", "</s>", "<unk>"]
    assert tokenizer.symbols[-1] == "<mask>"
    assert len(set(tokenizer.symbols)) == len(tokenizer.symbols) == 42
    tokenizer.save(tmp_path / "saved")
    assert read_symbols(tmp_path / "saved" / "dict.txt").symbols == tokenizer.symbols
    assert load_tokenizer(tmp_path / "saved").identity() == tokenizer.identity()


def test_a_dictionary_beside_the_model_numbers_its_pieces(tmp_path):
    tokenizer = load_tokenizer(sentencepiece_model(tmp_path / "sentencepiece.bpe.model"))
    rows = tokenizer.symbols[4:-1]
    kept = [row for row in reversed(rows) if row != "▁cat"]
    (tmp_path / "dict.txt").write_text("".join(f"{row} 7\n" for row in kept), encoding="utf-8")
    numbered = load_tokenizer(tmp_path)
    assert numbered.symbols == ["<s>", "<pad>", "</s>", "<unk>", *kept, "<mask>"]
    assert set(numbered.pieces("the cat sat on")) <= set(numbered.symbols)
    (tmp_path / "dict.txt").write_text("".join(f"word{n} 7\n" for n in range(50)))
    with pytest.raises(UserError, match=r"dict.txt and .*model disagree"):
        load_tokenizer(tmp_path)


def test_save_refuses_a_folder_of_another_tokenizer(tmp_path):
    tokenizer = load_tokenizer(write_vocab(tmp_path, name="any.txt"))
    others = {
        "vocabulary": load_tokenizer(write_vocab(tmp_path, TOY_VOCAB + " more", "more.txt")),
        "case": load_tokenizer(tmp_path / "any.txt", cased=True),
        "kind": load_tokenizer(sentencepiece_model(tmp_path / "m.model")),
    }
    for name, other in others.items():
        other.save(tmp_path / name)
        before = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        with pytest.raises(UserError, match="belongs to another tokenizer"):
            tokenizer.save(tmp_path / name)
        assert before == {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}


def test_save_takes_the_folder_of_the_bare_vocab(tmp_path):
    vocab = write_vocab(tmp_path)
    load_tokenizer(vocab, cased=True).save(tmp_path)
    assert load_tokenizer(tmp_path).pieces("Cat") == ["Cat"]


def test_a_windows_vocab_is_the_same(tmp_path):
    vocab = write_vocab(tmp_path)
    vocab.write_bytes(b"\xef\xbb\xbf" + vocab.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert load_tokenizer(vocab).symbols == TOY_VOCAB.split()


BROKEN_VOCABS = {
    "missing": (b"[UNK]\ncat\n[SEP]\n", r"no row \[PAD\], \[CLS\], \[MASK\]: .* needs"),
    "duplicate": (
        TOY_VOCAB.replace(" ", "\n").encode() + b"\ncat\nsat\n",
        r"vocab.txt:\d+: 'cat' stands on line 3 already \(2 duplicate lines .* use BERT's",
    ),
    "encoding": (b"[PAD]\ncaf\xe9\n", r"vocab.txt:2: not UTF-8 \(byte 0xe9 at column 4\)"),
    "empty": (b"\n\n", "empty"),
    "whitespace": (b"[PAD]\n[UNK] 1x\n", r"vocab.txt:2: '\[UNK\] 1x' is empty or holds whitespace"),
    "odd whitespace": ("[PAD]\na\u3000b\n".encode(), r"vocab.txt:2: .* holds whitespace"),
    "empty row": (b"[PAD] 1\n 1\n[UNK] 1\n", r"vocab.txt:2: expected 'piece count'"),
    "counts": (b"[PAD] 1\n[UNK]\n", r"vocab.txt:2: expected 'piece count'"),
    "fairseq's own": (b"a 1\n<pad> 2\n", r"vocab.txt:2: '<pad>' stands among fairseq's own"),
}


@pytest.mark.parametrize("kind", BROKEN_VOCABS)
def test_a_broken_vocab_is_one_line(tmp_path, kind):
    content, message = BROKEN_VOCABS[kind]
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        load_tokenizer(tmp_path / "vocab.txt")
    assert "\n" not in str(error.value)


def test_wrong_files_and_flags_are_one_line(tmp_path):
    vocab = write_vocab(tmp_path / "wordpiece")
    model = sentencepiece_model(tmp_path / "subwords" / "sentencepiece.bpe.model")
    (tmp_path / "broken.model").write_bytes(b"no model at all")
    (tmp_path / "empty").mkdir()
    saved = tmp_path / "saved"
    load_tokenizer(vocab).save(saved)
    both = write_vocab(tmp_path / "both").parent
    (both / model.name).write_bytes(model.read_bytes())
    for path, message in {
        tmp_path / "nowhere": "nowhere: no such file",
        tmp_path / "empty": "holds no tokenizer: expected tokenizer.json, vocab.txt, sentence",
        tmp_path / "broken.model": "broken.model: not a sentencepiece model",
        saved / "dict.txt": "dict.txt: a dictionary, not a tokenizer: give the folder",
        both: "stand in one folder: remove one",
    }.items():
        with pytest.raises(UserError, match=message):
            load_tokenizer(path)
    for arguments in ({"cased": True}, {"strip_accents": False}):
        with pytest.raises(UserError, match="own rules for case and accents: drop"):
            load_tokenizer(model, **arguments)
    settings = vocab.with_name("tokenizer_config.json")
    settings.write_text('{"do_lower_case": true}')
    with pytest.raises(UserError, match=r"config.json: it lower-cases, .* --cased: drop"):
        load_tokenizer(vocab.parent, cased=True)
    with pytest.raises(UserError, match=r"it strips accents, .* --keep-accents: drop"):
        load_tokenizer(vocab.parent, strip_accents=False)
    settings.write_text('\ufeff{"do_lower_case": false}', encoding="utf-8")
    assert load_tokenizer(vocab.parent).settings.cased
    with pytest.raises(UserError, match=r"it keeps accents, .* --strip-accents: drop"):
        load_tokenizer(vocab.parent, strip_accents=True)
    for content in ("[1]", "{", '{"do_lower_case": "yes"}', '{"do_lower_case": []}'):
        settings.write_text(content)
        with pytest.raises(UserError, match=r"tokenizer_config.json: "):
            load_tokenizer(vocab.parent)


def test_dictionary_and_vocab_have_to_agree(tmp_path):
    load_tokenizer(write_vocab(tmp_path, name="any.txt")).save(tmp_path / "saved")
    write_vocab(tmp_path / "saved", TOY_VOCAB.replace("cat", "dog"))
    with pytest.raises(UserError, match=r"dict.txt and .*vocab.txt disagree \(id 2 is 'cat'"):
        load_tokenizer(tmp_path / "saved")


def test_a_sentencepiece_piece_with_whitespace_has_a_name(tmp_path):
    from sentencepiece import SentencePieceProcessor

    path = sentencepiece_model(tmp_path / "m.model", user_defined_symbols=["a\u3000b"])
    oracle = SentencePieceProcessor(model_file=str(path))
    tokenizer = load_tokenizer(path)
    tokenizer.save(tmp_path / "saved")
    for again in (tokenizer, load_tokenizer(tmp_path / "saved")):
        # As there: no <unk>, <s> and </s>, but four of ours before the rest.
        place = again.symbols.index(r"a\u3000b")
        assert place == oracle.piece_to_id("a\u3000b") + 1
        assert again.detokenize([*again.pieces("the cat"), r"a\u3000b"]) == "the cata\u3000b"


def test_fingerprint_tells_ids_apart(tmp_path):
    one = load_tokenizer(write_vocab(tmp_path, name="one.txt"))
    other = load_tokenizer(write_vocab(tmp_path, TOY_VOCAB.replace("sat ##s", "##s sat"), "o.txt"))
    assert one.fingerprint() != other.fingerprint()
    assert one.fingerprint() == load_tokenizer(tmp_path / "one.txt", cased=True).fingerprint()


def test_user_errors_travel_between_processes(tmp_path):
    with pytest.raises(UserError) as error:
        load_tokenizer(tmp_path / "nowhere")
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)
