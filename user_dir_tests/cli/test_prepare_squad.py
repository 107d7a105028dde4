"""``convbert prepare-squad``: several workers, nothing half written, and the real files."""

import json
import lzma
import os
import re
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest
from transformers import BertTokenizerFast

from convbert_plugin.cli import main
from convbert_plugin.data.squad.squad_description import read_description
from convbert_plugin.data.squad.squad_files import load_vocabulary, open_questions
from convbert_plugin.errors import UserError
from user_dir_tests.conftest import DATA
from user_dir_tests.data.squad.squad_documents import document, question, write_squad
from user_dir_tests.tokenization.toy_tokenizers import made_lines, write_vocab

pytestmark = pytest.mark.squad

REPOSITORY = Path(__file__).resolve().parents[2]
VOCABULARY = DATA / "vocab" / "bert-base-uncased.txt"
# Of the real files: paragraphs, questions, with an answer, without one by the file, and how many
# answers begin or end inside a word, so that no tokens give them back.
COUNTS = {
    "v1.1-train": (1205, 6434, 6434, 0, 21),
    "v1.1-dev": (241, 1040, 1040, 0, 5),
    "v2.0-train": (362, 3476, 1677, 1799, 2),
    "v2.0-dev": (134, 1071, 521, 550, 0),
}


@pytest.fixture
def vocab(tmp_path):
    return write_vocab(tmp_path / "vocabulary")


def run(vocab, *words):
    return main(["prepare-squad", "--tokenizer", str(vocab), *map(str, words)])


def started(vocab, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "convbert_plugin.cli", "prepare-squad", "--tokenizer", vocab]
        + [str(word) for word in words],
        cwd=REPOSITORY,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def write_large(path, paragraphs=60):
    """Several chunks of paragraphs."""
    context = " ".join(made_lines(90))
    answer = context.split(" ")[5]
    asked = ("what is it ?", (answer, context.index(answer)))
    return write_squad(
        path, *((f"{context} {n}", question(f"id{n}", *asked)) for n in range(paragraphs))
    )


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_several_workers_give_what_one_gives(vocab, tmp_path):
    write_large(tmp_path / "in" / "train.json")
    write_squad(tmp_path / "in" / "dev.json", ("the cat", question("a", "q", ("cat", 4))))
    for workers in (1, 3):
        process = started(vocab, "--workers", workers, tmp_path / "in", tmp_path / str(workers))
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert contents(tmp_path / "1") == contents(tmp_path / "3")
    assert output.splitlines()[0] == (
        "train: 60 questions on 60 paragraphs of train.json (60 answered, 0 impossible)"
    )
    assert (tmp_path / "3" / "valid" / "context.bin").exists()


def test_neither_the_command_nor_its_workers_import_what_is_heavy(vocab, tmp_path, monkeypatch):
    write_large(tmp_path / "train.json")
    # Python then tells of each import on stderr, in the worker processes too.
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    process = started(vocab, "--workers", 2, tmp_path / "train.json", tmp_path / "out")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    imported = re.findall(r"import time:[^|]*\|[^|]*\|\s*([\w.]+)$", errors, re.MULTILINE)
    assert imported.count("tokenizers") == 1 + 2
    assert not {"torch", "fairseq", "transformers", "sentencepiece"} & set(imported)


def test_the_summary(vocab, tmp_path, capsys):
    asked = [question("a", "the ?", ("cat", 4)), question("b", "z z z", ("ca", 4))]
    none = question("c", "the ?", is_impossible=True)
    broken = question("d", "q", ("dog", 4))
    write_squad(tmp_path / "train.json", ("the cat sat", *asked, none, broken))
    write_squad(tmp_path / "test.json", ("the cat " * 400, question("e", "the ?")))
    files = (tmp_path / "train.json", tmp_path / "test.json")
    assert run(vocab, "--skip-broken", *files, tmp_path / "out") == 0
    output, errors = capsys.readouterr()
    changed = tmp_path / "out" / "train" / "changed.jsonl"
    assert output.splitlines() == [
        "train: 3 questions on 1 paragraph of train.json (2 answered, 1 impossible)",
        "train: 3 windows of 512 tokens, 128 apart",
        f"train: of 1 answer the tokens give back something else, see {changed}: b",
        "train: passed over 1, the first: question 'd': its answer 'dog' does not stand at "
        "character 4 of its context, but nowhere",
        "test: 1 question on 1 paragraph of test.json (without answers)",
        # 2 + 3 tokens beside those of the context: 800 = 507 + 128 + 128 + 37
        "test: 4 windows of 512 tokens, 128 apart",
    ]
    assert "warning: train.json: " in errors
    assert "of the tokens are [UNK]: does the vocabulary fit" in errors
    assert "test.json" not in errors


GOOD = ("the cat", question("a", "q", ("cat", 4)))
BAD = ("the cat", question("bad", "q", ("cat", 3)))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"train.json": document(GOOD, BAD)},
            r"train.json: question 'bad': its answer 'cat' does n",
        ),
        ({"train.json": document(GOOD), "dev.json": {}}, r"dev.json: no file of SQuAD: expected"),
        ({"train.json": document(GOOD), "a-train.json": {}}, r"two files of the split train"),
        ({}, r"in: no .json: name the files to prepare"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(vocab, tmp_path, files, message):
    (tmp_path / "in").mkdir()
    for name, content in files.items():
        (tmp_path / "in" / name).write_text(json.dumps(content))
    before = set(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=message) as error:
        run(vocab, tmp_path / "in", tmp_path / "out")
    assert "\n" not in str(error.value)
    assert set(tmp_path.rglob("*")) == before


def test_what_is_missing_is_one_line(vocab, tmp_path):
    write_squad(tmp_path / "train.json", GOOD)
    with pytest.raises(UserError, match=r"nowhere/train.json: no such file"):
        run(vocab, tmp_path / "nowhere" / "train.json", tmp_path / "out")
    with pytest.raises(UserError, match=r"nowhere: no such file"):
        run(tmp_path / "nowhere", tmp_path / "train.json", tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(UserError, match=r"out: there already: choose another folder"):
        run(vocab, tmp_path / "train.json", tmp_path / "out")


def test_a_mistake_beside_workers_is_one_line(vocab, tmp_path):
    content = json.loads(write_large(tmp_path / "train.json").read_text())
    content["data"][0]["paragraphs"][-1]["qas"][0]["answers"][0]["answer_start"] = 1
    (tmp_path / "train.json").write_text(json.dumps(content))
    process = started(vocab, "--workers", 2, tmp_path / "train.json", tmp_path / "out")
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, "")
    assert errors.splitlines()[-1].startswith(
        f"{tmp_path / 'train.json'}: question 'id59': its ans"
    )
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["vocabulary", "train.json"]


def test_an_interrupted_command_leaves_nothing(vocab, tmp_path, signals_of_a_terminal):
    write_large(tmp_path / "train.json", 1000)
    process = started(vocab, "--workers", 2, tmp_path / "train.json", tmp_path / "out")
    part = tmp_path / f".out.{process.pid}.part" / "train" / "contexts.jsonl"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not (part.exists() and part.stat().st_size):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "convbert prepare-squad: interrupted"
    assert "Traceback" not in errors
    assert {path.name for path in tmp_path.iterdir()} == {"vocabulary", "train.json"}


def unpacked(tmp_path, name):
    path = DATA / "squad" / f"{name}.json.xz"
    if not path.exists():
        pytest.skip("the shared data are absent")
    (tmp_path / f"{name}.json").write_bytes(lzma.decompress(path.read_bytes()))
    return tmp_path / f"{name}.json"


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_the_real_files(name, tmp_path):
    path = unpacked(tmp_path, name)
    assert run(VOCABULARY, "--workers", 1, path, tmp_path / "out") == 0
    description = read_description(tmp_path / "out")
    ((split, held),) = description.splits.items()
    paragraphs, questions, answered, impossible, cut = COUNTS[name]
    assert held == (path.name, paragraphs, questions, answered, impossible, True)
    opened = open_questions(tmp_path / "out", description, split, load_vocabulary(tmp_path / "out"))
    texts = opened.texts()
    official = json.loads(path.read_text())
    asked = [
        (paragraph["context"], q)
        for article in official["data"]
        for paragraph in article["paragraphs"]
        for q in paragraph["qas"]
    ]
    assert texts.ids == [q["id"] for _, q in asked]
    assert texts.questions == [q["question"] for _, q in asked]
    gold = [tuple(answer["text"] for answer in q["answers"]) for _, q in asked]
    assert texts.gold == gold
    assert texts.is_impossible == [q.get("is_impossible", False) for _, q in asked]
    assert [texts.contexts[n] for n in opened.paragraphs] == [context for context, _ in asked]
    # Other tokens and characters than the library's would be seen here.
    library = BertTokenizerFast(vocab=str(VOCABULARY))
    few = range(0, paragraphs, 1 + paragraphs // 200)
    made = library(
        [texts.contexts[n] for n in few], add_special_tokens=False, return_offsets_mapping=True
    )
    for n, ids, spans in zip(few, made["input_ids"], made["offset_mapping"], strict=True):
        assert opened.contexts[n].tolist()[:-1] == ids
        begin, end = opened.first_tokens[n : n + 2]
        for (start, stop), span in zip(opened.offsets[begin:end].tolist(), spans, strict=True):
            # The library leaves marks out behind the last letter of a word.
            marks = texts.contexts[n][span[1] : stop]
            assert start == span[0]
            assert all(unicodedata.category(mark) == "Mn" for mark in marks)
    few = range(0, questions, 1 + questions // 500)
    ids = library([texts.questions[n] for n in few], add_special_tokens=False)["input_ids"]
    assert [opened.questions[n].tolist()[:-1] for n in few] == ids
    # From the first right answer to tokens, and back to a text.
    lost = []
    for (context, q), paragraph, (first, last) in zip(
        asked, opened.paragraphs, opened.answers, strict=True
    ):
        if q["answers"]:
            begin = opened.first_tokens[paragraph]
            start, end = opened.offsets[begin + first, 0], opened.offsets[begin + last, 1]
            if normalized(context[start:end]) != normalized(q["answers"][0]["text"]):
                lost.append((context, q["answers"][0], start, end))
    assert len(lost) == cut <= 0.005 * answered
    for context, answer, start, end in lost:
        # Tokens never go further than the word that the answer cuts.
        begin, stop = answer["answer_start"], answer["answer_start"] + len(answer["text"])
        assert start <= begin < stop <= end
        assert " " not in context[start:begin] + context[stop:end]


def normalized(text):
    """By the official rule: small letters, no punctuation, no articles, single spaces."""
    kept = "".join(c for c in text.lower() if c not in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())
