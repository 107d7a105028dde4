import bz2
import gzip
import lzma
import re
from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor

from convbert_plugin.cli import main, train_vocab
from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.errors import UserError


@pytest.fixture
def text(tmp_path) -> Path:
    path = tmp_path / "text.txt"
    lines = (
        f"The number {n} is {'odd' if n % 2 else 'even'}, they say {n * n}." for n in range(500)
    )
    path.write_text("\n\n".join(lines))
    return path


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_ids_agree_between_model_and_dictionary(text, tmp_path, model_type, capsys):
    out = tmp_path / "new" / "out"
    flags = ["--vocab-size", "90", "--model-type", model_type]
    assert main(["train-vocab", *flags, str(text), str(out)]) == 0
    assert capsys.readouterr().out == f"90 symbols in {out / 'dict.txt'}\n"
    model = SentencePieceProcessor(model_file=str(out / "sentencepiece.bpe.model"))
    vocabulary = Vocabulary.load(out / "dict.txt")
    assert [model.id_to_piece(index) for index in range(90)] == vocabulary.symbols
    assert vocabulary.symbols[:5] == ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    assert vocabulary.mask() == 4
    assert 4 not in model.encode("The <mask> is <mask>")
    line = "The number 7 is odd, they say 49."
    ids = vocabulary.encode_line(" ".join(model.encode(line, out_type=str)), add_if_not_exist=False)
    assert ids.tolist() == [*model.encode(line), vocabulary.eos()]


def test_compressed_and_wide_texts_give_the_same_model(text, tmp_path):
    packed = [tmp_path / name for name in ("a.gz", "b.xz", "c.bz2", "d.txt")]
    packed[0].write_bytes(gzip.compress(text.read_bytes()))
    packed[1].write_bytes(lzma.compress(b"\xef\xbb\xbf" + text.read_bytes()))
    packed[2].write_bytes(bz2.compress(text.read_bytes()))
    packed[3].write_bytes(text.read_text().encode("utf-16"))
    models = []
    for name, inputs in {"plain": [text] * 4, "packed": packed}.items():
        out = tmp_path / name
        main(["train-vocab", "--vocab-size", "80", *map(str, inputs), str(out)])
        models.append((out / "sentencepiece.bpe.model").read_bytes())
    assert models[0] == models[1]


def test_only_the_sample_is_used(text, tmp_path):
    flags = ["train-vocab", "--vocab-size", "2000", "--model-type", "bpe", str(text), "out"]
    largest = []
    for sample in ([], ["--sample-lines", "101"]):
        with pytest.raises(UserError, match="is too large for this text") as error:
            main([*flags, *sample])
        largest.append(int(str(error.value).split()[-1]))
    assert largest[1] < largest[0]


def test_a_long_line_is_cut_at_spaces_and_kept_whole():
    line = "word " * 5000
    parts = list(train_vocab._sentences(line))
    assert max(map(len, parts)) <= train_vocab.SENTENCE_CHARACTERS
    assert " ".join(parts).split() == line.split()
    assert "".join(train_vocab._sentences("漢" * 10_000)) == "漢" * 10_000
    assert list(train_vocab._sentences("   ")) == []


def test_the_largest_size_is_named_and_works(text, tmp_path):
    with pytest.raises(UserError, match="--vocab-size 9000 is too large") as error:
        main(["train-vocab", "--vocab-size", "9000", str(text), str(tmp_path / "out")])
    largest = re.search(r"at most (\d+)$", str(error.value)).group(1)
    assert not (tmp_path / "out").exists()
    assert main(["train-vocab", "--vocab-size", largest, str(text), str(tmp_path / "out")]) == 0


MISTAKES = {
    "too small": (
        b"a quick brown fox\n" * 50,
        "12",
        r"--vocab-size 12 is too small .*at least \d+",
    ),
    "empty": (b"", "50", r"in.txt: no text to train on"),
    "blank": (b"\n \n\t\n\xc2\xa0\n", "50", r"in.txt: no text to train on"),
    "encoding": (
        b"fine\n" * 9 + b"caf\xe9\n",
        "50",
        r"in.txt:10: not UTF-8 \(byte 0xe9 at column 4",
    ),
    "late encoding": (b"fine\n" * 300_000 + b"\xff", "50", r"in.txt:300001: not UTF-8"),
    "archive": (
        gzip.compress(b"text\n" * 99)[:-9],
        "50",
        r"in.txt: a corrupt or truncated archive",
    ),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_one_line_and_writes_nothing(tmp_path, kind):
    content, size, message = MISTAKES[kind]
    (tmp_path / "in.txt").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        main(["train-vocab", "--vocab-size", size, str(tmp_path / "in.txt"), str(tmp_path / "out")])
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


def test_what_stands_in_the_way_is_one_line(text, tmp_path):
    flags = ["train-vocab", "--vocab-size", "50"]
    for inputs, out, message in (
        (["nowhere.txt"], "out", "nowhere.txt: no such file"),
        ([str(tmp_path)], "out", "a folder, where a file is expected"),
        ([str(text)], str(text), "text.txt: a file, where OUT has to be a folder"),
    ):
        with pytest.raises(UserError, match=message):
            main([*flags, *inputs, out])
    (tmp_path / "dict.txt").write_text("a 1\n")
    with pytest.raises(UserError, match=r"dict.txt: there already"):
        main([*flags, str(text), str(tmp_path)])


@pytest.mark.parametrize(
    "flags",
    [
        ["--vocab-size", "5"],
        ["--vocab-size", "50", "--sample-lines", "100"],
        ["--vocab-size", "50", "--character-coverage", "0.5"],
        ["--vocab-size", "50", "--model-type", "word"],
        [],
    ],
)
def test_wrong_arguments_end_with_status_2(flags, tmp_path):
    with pytest.raises(SystemExit) as end:
        main(["train-vocab", *flags, "in.txt", str(tmp_path / "out")])
    assert end.value.code == 2
