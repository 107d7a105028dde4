"""SQuAD's files read, however they are written, and every mistake in one line."""

import bz2
import gzip
import json
import lzma
from typing import NamedTuple

import pytest

from convbert_plugin.data.squad.squad_json import Answer, Paragraph, Question, SquadReader
from convbert_plugin.errors import UserError
from convbert_plugin.files import json_stream
from user_dir_tests.data.squad.squad_documents import document, question

pytestmark = pytest.mark.squad

CONTEXT = "Dör Bär 🐻 eats\tthe  honey."
DOCUMENT = document(
    (
        CONTEXT,
        question("a", "who eats ?", ("Bär", 4), ("Dör Bär", 0)),
        question("b", "q", ("🐻", 8)),
    ),
    ("Nobody asks.",),
    ("x y", question("c", "what ?", ("y", 2))),
)
READ = [
    Paragraph(
        CONTEXT,
        (
            Question("a", "who eats ?", (Answer("Bär", 4), Answer("Dör Bär", 0)), False),
            Question("b", "q", (Answer("🐻", 8),), False),
        ),
    ),
    Paragraph("x y", (Question("c", "what ?", (Answer("y", 2),), False),)),
]
TURNED = {
    "data": [
        {"paragraphs": [dict(reversed(p.items())) for p in a["paragraphs"]], "title": "A"}
        for a in DOCUMENT["data"]
    ],
    "version": {"any": ["thing"]},
}
PLAIN = json.dumps(DOCUMENT).encode()
WRITTEN = {
    "in one line": PLAIN,
    "indented": json.dumps(DOCUMENT, indent=1).encode(),
    "windows": json.dumps(DOCUMENT, indent=1).replace("\n", "\r\n").encode(),
    "not escaped": json.dumps(DOCUMENT, ensure_ascii=False).encode(),
    "a byte order mark": b"\xef\xbb\xbf" + PLAIN,
    "UTF-16": json.dumps(DOCUMENT, ensure_ascii=False).encode("utf-16"),
    "gzip": gzip.compress(PLAIN),
    "xz": lzma.compress(PLAIN),
    "bzip2": bz2.compress(PLAIN),
    "members in another order": json.dumps(TURNED).encode(),
    "several articles": json.dumps(
        {
            "data": [
                {"title": "A", "paragraphs": [paragraph]}
                for paragraph in DOCUMENT["data"][0]["paragraphs"]
            ]
        }
    ).encode(),
}


class Read(NamedTuple):
    paragraphs: list[Paragraph]
    has_gold: bool
    skipped: list[str]


def read_squad(path, **options):
    reader = SquadReader(path, **options)
    return Read(list(reader), reader.has_gold, reader.skipped)


@pytest.mark.parametrize("kind", WRITTEN)
@pytest.mark.parametrize("at_once", [5, 1 << 20])
def test_a_file_may_be_written_in_any_way(tmp_path, kind, at_once, monkeypatch):
    monkeypatch.setattr(json_stream, "CHARACTERS_AT_ONCE", at_once)
    (tmp_path / "f.json").write_bytes(WRITTEN[kind])
    assert read_squad(tmp_path / "f.json") == (READ, True, [])


def read_document(tmp_path, *paragraphs, **options):
    return read_content(tmp_path, json.dumps(document(*paragraphs)), **options)


def read_content(tmp_path, content, **options):
    (tmp_path / "f.json").write_text(content, encoding="utf-8")
    return read_squad(tmp_path / "f.json", **options)


def test_version_2_has_questions_without_an_answer(tmp_path):
    read = read_document(
        tmp_path,
        (
            "x y",
            question("a", "q", ("x", 0), is_impossible=False),
            question("b", "q", is_impossible=True, plausible_answers=[{"text": "z"}]),
        ),
    )
    assert read.has_gold
    assert [q.is_impossible for q in read.paragraphs[0].questions] == [False, True]
    assert read.paragraphs[0].questions[1].answers == ()


@pytest.mark.parametrize("answers", [{"answers": []}, {"answers": None}, {}])
def test_a_test_set_has_no_answers(tmp_path, answers):
    asked = [{"id": name, "question": "q", **answers} for name in "ab"]
    read = read_document(tmp_path, ("x y", *asked))
    assert (read.has_gold, len(read.paragraphs[0].questions)) == (False, 2)


# Of what is no SQuAD file, whatever is skipped.
NO_SQUAD = {
    "[]": r"f.json: no file of SQuAD: expected \{\"data\": \[",
    "{}": r"no file of SQuAD",
    "3": r"no file of SQuAD",
    '"text"': r"no file of SQuAD",
    '{"data": {}}': r"no file of SQuAD",
    '{"data": [[]]}': r"no file of SQuAD",
    '{"data": [{"paragraphs": {}}]}': r"no file of SQuAD",
    '{"data": [{"paragraphs": ["x"]}]}': r"no file of SQuAD",
    '{"data": [{"paragraphs": [{"text": "x"}]}]}': r"no file of SQuAD",
    '{"data": [{"context": "x", "question": "y"}]}': r"no question in it",
    '{"data": []}': r"no question in it",
    "id\tquestion": r"f.json:1: broken JSON",
    "": r"f.json:1: broken JSON \(it is empty\)",
    '{"data": [{"paragraphs": [': r"broken JSON",
    '{"data": NaN}': r"f.json:1: broken JSON",
    '{"data": [{"paragraphs": [{"context": NaN, "qas": []}]}]}': r"NaN is no number of JSON",
    '{"data": [{"paragraphs": [' + "[" * 200_000: r"nested too deeply",
}


@pytest.mark.parametrize("number", range(len(NO_SQUAD)))
@pytest.mark.parametrize("skip_broken", [False, True])
def test_what_is_no_squad_is_one_line(tmp_path, number, skip_broken):
    content, message = list(NO_SQUAD.items())[number]
    with pytest.raises(UserError, match=message) as error:
        read_content(tmp_path, content, skip_broken=skip_broken)
    assert "\n" not in str(error.value)


OTHER_FILES = {
    "LATIN1": (PLAIN[:50] + b'"\xe9"', r"f.json: not UTF-8 \(byte 0xe9 at position 51\)"),
    "cut in a letter": ('{"a": "é'.encode()[:-1], r"f.json: not UTF-8"),
    "UTF-16 without a mark": (
        json.dumps(DOCUMENT).encode("utf-16-le"),
        r"f.json: UTF-16LE without a byte order mark",
    ),
    "zip": (b"PK\x03\x04" + bytes(99), r"f.json: a zip archive"),
    "cut gzip": (gzip.compress(PLAIN)[:-20], r"f.json: a corrupt or truncated archive"),
    "zeros": (bytes(500), r"f.json: no text"),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_another_kind_of_file_is_one_line(tmp_path, kind):
    content, message = OTHER_FILES[kind]
    (tmp_path / "f.json").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_squad(tmp_path / "f.json")


def with_id(**more):
    return {"id": "bad", "question": "q", "answers": [{"text": "x", "answer_start": 0}], **more}


def answered(**answer):
    return with_id(answers=[{"text": "x", "answer_start": 0, **answer}])


# Questions on "x y x" beside a good one, and what is said of them.
BROKEN = {
    "another place": (
        answered(answer_start=1),
        r"'bad': its answer 'x' does not stand at char.* 1 ",
    ),
    "one too far": (answered(text="y", answer_start=3), r"character 3 of its context, but at 2"),
    "nowhere": (answered(text="z"), r"'bad': its answer 'z' .* but nowhere"),
    "beyond": (answered(answer_start=10**12), r"character 1000000000000 of its context"),
    "before": (answered(text="x", answer_start=-1), r"character -1 of its context"),
    "no start": (with_id(answers=[{"text": "x"}]), r"'answer_start' of its answer 'x' is no whole"),
    "start as text": (answered(answer_start="0"), r"'answer_start' .* is no whole number"),
    "start as truth": (answered(answer_start=False), r"'answer_start' .* is no whole number"),
    "empty answer": (answered(text=" "), r"question 'bad': its 'text' is empty"),
    "an answer as text": (with_id(answers=["x"]), r"question 'bad': an answer that is no object"),
    "answers as an object": (with_id(answers={"text": ["x"]}), r"its 'answers' are no list"),
    "empty question": (with_id(question=" \n"), r"question 'bad': its 'question' is empty"),
    "no question": (with_id(question=None), r"question 'bad': its 'question' is no text"),
    "half a letter": (with_id(question="a\ud83d"), r"its 'question' holds half of a character"),
    "a number as id": (with_id(id=7), r"question 7: its 'id' is no text"),
    "no id": ({"question": "q"}, r"paragraph 1: question: its 'id' is no text"),
    "no object": ("q", r"paragraph 1: question: no object"),
    "the same id": (with_id(id="good"), r"question 'good': another question has this id as well"),
    "truth as text": (
        with_id(is_impossible="no"),
        r"its 'is_impossible' is neither true nor false",
    ),
    "both": (with_id(is_impossible=True), r"it has answers, and its 'is_impossible' is true"),
    "a long id": (with_id(id="i" * 9000, question=""), r"question 'iii.*\.\.\..*': its 'question'"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_question_is_named_or_passed_over(tmp_path, kind):
    broken, message = BROKEN[kind]
    paragraph = ("x y x", question("good", "q", ("y", 2)), broken)
    with pytest.raises(UserError, match=message) as error:
        read_document(tmp_path, paragraph)
    assert str(error.value).startswith(f"{tmp_path / 'f.json'}: ")
    assert str(error.value).endswith(": mend it, or pass over what is broken with --skip-broken")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500
    read = read_document(tmp_path, paragraph, skip_broken=True)
    assert [q.id for q in read.paragraphs[0].questions] == ["good"]
    assert len(read.skipped) == 1


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ("", r"paragraph 2: its 'context' is empty"),
        (" \u3000\n", r"paragraph 2: its 'context' is empty"),
        (None, r"paragraph 2: its 'context' is no text"),
        ("a\udc00", r"paragraph 2: its 'context' holds half of a character"),
    ],
)
def test_a_broken_context_is_named_or_passed_over(tmp_path, context, message):
    paragraphs = [("x", question("a", "q", ("x", 0))), (context, question("b"), question("c"))]
    with pytest.raises(UserError, match=message):
        read_document(tmp_path, *paragraphs)
    read = read_document(tmp_path, *paragraphs, skip_broken=True)
    assert ([p.context for p in read.paragraphs], len(read.skipped)) == (["x"], 1)


@pytest.mark.parametrize("more", [{}, {"qas": None}, {"qas": {"id": "a"}}])
def test_questions_that_are_no_list(tmp_path, more):
    content = document(("x", question("a", "q", ("x", 0))))
    content["data"][0]["paragraphs"].append({"context": "y", **more})
    with pytest.raises(UserError, match=r"paragraph 2: its 'qas' is no list: mend it"):
        read_content(tmp_path, json.dumps(content))
    assert len(read_content(tmp_path, json.dumps(content), skip_broken=True).skipped) == 1


@pytest.mark.parametrize("answers", [[("x", 0)], []])
@pytest.mark.parametrize("is_turned", [False, True])
def test_all_questions_are_told_or_none(tmp_path, answers, is_turned):
    """Else one without an answer might be scored as one that has none."""
    told = question("told", "q", *answers, **({} if answers else {"is_impossible": True}))
    both = [("x", told), ("x", question("untold"))]
    with pytest.raises(UserError, match=r"'untold' has no answer, while that of 'told' is told"):
        read_document(tmp_path, *(both[::-1] if is_turned else both), skip_broken=True)


def test_nothing_is_left_of_a_file_of_broken_questions(tmp_path):
    with pytest.raises(UserError, match=r"no question in it"):
        read_document(tmp_path, ("x", with_id(question="")), skip_broken=True)


def test_a_missing_file_or_a_folder_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.json: no such file"):
        read_squad(tmp_path / "nowhere.json")
    with pytest.raises(UserError, match=r"a folder, where a file is expected"):
        read_squad(tmp_path)
