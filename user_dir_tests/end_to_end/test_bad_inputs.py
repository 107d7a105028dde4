"""Whatever a command is given, it ends well or in one line, and leaves nothing half made."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convbert_plugin
from convbert_plugin.cli import MOST_NUMBER, at_least
from convbert_plugin.cli import main as convbert
from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.errors import UserError
from convbert_plugin.training.option_limits import LIMITS, check_overrides, check_values

pytestmark = pytest.mark.survival

CHECKOUT = Path(convbert_plugin.__file__).parents[1]
# Of some seven hundred; user_dir_tests/end_to_end/bad_inputs.py tries them all.
EVERY = "15"
some = settings(max_examples=40, deadline=None, derandomize=True, database=None)


@pytest.mark.slow
def test_each_bad_input_of_a_sample_gets_its_line(forked):
    command = ("python", "-m", "user_dir_tests.end_to_end.bad_inputs", "--every", EVERY)
    done = subprocess.run(command, cwd=CHECKOUT, env=forked, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    rows = [row for row in done.stdout.splitlines() if row.startswith("| ")]
    assert len(rows) > 40


def mistake(action, *arguments):
    """The line of a mistake, None where there is none."""
    try:
        action(*arguments)
    except UserError as error:
        return str(error)
    return None


def outcome(subcommand, content, *options, name="bad"):
    """The line that a command ends with, None where it does well.

    It is given a file of this content, and the name of what it is to make.
    """
    with tempfile.TemporaryDirectory() as place:
        path, out = Path(place, name), Path(place, "out", "made")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        source = path.parent if path.parent != Path(place) else path
        try:
            assert convbert([subcommand, *map(str, options), str(source), str(out)]) == 0
        except SystemExit as ended:
            line = ended.code
            assert isinstance(line, str), content
            assert line.strip()
            assert "\n" not in line
            assert str(path.parent) in line
            assert not out.parent.exists()
            return line
        assert out.exists()
        return None


encodings = st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252"])
characters = st.characters(codec="utf-8")
texts = st.text(characters, max_size=80)
files = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda text, name: text.encode(name, "replace"), texts, encodings),
)


@some
@given(content=files)
def test_encoding_any_bytes(corpus, content):
    vocabulary = ("--workers", "1", "--tokenizer", corpus.text / "vocab.txt")
    line = outcome("encode", content, *vocabulary)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return
    # What is UTF-8 with some letters is text, whatever else stands in it.
    if not line:
        assert text.strip()
    elif re.fullmatch(r"[a-z \n]*[a-z][a-z \n]*", text):
        raise AssertionError(line)


plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9))
anything = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
WAYS = (
    *((), ("data",), ("data", 0), ("data", 0, "paragraphs"), ("data", 0, "paragraphs", 0)),
    *(("data", 0, "paragraphs", 0, name) for name in ("context", "qas")),
    *(("data", 0, "paragraphs", 0, "qas", 0, name) for name in ("id", "question", "answers")),
    ("data", 0, "paragraphs", 0, "qas", 0, "answers", 0),
    ("data", 0, "paragraphs", 0, "qas", 0, "answers", 0, "text"),
    ("data", 0, "paragraphs", 0, "qas", 0, "answers", 0, "answer_start"),
    ("data", 0, "paragraphs", 0, "qas", 0, "is_impossible"),
)


def squad_with(way, value):
    answers = [{"text": "small", "answer_start": 4}]
    question = {"id": "1", "question": "the cat", "answers": answers}
    paragraph = {"context": "the small cat sees a dog.", "qas": [question]}
    document = {"version": "1.1", "data": [{"title": "a", "paragraphs": [paragraph]}]}
    if not way:
        return value
    held = document
    for step in way[:-1]:
        held = held[step]
    held[way[-1]] = value
    return document


@some
@given(way=st.sampled_from(WAYS), value=anything)
def test_preparing_any_questions(corpus, way, value):
    content = json.dumps(squad_with(way, value)).encode()
    vocabulary = ("--workers", "1", "--tokenizer", corpus.text / "vocab.txt")
    outcome("prepare-squad", content, *vocabulary)


cells = st.text(st.sampled_from('ab"\t,;\n\r\0é '), max_size=8)
rows = st.lists(st.lists(cells, max_size=4).map("\t".join), max_size=4)


@some
@given(header=st.sampled_from(["text\tlabel", "text\tlabel\tmore", "text", ""]), rows=rows)
def test_preparing_any_table(corpus, header, rows):
    content = "\n".join([header, *rows]).encode()
    task = ("--glue-task", "own", "--text", "text", "--labels", "a,b")
    usual = (*task, "--tokenizer", corpus.text / "vocab.txt")
    outcome("prepare-glue", content, *usual, name="tables/train.tsv")


@settings(some, max_examples=100)
@given(content=files)
def test_a_dictionary_of_any_bytes(content):
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "dict.txt")
        path.write_bytes(content)
        if line := mistake(Vocabulary.load, path):
            assert str(path) in line
            assert "\n" not in line
        else:
            symbols = Vocabulary.load(path).symbols
            assert len(set(symbols)) == len(symbols)


@settings(some, max_examples=200)
@given(text=st.one_of(st.text(max_size=6), st.integers().map(str), st.floats().map(str)))
def test_numbers_on_the_command_line(text):
    try:
        value = at_least(3)(text)
    except Exception:
        value = None
    is_number = re.fullmatch(r"[0-9]+", text) and 3 <= int(text) <= MOST_NUMBER
    assert value == (int(text) if is_number else None)


@settings(some, max_examples=200)
@given(name=st.sampled_from(list(LIMITS)), value=st.one_of(st.integers(), st.floats()))
def test_numbers_of_fairseqs_options(name, value):
    lowest = {"clip_norm": -sys.float_info.max, "seed": 0, "lr": 0, "num_workers": 0}
    highest = (1 << 32) - 1 if name == "seed" else sys.float_info.max
    fits = lowest.get(name, 1) <= value <= highest
    for given_value in (value, [value]):
        line = mistake(check_values, {name: given_value})
        assert (line is None) == fits
        assert fits or line.startswith(f"--{name.replace('_', '-')} {value}: choose a")


@settings(some, max_examples=100)
@given(words=st.one_of(st.text(max_size=12), anything.map(repr), anything.map(json.dumps)))
def test_overrides_are_a_table_or_told(words):
    if line := mistake(check_overrides, words):
        assert "\n" not in line
        assert not re.fullmatch(r"\{('[a-z]+': [0-9]+)?\}", words)
    else:
        assert not words or words.strip().startswith(("{", "#", "("))
