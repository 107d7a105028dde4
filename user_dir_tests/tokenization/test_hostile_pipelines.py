"""Files of tokenizer.json that would hang, fill the memory, crash or answer at random."""

import base64
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convbert_plugin.errors import UserError
from convbert_plugin.tokenization import pipeline, pipeline_limits, time_bound
from convbert_plugin.tokenization.tokenizer import load_tokenizer
from convbert_plugin.tokenization.tokenizer_writing import transformers_files
from convbert_plugin.tokenization.wordpiece import WordPieceTokenizer
from user_dir_tests.tokenization.toy_tokenizers import ROWS, TEXTS

pytestmark = [pytest.mark.survival, pytest.mark.slow]

REPOSITORY = Path(__file__).resolve().parents[2]


def replace(pattern, content):
    return {"type": "Replace", "pattern": pattern, "content": content}


def sequence(steps):
    return {"type": "Sequence", "normalizers": steps}


def split(regex):
    return {
        "type": "Split",
        "pattern": {"Regex": regex},
        "behavior": "Isolated",
        "invert": False,
    }


def characters_map(length_of_tree, *texts):
    table = length_of_tree.to_bytes(4, "little") + b"".join(text + b"\0" for text in texts)
    return {
        "type": "Precompiled",
        "precompiled_charsmap": base64.b64encode(table).decode(),
    }


def added(name, index, **options):
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"id": index, "content": name, **flags, **options}


@pytest.fixture(scope="module")
def good():
    return json.loads(transformers_files(WordPieceTokenizer(ROWS))["tokenizer.json"])


@pytest.fixture
def write(tmp_path, good):
    def write(**parts):
        (tmp_path / "tokenizer.json").write_text(json.dumps({**good, **parts}))
        return tmp_path

    return write


def assert_one_line(error, folder):
    line = str(error.value)
    assert line.startswith(f"{folder / 'tokenizer.json'}: ")
    assert "\n" not in line
    assert len(line.removeprefix(str(folder))) < 300


# A library that is asked to load these hangs, dies of hunger for memory, or aborts the process.
NEVER_LOADED = {
    "steps": (
        {"normalizer": sequence([{"type": "NFKC"}] * 101)},
        "its normalizer has 101 steps|its normalizer has 102 steps",
    ),
    "nested steps": (
        {"normalizer": sequence([sequence([{"type": "NFC"}] * 60)] * 2)},
        "its normalizer has 123 steps, where at most 100",
    ),
    "growth": (
        {"normalizer": sequence([replace({"String": "a"}, "a" * 100)] * 5)},
        "its normalizer has steps that may make a text more than 100 times as long",
    ),
    "growth by a pattern": (
        {"normalizer": sequence([replace({"Regex": "."}, "x" * 11)] * 2)},
        "more than 100 times as long",
    ),
    "bytes of bytes": (
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}] * 9}},
        "its pre_tokenizer has steps that may make",
    ),
    "growth by a map": (
        {"normalizer": characters_map(0, b"x" * 10_000)},
        "more than 100 times as long",
    ),
    "decoder": (
        {"decoder": {"type": "Sequence", "decoders": [replace({"String": "a"}, "b" * 101)]}},
        "its decoder has steps that may make",
    ),
    "long text": (
        {"normalizer": {"type": "Prepend", "prepend": "x" * 10_001}},
        "its normalizer has a pattern or text of more than 10,000 characters",
    ),
    "long pattern": ({"pre_tokenizer": split("a?" * 5001)}, "its pre_tokenizer has a pattern or"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NEVER_LOADED)
def test_what_asks_for_too_much_is_not_loaded(write, monkeypatch, kind):
    parts, message = NEVER_LOADED[kind]
    monkeypatch.setattr(pipeline, "_load", None)
    monkeypatch.setattr(pipeline_limits, "try_loading", None)
    folder = write(**parts)
    with pytest.raises(UserError, match=message) as error:
        load_tokenizer(folder)
    assert_one_line(error, folder)


def test_sizes(write, good, monkeypatch):
    vocabulary = {**good["model"]["vocab"], "y" * 1001: len(ROWS)}
    folder = write(model={**good["model"], "vocab": vocabulary})
    message = r"27 pieces of up to 1,001 characters, where at most 1,048,576 of 1,000 are allowed"
    with pytest.raises(UserError, match=message) as error:
        load_tokenizer(folder)
    assert_one_line(error, folder)
    folder = write()
    with monkeypatch.context() as patched:
        patched.setattr(pipeline_limits, "MOST_SYMBOLS", 25)
        with pytest.raises(UserError, match=r"26 pieces .* at most 25 of"):
            load_tokenizer(folder)
    size = (folder / "tokenizer.json").stat().st_size
    monkeypatch.setattr(pipeline_limits, "MOST_BYTES", size)
    load_tokenizer(folder)
    monkeypatch.setattr(pipeline_limits, "MOST_BYTES", size - 1)
    with pytest.raises(UserError, match=rf"{size:,} bytes, where a tokenizer has at most"):
        load_tokenizer(folder)


def subexpression_calls(depth):
    """A pattern whose calls double at every level when it is compiled."""
    levels = (rf"(?<n{n}>\g<n{n + 1}>\g<n{n + 1}>)" for n in range(depth))
    return "".join(levels) + f"(?<n{depth}>a)"


LOADED_APART = {
    "broken pattern": (split("(a"), "fails .*Oniguruma error"),
    "endless pattern": (split(r"(?<n>\g<n>\g<n>)"), "fails .*never ending recursion"),
    "hanging pattern": (split(subexpression_calls(40)), "not loaded after 2 seconds"),
}


@pytest.mark.parametrize("kind", LOADED_APART)
def test_a_load_cannot_hang(write, monkeypatch, kind):
    pre_tokenizer, message = LOADED_APART[kind]
    monkeypatch.setattr(pipeline_limits, "TRIAL_SECONDS", 2 if "hanging" in kind else 60)
    folder = write(pre_tokenizer=pre_tokenizer)
    with pytest.raises(UserError, match=message) as error:
        load_tokenizer(folder)
    assert_one_line(error, folder)


@pytest.mark.parametrize(
    "table",
    [characters_map(0xFFFFFFFC), characters_map(0), characters_map(7, b"\xff"),
     {"type": "Precompiled", "precompiled_charsmap": ""},
     {"type": "Precompiled", "precompiled_charsmap": "no base64"}],
    ids=["huge", "empty", "odd", "nothing", "text"],
)  # fmt: skip
def test_a_map_of_characters_that_is_none(write, table):
    folder = write(normalizer=table)
    with pytest.raises(UserError, match="the tokenizers library fails") as error:
        load_tokenizer(folder).pieces("the caf\u0301é")
    assert_one_line(error, folder)


def test_added_tokens_that_fill_the_memory(write, monkeypatch):
    trial = pipeline_limits.TRIAL.replace(str(4 << 30), str(1 << 30))
    monkeypatch.setattr(pipeline_limits, "TRIAL", trial)
    tokens = [added(f"{n}x" * 150, len(ROWS) + n) for n in range(20_000)]
    folder = write(added_tokens=tokens)
    with pytest.raises(UserError, match="memory allocation of") as error:
        load_tokenizer(folder)
    assert_one_line(error, folder)


# Cubic in the length of a word, and quadratic in the length of a text.
SLOW = {"longest word": "x" * 100_000, "spaces": " " * 300_000 + "a"}


def slow_parts(good, kind):
    if kind == "longest word":
        model = {**good["model"], "max_input_chars_per_word": 10**9}
        return {"model": model}
    return {"normalizer": replace({"Regex": r"\s+$"}, "")}


@pytest.mark.parametrize("kind", SLOW)
def test_a_text_cannot_hang(write, good, monkeypatch, kind):
    monkeypatch.setattr(pipeline, "SECONDS_AT_LEAST", 1)
    monkeypatch.setattr(pipeline, "CHARACTERS_A_SECOND", 1_000_000)
    folder = write(**slow_parts(good, kind))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.pieces("xx the") != []
    started = time.monotonic()
    with pytest.raises(UserError, match=r"at the text '.*\.\.\..*: not done after 1 sec") as error:
        tokenizer.pieces_batch(["the cat", SLOW[kind]])
    assert time.monotonic() - started < 15
    assert_one_line(error, folder)


@pytest.mark.parametrize("cut", ["pieces_batch", "pieces_with_offsets"])
def test_a_catastrophic_pattern_is_one_line(write, cut):
    folder = write(pre_tokenizer=split("(x+x+)+y"))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.pieces("the cat") != []
    with pytest.raises(UserError, match=r"at the text 'x.*: the tokenizers library fails") as error:
        getattr(tokenizer, cut)(["x" * 60])
    assert_one_line(error, folder)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_command_ends(write, good, tmp_path, workers):
    folder = write(**slow_parts(good, "longest word"))
    lines = "the cat " * 100 + "\n"
    (tmp_path / "in.txt").write_text(lines * 9 + "x" * 100_000 + "\n" + lines * 9)
    code = (
        "import sys\n"
        "from convbert_plugin.files import text_files\n"
        "from convbert_plugin.tokenization import pipeline\n"
        "text_files.BLOCK_BYTES = 1000\n"
        "pipeline.SECONDS_AT_LEAST = 2\n"
        "pipeline.CHARACTERS_A_SECOND = 100_000\n"
        "if __name__ == '__main__':\n"
        "    from convbert_plugin.cli import main\n"
        "    sys.exit(main(sys.argv[1:]))\n"
    )
    (tmp_path / "command.py").write_text(code)
    command = [sys.executable, str(tmp_path / "command.py"), "encode", "--tokenizer", str(folder)]
    command += ["--workers", str(workers), str(tmp_path / "in.txt"), str(tmp_path / "out" / "x")]
    process = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=100,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
    )  # fmt: skip
    assert process.returncode == 1
    last = process.stderr.splitlines()[-1]
    assert last.startswith(f"{folder / 'tokenizer.json'}: at the text 'xxx")
    assert "not done after 3 seconds" in last
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "out").exists()


def test_merges_left_out_at_random_are_refused(write, good):
    vocabulary = {row: index for row, index in good["model"]["vocab"].items() if row != "##x"}
    vocabulary["##x"] = ROWS.index("##x")
    model = {"type": "BPE", "dropout": 0.5, "unk_token": "[UNK]", "vocab": vocabulary, "merges": []}
    folder = write(model=model)
    with pytest.raises(UserError, match=r"leaves out merges at random \(dropout 0.5\)") as error:
        load_tokenizer(folder)
    assert_one_line(error, folder)


def test_what_stops_a_process_for_a_while_is_no_failure(monkeypatch):
    turns = []

    class Thread(time_bound.threading.Thread):
        def join(self, timeout=None):
            turns.append(timeout)
            super().join(timeout=0.01)

    monkeypatch.setattr(time_bound.threading, "Thread", Thread)
    with pytest.raises(UserError, match="here: not done after 3 seconds"):
        time_bound.within(3, lambda: time.sleep(1), "here")
    assert turns == [1, 1, 1]


def test_a_usual_pipeline_is_within_all_limits(write):
    """What ALBERT, T5 and GPT-4 do, put together."""
    normalizers = [replace({"String": "``"}, '"'), {"type": "NFKD"}, {"type": "StripAccents"}]
    normalizers += [{"type": "Lowercase"}, replace({"Regex": " {2,}"}, " ")]
    words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\s+(?!\S)|\s+"
    tokenizer = load_tokenizer(write(normalizer=sequence(normalizers), pre_tokenizer=split(words)))
    assert tokenizer.pieces("The  cat")[0] == "the"
    assert len(tokenizer.pieces_batch(TEXTS)) == len(TEXTS)
