import bz2
import codecs
import gzip
import io
import json
import lzma
import os
import re
import signal
import struct
import subprocess
import sys
import tarfile
import time
import unicodedata
from pathlib import Path

import pytest

from convbert_plugin.cli import main
from convbert_plugin.errors import UserError
from convbert_plugin.files import text_files
from convbert_plugin.tokenization.tokenizer import load_tokenizer

REPOSITORY = Path(__file__).resolve().parents[2]
VOCAB = ["the", "[PAD]", "cat", "[UNK]", "sat", "##s", "[CLS]", ",", "[SEP]", ".", "[MASK]"]
VOCAB += ["Cat", "dog", "a", "b", "\uc138\uc0c1", "ti\u1ebfng"]
TEXT = "The cats sat.\n\n  \nA dog , the cat\nA b\n"
PIECES = "the cat ##s sat .\n\n\na dog , the cat\na b\n"


@pytest.fixture
def vocab(tmp_path) -> Path:
    path = tmp_path / "vocab" / "any.txt"
    path.parent.mkdir()
    path.write_text("".join(f"{row}\n" for row in VOCAB))
    return path


@pytest.fixture
def encode(vocab, tmp_path):
    def run(content: bytes, *flags: str, name: str = "in.txt") -> str:
        (tmp_path / name).write_bytes(content)
        out = tmp_path / "out" / f"{name}.pieces"
        assert (
            main(["encode", "--tokenizer", str(vocab), *flags, str(tmp_path / name), str(out)]) == 0
        )
        return out.read_bytes().decode()

    return run


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode().rstrip(b"\n"),
        TEXT.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + TEXT.encode(),
        gzip.compress(TEXT.encode(), mtime=0),
        b"".join(gzip.compress(part.encode(), mtime=0) for part in (TEXT[:9], TEXT[9:])),
        lzma.compress(TEXT.encode()),
        bz2.compress(TEXT.encode()),
        b"".join(bz2.compress(part.encode()) for part in (TEXT[:9], TEXT[9:])),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.replace("\n", "\r\n").encode("utf-16-be"),
        TEXT.encode("utf-32"),
        gzip.compress(TEXT.encode("utf-16"), mtime=0),
    ],
)
def test_one_line_a_line(encode, content):
    assert encode(content) == PIECES


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_only_line_feeds_end_a_line(encode, encoding):
    text = "the\x85cat\u2028sat\x0bdog\x0cthe\rcat\x1csat\u2029dog\nthe\n"
    pieces = encode(text.encode(encoding))
    assert pieces.count("\n") == 2
    assert pieces.splitlines()[1] == "the"
    assert pieces.split("\n")[0].split() == pieces.split("\n")[0].split(" ")


def test_a_line_without_pieces_ends_no_document(encode, capsys):
    assert encode("the cat\n\u200b\nsat\n\nthe dog\n\u200b\u200d\n".encode()) == (
        "the cat\nsat\n\nthe dog\n"
    )
    summary = capsys.readouterr().out
    assert summary.startswith("3 lines, 2 documents, 5 tokens, 0.00% [UNK], ")
    assert summary.endswith(" s, 2 lines dropped that hold no piece\n")


def test_unknown_pieces_above_one_in_a_hundred_are_a_warning_with_an_example(encode, capsys):
    encode(b"the bird sat\n")
    output = capsys.readouterr()
    assert "33.33% [UNK]" in output.out
    warning = output.err.splitlines()[-1]
    assert warning.startswith(
        "warning: 33.3% of the tokens are [UNK]: does the vocabulary fit the "
    )
    assert warning.endswith(" is 'bird'")
    encode(b"the cat\n" * 99 + b"sat bird\n", name="more.txt")
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("word", ["\uc138\uc0c1", "ti\u1ebfng"])
def test_the_hint_helps_for_letters_that_are_taken_apart(encode, vocab, capsys, word):
    # Of Korean and Vietnamese: without accents they are in no vocabulary.
    assert encode(word.encode()) == "[UNK]\n"
    warning = capsys.readouterr().err.splitlines()[-1]
    assert all(hint in warning for hint in ("language", "case", "accents", "normalization"))
    assert f"--keep-accents. The first such word is {word!r}" in warning
    keeping = load_tokenizer(vocab, strip_accents=False)
    assert keeping.pieces(word) == [word]
    assert keeping.pieces(unicodedata.normalize("NFD", word)) == ["[UNK]"]

    assert encode("Cat c\u0301at".encode(), name="lower") == "cat cat\n"
    with pytest.raises(UserError, match="belongs to another tokenizer"):
        encode(b"Cat", "--cased", name="cased")


def test_the_tokenizer_travels(encode, vocab, tmp_path):
    encode(b"Cat", "--cased")
    folder = tmp_path / "out"
    assert sorted(path.name for path in folder.iterdir()) == [
        "dict.txt",
        "in.txt.pieces",
        "tokenizer_config.json",
        "vocab.txt",
    ]
    assert json.loads((folder / "tokenizer_config.json").read_text())["do_lower_case"] is False
    assert load_tokenizer(folder).pieces("Cat cat") == ["Cat", "cat"]
    again = tmp_path / "again.txt"
    main(["encode", "--tokenizer", str(folder), str(tmp_path / "in.txt"), str(folder / "more")])
    main(["encode", "--tokenizer", str(folder), str(tmp_path / "in.txt"), str(again)])
    assert (folder / "more").read_text() == again.read_text() == "Cat\n"
    assert (tmp_path / "vocab.txt").exists()


def test_sentencepiece(tmp_path):
    text, out = tmp_path / "text.txt", tmp_path / "tokenizer"
    text.write_text("".join(f"the cat sat {n}\n\n" for n in range(99)))
    main(["train-vocab", "--vocab-size", "30", str(text), str(out)])
    main(["encode", "--tokenizer", str(out), str(text), str(out / "train.txt")])
    tokenizer = load_tokenizer(out)
    lines = (out / "train.txt").read_text().split("\n")
    assert [tokenizer.detokenize(line.split()) for line in lines] == text.read_text().split("\n")
    assert {piece for line in lines for piece in line.split()} <= set(tokenizer.symbols)


def command(*arguments, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "convbert_plugin.cli", "encode", *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # A shell that puts the tests into the background makes all of them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def write_large(path: Path, megabytes: int) -> None:
    paragraph = "".join(f"the cat {n} sat , a dog .\n" + "\n" * (n % 7 == 0) for n in range(40_000))
    with open(path, "w") as file:
        for _ in range(megabytes):
            file.write(paragraph[: 1 << 20])


def test_several_workers_give_what_one_gives(vocab, tmp_path):
    write_large(tmp_path / "in.txt", 5)
    results = []
    for workers in (1, 3):
        out = tmp_path / str(workers) / "out.txt"
        process = command("--tokenizer", vocab, "--workers", workers, tmp_path / "in.txt", out)
        summary, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        results.append((out.read_bytes(), summary.rpartition("[UNK]")[0]))
    assert results[0] == results[1]
    lines = results[0][0].decode().split("\n")
    documents = "\n".join(lines).strip("\n").replace("\n\n\n", "\n\n").count("\n\n") + 1
    assert f"{sum(map(bool, lines)):,} lines, {documents:,} documents" in results[0][1]


def test_neither_the_command_nor_its_workers_import_what_is_heavy(vocab, tmp_path):
    write_large(tmp_path / "in.txt", 3)
    arguments = ("--tokenizer", vocab, "--workers", 2, tmp_path / "in.txt", tmp_path / "out.txt")
    # Python then tells of each import on stderr, in the worker processes too.
    process = command(*arguments, PYTHONPROFILEIMPORTTIME="1")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    imported = re.findall(r"import time:[^|]*\|[^|]*\|\s*([\w.]+)$", errors, re.MULTILINE)
    assert imported.count("tokenizers") == 1 + 2
    assert not {"torch", "fairseq", "transformers", "sentencepiece"} & set(imported)


def test_a_worker_names_the_line(vocab, tmp_path):
    write_large(tmp_path / "in.txt", 4)
    lines = (tmp_path / "in.txt").read_bytes().count(b"\n")
    with open(tmp_path / "in.txt", "ab") as file:
        file.write(b"\nthe \xff\n")
    out = tmp_path / "out" / "out.txt"
    process = command("--tokenizer", vocab, "--workers", "2", tmp_path / "in.txt", out)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.splitlines()[-1].startswith(
        f"{tmp_path / 'in.txt'}:{lines + 2}: not UTF-8 (byte 0xff at column 5): convert"
    )
    assert "Traceback" not in errors
    assert not out.parent.exists()


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGKILL])
def test_an_ended_command_leaves_no_output_and_no_worker(vocab, tmp_path, ended_by):
    write_large(tmp_path / "in.txt", 60)
    out = tmp_path / "out" / "out.txt"
    process = command("--tokenizer", vocab, "--workers", "2", tmp_path / "in.txt", out)
    part = out.with_name(f".{out.name}.{process.pid}.part")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not (part.exists() and part.stat().st_size):
        time.sleep(0.05)
    if ended_by == signal.SIGINT:
        os.killpg(process.pid, ended_by)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 130
        assert errors.splitlines()[-1] == "convbert encode: interrupted"
        assert "Traceback" not in errors
        assert not out.parent.exists()
    else:
        process.kill()
        # The pipe ends when the last process that holds it does, so workers included.
        process.communicate(timeout=30)
    assert not out.exists()


def test_memory_stays_bounded(vocab, tmp_path):
    code = (
        "import resource, sys\n"
        "from convbert_plugin.cli import main\n"
        "main(sys.argv[1:])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    peaks = []
    for megabytes in (2, 40):
        write_large(tmp_path / "in.txt", megabytes)
        arguments = [
            "--tokenizer",
            vocab,
            "--workers",
            "1",
            tmp_path / "in.txt",
            tmp_path / "out.txt",
        ]
        result = subprocess.run(
            [sys.executable, "-c", code, "encode", *map(str, arguments)],
            cwd=REPOSITORY,
            text=True,
            capture_output=True,
            check=True,
        )
        peaks.append(int(result.stdout.splitlines()[-1]) / 1024)
    assert peaks[1] - peaks[0] < 20


def packed(kind):
    """A tar archive of a text so long that few of its first bytes are zero."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
        member = tarfile.TarInfo("in.txt")
        member.size = 99_000
        archive.addfile(member, io.BytesIO(b"the cat.\n" * 11_000))
    return file.getvalue()


MISTAKES = {
    "encoding": (b"the\ncaf\xe9\n", r"in.txt:2: not UTF-8 \(byte 0xe9 at column 4\): convert"),
    "broken UTF-16": (
        "the cat\n".encode("utf-16")[:-1],
        r"in.txt: broken UTF-16-LE, which its byte order mark says it is \(truncated data\): save",
    ),
    "unmarked UTF-16": (
        "the cat\n".encode("utf-16-le"),
        r"in.txt: UTF-16LE without a byte order mark: .* `iconv -f UTF-16LE -t UTF-8`$",
    ),
    "unmarked UTF-16 of the other order": (
        "the cat, \u4e00\n".encode("utf-16-be"),
        r"in.txt: UTF-16BE without a byte order mark: .* `iconv -f UTF-16BE -t UTF-8`$",
    ),
    "unmarked and packed UTF-16": (
        gzip.compress("the cat\n".encode("utf-16-be") * 999),
        r"in.txt: UTF-16BE without a byte order mark",
    ),
    "unmarked UTF-16 of few zeros": (
        "\u043a\u043e\u0442 \u0441\u0438\u0434\u0435\u043b\n".encode("utf-16-le") * 9,
        r"in.txt: UTF-16LE without a byte order mark",
    ),
    "unmarked UTF-16 of still fewer": (
        "\u4e00\u732b\u5750\u5728\u57ab\u5b50\u4e0a\u3002\r\n".encode("utf-16-be") * 9,
        r"in.txt.* `iconv -f UTF-16BE -t UTF-8`$",
    ),
    "unmarked UTF-32": ("the cat\n".encode("utf-32-le"), r"in.txt: no text, by its many zero"),
    "words that zeros part": (b"the\0cats\0sat\0down\0" * 9, r"in.txt: no text.* `tr -d '\\0'`$"),
    "numbers": (
        bytes(range(8)) * 99 + bytes(800),
        r"in.txt: no text, by its many zero and control bytes",
    ),
    "16-bit numbers": (struct.pack("<999h", *range(999)), r"in.txt: no text, by its many"),
    "tar": (packed(tarfile.GNU_FORMAT), r"in.txt: a tar archive: unpack it first with `tar -xf`"),
    "compressed tar": (gzip.compress(packed(tarfile.USTAR_FORMAT)), r"in.txt: a tar archive"),
    "PDF in gzip": (gzip.compress(b"%PDF-1.4\n"), r"in.txt: a PDF document"),
    "zstd": (b"\x28\xb5\x2f\xfd\x04\x00the", r"in.txt: compressed with zstd: .* `zstd -d`"),
    "zip": (b"PK\x03\x04\x14\x00", r"in.txt: a zip archive, .*: unpack it first"),
    "lz4": (b"\x04\x22\x4d\x18the", r"in.txt: compressed with lz4: .* `lz4 -d`"),
    "7z": (b"7z\xbc\xaf\x27\x1c\x00\x04", r"in.txt: a 7z archive: .* `7z x`"),
    "PDF": (b"%PDF-1.4\n", r"in.txt: a PDF document: .*`pdftotext`"),
    "empty": (b"", r"in.txt: holds no text"),
    "blank": (b"\n \n\r\n\xe2\x80\x8b\n", r"in.txt: holds no text"),
    "cut gzip": (
        gzip.compress(os.urandom(999).hex().encode())[:-20],
        r"in.txt: a corrupt or trunc",
    ),
    "cut xz": (lzma.compress(b"the cat\n" * 99)[:-5], r"in.txt: a corrupt or truncated archive"),
    "cut bzip2": (bz2.compress(b"the cat\n" * 99)[:-5], r"in.txt: a corrupt or truncated archive"),
    "broken bzip2": (b"BZh91AY&SY broken", r"in.txt: a corrupt or truncated archive"),
    "broken gzip": (b"\x1f\x8b broken", r"in.txt: a corrupt or truncated archive"),
    "broken xz": (b"\xfd7zXZ\x00 broken", r"in.txt: a corrupt or truncated archive"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_in_the_text_is_one_line_and_writes_nothing(encode, tmp_path, kind):
    content, message = MISTAKES[kind]
    with pytest.raises(UserError, match=message) as error:
        encode(content)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "vocab"]


def test_an_endless_line_is_one_line(encode, monkeypatch):
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 10)
    monkeypatch.setattr(text_files, "LONGEST_LINE_BYTES", 20)
    with pytest.raises(UserError, match=r"in.txt:3: a line of more than"):
        encode(b"the\ncat\n" + b"a" * 99)


def test_blocks_of_any_size_give_the_same(encode, monkeypatch):
    whole = encode(TEXT.encode() * 9)
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 7)
    assert encode(TEXT.encode() * 9, "--workers", "1", name="blocks.txt") == whole


def test_what_stands_in_the_way_is_one_line(encode, vocab, tmp_path):
    encode(TEXT.encode())
    text, out = str(tmp_path / "in.txt"), str(tmp_path / "new.txt")
    (tmp_path / "linked.txt").hardlink_to(text)
    before = sorted(tmp_path.rglob("*"))
    for tokenizer, source, target, message in (
        (vocab, "nowhere.txt", out, "nowhere.txt: no such file"),
        (vocab, tmp_path, out, "a folder, where a file is expected"),
        ("nowhere", text, out, "nowhere: no such file"),
        (vocab, text, tmp_path / "out", "out: a folder: give the name of the file"),
        (vocab, text, text, "would be overwritten while it is read"),
        (vocab, text, tmp_path / "linked.txt", "would be overwritten while it is read"),
        (vocab, text, vocab, "would be overwritten while it is read"),
        (vocab, text, tmp_path / "dict.txt", "dict.txt: the name of a file of the tokenizer"),
        (vocab, text, tmp_path / "in.txt" / "x", "in.txt"),
    ):
        with pytest.raises(UserError, match=message) as error:
            main(["encode", "--tokenizer", str(tokenizer), str(source), str(target)])
        assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_both_ways_with_accents_exclude_each_other(vocab):
    with pytest.raises(SystemExit) as end:
        main(["encode", "--tokenizer", str(vocab), "--strip-accents", "--keep-accents", "a", "b"])
    assert end.value.code == 2
