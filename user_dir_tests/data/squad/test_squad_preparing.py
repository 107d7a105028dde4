"""Contexts and questions to data: right answers come back from their tokens, whatever the text."""

import io
import json
import re
import shutil
import tracemalloc
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from sentencepiece import SentencePieceTrainer

from convbert_plugin.data.squad import squad_preparing
from convbert_plugin.data.squad.squad_description import read_description
from convbert_plugin.data.squad.squad_encoding import tokens_of
from convbert_plugin.data.squad.squad_files import load_vocabulary, open_questions
from convbert_plugin.data.squad.squad_json import Answer
from convbert_plugin.data.squad.squad_preparing import files_of_splits, prepare
from convbert_plugin.errors import UserError
from convbert_plugin.files import json_stream
from convbert_plugin.tokenization.sentencepiece_tokenizer import SentencePieceTokenizer
from convbert_plugin.tokenization.tokenizer import load_tokenizer
from convbert_plugin.tokenization.wordpiece import WordPieceSettings, WordPieceTokenizer
from user_dir_tests.data.squad.squad_documents import asked_about, question, write_squad
from user_dir_tests.tokenization.toy_pipelines import saved_pipeline

pytestmark = pytest.mark.squad

LETTERS = [*"abcdefghijklmnopqrstuvwxyz0123456789,.?!'-()£é漢字日本語שלוםבעربية🐻👩"]
ROWS = ["[PAD]", "odd", "[UNK]", "##s", "[CLS]", "[SEP]", "[MASK]"]
ROWS = [*dict.fromkeys([*ROWS, "the", "bear", "ate", *LETTERS, *(f"##{c}" for c in LETTERS)])]

# Contexts, and what is asked of each: an answer may be its first token, its last one, or all of it.
ALL = {
    "plain": ("the bear ate honey.", "the", "the bear", "honey", ".", "the bear ate honey."),
    "spaces": ("  the  bear\t\tate\n\n honey ", "the", "bear", "bear\t\tate", "ate\n\n honey"),
    "other spaces": ("the\u3000bear\xa0ate\u2028honey\u2003", "bear", "ate\u2028honey", "honey"),
    "marks": ("cafe\u0301 bear\u0323\u0301, n\u0303", "cafe\u0301", "bear\u0323\u0301", "n\u0303"),
    "composed": ("café bear é", "café", "é"),
    "Chinese": ("漢字日本語the漢字", "漢字", "日本", "語the", "字"),
    "right to left": ("שָׁלוֹם עَرَبِيَّة, the ב", "שָׁלוֹם", "עَرَبِيَّة", "ב"),
    "emoji": ("🐻 ate 👩\u200d👩 the 🐻\ufe0f", "🐻", "ate 👩\u200d👩", "🐻\ufe0f"),
    "punctuation": ("(the) bear's x-y £20.", "(the)", "bear's", "x", "y", "£20", "20."),
    "invisible": ("the\u200d bear\u00ad\u200f ate\u0007", "the", "bear", "ate"),
    "answers with spaces around": ("a bear ate .", " bear ", "a bear ", " ."),
    "twice": ("bear ate bear", "bear"),
}


def bert(folder, **settings):
    return WordPieceTokenizer(ROWS, WordPieceSettings(**settings))


def sentencepiece(folder, model_type="unigram"):
    model = io.BytesIO()
    texts = [unicodedata.normalize("NFKC", "".join(texts)) for texts in ALL.values()]
    SentencePieceTrainer.train(
        sentence_iterator=iter(texts * 20),
        model_writer=model,
        vocab_size=110,
        model_type=model_type,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return SentencePieceTokenizer(model.getvalue(), folder / "model")


def pipeline(folder):
    return load_tokenizer(saved_pipeline("bytes", folder / "saved"))


TOKENIZERS = {
    "uncased": bert,
    "cased": lambda folder: bert(folder, cased=True),
    "sentencepiece": sentencepiece,
    "bytes": pipeline,
}


def prepared(folder, tokenizer, *paragraphs, **options):
    """The folder of one test set, and what was made of it."""
    path = write_squad(folder / "asked.json", *paragraphs)
    (folder / "out").mkdir()
    made = prepare({"test": path}, folder / "out", tokenizer, **options)
    return folder / "out", made


def opened(folder, split="test"):
    return open_questions(folder, read_description(folder), split, load_vocabulary(folder))


def given_back(questions):
    """Of each question the characters of its context from the first token of its answer on."""
    texts = questions.texts()
    for paragraph, (first, last) in zip(questions.paragraphs, questions.answers, strict=True):
        begin = questions.first_tokens[paragraph]
        start, end = questions.offsets[begin + first, 0], questions.offsets[begin + last, 1]
        yield texts.contexts[paragraph][start:end]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_right_answers_come_back_from_their_tokens(kind, tmp_path):
    tokenizer = TOKENIZERS[kind](tmp_path)
    paragraphs = [
        (context, *({**q, "id": f"{name} {q['id']}"} for q in questions))
        for name, (context, *questions) in zip(
            ALL, (asked_about(*texts) for texts in ALL.values()), strict=True
        )
    ]
    folder, made = prepared(tmp_path, tokenizer, *paragraphs)
    questions = opened(folder)
    asked = [q for _, *held in paragraphs for q in held]
    expected = {q["id"]: q["answers"][0]["text"].strip() for q in asked}
    back = dict(zip(questions.texts().ids, given_back(questions), strict=True))
    if kind == "sentencepiece":
        # It has pieces over the edges of a few answers: those hold them all the same.
        assert all(expected[name] in back[name] for name in expected)
        assert sum(expected[name] == back[name] for name in expected) > 0.7 * len(expected)
        expected = {**expected, **{n: t for n, t in back.items() if t != expected[n]}}
    elif kind == "bytes":
        # The joiner behind a word is a piece of its own, as is each of the bytes of a mark.
        assert made.summaries["test"].changed == []
    assert back == expected


def test_the_second_of_two_equal_texts_stays_the_second(tmp_path):
    context = "bear ate bear"
    second = question("2", "q", ("bear", context.rindex("bear")), ("ate", 5))
    folder, _ = prepared(
        tmp_path, bert(tmp_path), (context, question("1", "q", ("bear", 0)), second)
    )
    questions = opened(folder)
    assert questions.answers.tolist() == [[0, 0], [2, 2]]
    assert questions.texts().gold == [("bear",), ("bear", "ate")]


@pytest.mark.parametrize("text", ["b", " b", "b ", " b "])
def test_the_piece_of_a_space_is_of_no_answer(text):
    offsets = np.array([(0, 1), (2, 2), (2, 3), (4, 4), (4, 5)])
    assert tokens_of(Answer(text, "a b c".index(text)), offsets) == (2, 2)


def test_what_tokens_do_not_give_back_is_told(tmp_path):
    """An answer that ends inside a piece takes the whole piece, and one without any has none."""
    context = "the bears \u200d ate"
    asked = [
        question("whole", "q", ("bears", 4)),
        question("part", "q", ("bear", 4)),
        question("none", "q", ("\u200d", 10)),
        question("impossible", "q", is_impossible=True),
    ]
    rows = [*ROWS, "bears"]
    folder, made = prepared(tmp_path, WordPieceTokenizer(rows), (context, *asked))
    assert opened(folder).answers.tolist() == [[1, 1], [1, 1], [-1, -1], [-1, -1]]
    assert made.summaries["test"].changed == ["part", "none"]
    rows = (folder / "test" / "changed.jsonl").read_text().splitlines()
    assert [json.loads(row) for row in rows] == [
        {"id": "part", "answer": "bear", "tokens": "bears"},
        {"id": "none", "answer": "\u200d", "tokens": ""},
    ]
    assert made.description.splits["test"] == ("asked.json", 1, 4, 3, 1, True)


def test_the_data_are_what_was_read(tmp_path):
    tokenizer = bert(tmp_path)
    paragraphs = [
        ("the bear .", question("a", "ate the ?", ("bear", 4)), question("b", "x", ("the", 0))),
        ("nobody asks",),
        ("honey", question("c", "a b c d e f g h", ("honey", 0))),
    ]
    folder, _ = prepared(tmp_path, tokenizer, *paragraphs)
    questions = opened(folder)
    vocabulary = load_vocabulary(folder)

    def words(lines):
        return [" ".join(vocabulary[t] for t in lines[n].tolist()) for n in range(len(lines))]

    assert words(questions.questions)[:2] == [
        "a ##t ##e the ? [SEP]".replace("a ##t ##e", "ate"),
        "x [SEP]",
    ]
    assert words(questions.contexts)[0] == "the bear . [SEP]"
    assert questions.paragraphs.tolist() == [0, 0, 1]
    assert questions.offsets[:3].tolist() == [[0, 3], [4, 8], [9, 10]]
    assert questions.first_tokens.tolist() == [0, 3, 3 + len(tokenizer.pieces("honey"))]
    texts = questions.texts()
    assert texts.ids == ["a", "b", "c"]
    assert texts.questions == ["ate the ?", "x", "a b c d e f g h"]
    assert texts.contexts == ["the bear .", "honey"]
    assert texts.is_impossible == [False] * 3


def test_long_contexts_and_answers(tmp_path):
    """More than ten windows, and an answer of more than 30 words across the edge of one."""
    words = [f"w{n}" for n in range(4000)]
    context = " ".join(words)
    answer = " ".join(words[480:520])
    tokenizer = bert(tmp_path)
    short = question("short", "what ?", ("bear", 4))
    long = asked_about(context, answer, "w0", "w3999")
    folder, made = prepared(tmp_path, tokenizer, ("the bear", short), long)
    assert list(given_back(opened(folder)))[1:] == [answer, "w0", "w3999"]
    # "what ?" and three special tokens leave the rest of 512 to the context.
    room = 512 - len(tokenizer.pieces("what ?")) - 3
    begins = [0]
    while begins[-1] + room < len(tokenizer.pieces(context)):
        begins.append(begins[-1] + 128)
    assert made.summaries["test"].windows == 1 + 3 * len(begins)
    assert len(begins) > 10


def test_only_a_few_paragraphs_are_held(tmp_path, monkeypatch):
    for module in (json_stream, squad_preparing):
        monkeypatch.setattr(module, "CHARACTERS_AT_ONCE", 4096)
    peaks = []
    for count in (20, 300):
        paragraphs = [("the bear ate . " * 60, question(f"{n}")) for n in range(count)]
        path = write_squad(tmp_path / f"{count}.json", *paragraphs)
        (tmp_path / f"{count}").mkdir()
        tracemalloc.start()
        prepare({"train": path}, tmp_path / f"{count}", bert(tmp_path))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The tokens of one paragraph alone take 30 KB with their places.
    assert peaks[1] - peaks[0] < 280 * 1000


@pytest.mark.parametrize("what", ["it", "its context"])
def test_what_has_no_token_is_told_or_passed_over(what, tmp_path):
    empty = "\u200d\u00ad"
    bad = ("bear", question("bad", empty)) if what == "it" else (empty, question("bad"))
    paragraphs = [("the bear", question("good")), bad]
    with pytest.raises(
        UserError, match=rf"asked.json: question 'bad': no token is in {what}: mend"
    ):
        prepared(tmp_path, bert(tmp_path), *paragraphs)
    shutil.rmtree(tmp_path / "out")
    folder, made = prepared(tmp_path, bert(tmp_path), *paragraphs, skip_broken=True)
    assert opened(folder).texts().ids == ["good"]
    assert len(made.summaries["test"].skipped) == 1
    assert not made.description.splits["test"].has_gold
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(UserError, match=r"no question in it that is not broken"):
        prepared(tmp_path, bert(tmp_path), bad, skip_broken=True)


NAMES = {
    "official": (["train-v2.0.json", "dev-v2.0.json"], {"train": 0, "valid": 1}),
    "ours": (["v1.1-dev.json", "v1.1-train.json.gz"], {"train": 1, "valid": 0}),
    "others": (
        ["validation.json", "TEST.json.xz", "training.json"],
        {"train": 2, "valid": 0, "test": 1},
    ),
    "one": (["questions.json"], {"test": 0}),
    "two words": (["train_of_dev.json"], {"test": 0}),
}


@pytest.mark.parametrize("kind", NAMES)
def test_names_tell_the_splits(kind, tmp_path):
    names, splits = NAMES[kind]
    paths = [tmp_path / name for name in names]
    for path in paths:
        path.touch()
    found = files_of_splits(paths)
    assert found == {split: paths[number] for split, number in splits.items()}
    assert list(found) == [split for split in ("train", "valid", "test") if split in splits]
    (tmp_path / "README.txt").touch()
    assert files_of_splits([tmp_path]) == found
    if kind != "one" and kind != "two words":
        (tmp_path / "oracle.json").touch()
        assert files_of_splits([tmp_path]) == found


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["train.json", "a-train.json"],
            r"train.json and .*: two files of the split train: name th",
        ),
        (["dev.json", "valid.json"], r"two files of the split valid"),
        (["a.json", "b.json"], r"none of its .json files has train, dev or test in its name: name"),
        (["train.txt"], r"no .json: name the files to prepare"),
    ],
)
def test_names_that_do_not_tell_are_one_line(names, message, tmp_path):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=message):
        files_of_splits([tmp_path])
    if names == ["a.json", "b.json"]:
        with pytest.raises(UserError, match=r"a.json: its name does not tell its split"):
            files_of_splits([tmp_path / name for name in names])


def cut(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-3])


def remove(name):
    return lambda folder: (folder / name).unlink()


def change_array(name, change):
    def apply(folder):
        path = folder / "test" / f"{name}.npy"
        array = np.load(path)
        np.save(path, change(array))

    return apply


def change_text(name, pattern, replacement):
    def apply(folder):
        path = folder / "test" / f"{name}.jsonl"
        path.write_text(re.sub(pattern, replacement, path.read_text()))

    return apply


def describe(**values):
    def apply(folder):
        path = folder / "squad.json"
        content = json.loads(path.read_text())
        content["splits"]["test"].update(values)
        path.write_text(json.dumps(content))

    return apply


def at(place, value):
    def change(array):
        array[place] = value
        return array

    return change


class Ran:
    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


DAMAGES = {
    "no description": (remove("squad.json"), r"squad.json is missing: name a folder made by"),
    "cut description": (cut("squad.json"), r"squad.json: damaged: make the folder anew with conv"),
    "an odd count": (describe(answered=7), r"squad.json: damaged"),
    "a count as text": (describe(questions="2"), r"squad.json: damaged"),
    "no dictionary": (remove("dict.txt"), r"dict.txt is missing"),
    "no context": (remove("test/context.idx"), r"context.idx is missing: .*prepare-squad"),
    "cut question": (cut("test/question.bin"), r"question.bin does not fit .*prepare-squad"),
    "no array": (remove("test/offsets.npy"), r"offsets.npy is missing or damaged.*prepare-squad"),
    "cut array": (cut("test/answers.npy"), r"answers.npy is missing or damaged"),
    "a text for an array": (
        lambda folder: (folder / "test/answers.npy").write_text("text"),
        r"answers.npy is missing or damaged",
    ),
    "a pickle": (
        lambda folder: np.save(folder / "test/answers.npy", np.array([Ran()]), allow_pickle=True),
        r"answers.npy is missing or damaged",
    ),
    "another kind": (
        change_array("paragraphs", lambda a: a.astype(np.int64)),
        r"paragraphs.npy is",
    ),
    "another shape": (change_array("impossible", lambda a: a[:1]), r"impossible.npy is missing or"),
    "another paragraph": (change_array("paragraphs", at(0, 2)), r"do not belong to each other"),
    "no paragraph": (change_array("paragraphs", at(0, -1)), r"do not belong to each other"),
    "an answer too far": (change_array("answers", at((0, 1), 99)), r"do not belong to each other"),
    "an answer turned": (change_array("answers", at(0, [1, 0])), r"do not belong to each other"),
    "half an answer": (change_array("answers", at((0, 1), -1)), r"do not belong to each other"),
    "an impossible answer": (change_array("impossible", at(0, True)), r"do not belong to each"),
    "another count": (describe(paragraphs=1), r"do not belong to each other"),
    "offsets turned": (change_array("offsets", at(0, [3, 0])), r"do not belong to each other"),
    "no texts": (remove("test/questions.jsonl"), r"questions.jsonl is missing or damaged"),
    "cut texts": (cut("test/contexts.jsonl"), r"contexts.jsonl is missing or damaged"),
    "texts of others": (
        lambda folder: (folder / "test/contexts.jsonl").write_text('"a"\n3\n'),
        r"contexts.jsonl is missing or damaged",
    ),
    "a paragraph of none": (change_array("paragraphs", at(1, 0)), r"do not belong to each other"),
    "offsets too far": (change_array("offsets", at(1, [4, 99])), r"do not belong to each other"),
    "contexts turned": (change_text("contexts", r"(.+)\n(.+)\n", r"\2\n\1\n"), r"do not belong"),
    "an id twice": (change_text("questions", '"id": "b"', '"id": "a"'), r"do not belong to each"),
    "another answer": (change_text("questions", r'\["x"\]', '["y"]'), r"do not belong to each"),
    "no answer": (change_text("questions", r'\["x"\]', "[]"), r"do not belong to each other"),
    "impossible texts": (change_text("questions", "false", "true"), r"do not belong to each other"),
}


@pytest.mark.parametrize("has_sums", [False, True], ids=["earlier version", "sums"])
@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_folder_is_one_line(kind, tmp_path, monkeypatch, has_sums):
    monkeypatch.chdir(tmp_path)
    paragraphs = [
        ("the bear", question("a", "q", ("bear", 4))),
        ("x", question("b", "q", ("x", 0))),
    ]
    folder, _ = prepared(tmp_path, bert(tmp_path), *paragraphs)
    opened(folder).texts()
    damage, message = DAMAGES[kind]
    damage(folder)
    if has_sums:
        message += "|test/.*: is not what convbert prepare-squad wrote"
    else:
        (folder / "SHA256SUMS").unlink()
    with pytest.raises(UserError, match=message) as error:
        opened(folder).texts()
    assert "\n" not in str(error.value)
    assert not Path("ran").exists()


def test_every_bit_of_a_split_counts(tmp_path):
    """Of what nobody looks at otherwise, too: such as where within the context a token stands."""
    folder, _ = prepared(tmp_path, bert(tmp_path), ("the bear", question("a", "q", ("bear", 4))))
    for path in (folder / "test").iterdir():
        content = path.read_bytes()
        for place in range(0, len(content), 7):
            path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
            with pytest.raises(UserError, match=rf"{path.stem}\.\w+|{folder}"):
                opened(folder)
        path.write_bytes(content)
    opened(folder).texts()


def test_a_split_that_is_not_there_is_one_line(tmp_path):
    folder, _ = prepared(tmp_path, bert(tmp_path), ("x", question("a")))
    with pytest.raises(
        UserError, match=r"no split valid, only test: prepare it .*prepare-squad, or"
    ):
        opened(folder, "valid")
