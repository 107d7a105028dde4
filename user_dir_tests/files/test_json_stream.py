"""JSON read value by value, against Python's own reader of whole documents."""

import io
import json
import random

import pytest

from convbert_plugin.errors import UserError
from convbert_plugin.files import json_stream
from convbert_plugin.files.json_stream import JsonStream

pytestmark = pytest.mark.squad

DOCUMENT = {
    "list": [{"a": 1, "b": [True, None, -1.5e-7]}, {}, [], "x", {"b": '\\"}]{[\u2028é😀'}],
    "more": {"deep": [[[{"": "\n\t"}]]]},
    "empty": [],
    "number": 1234567890123456789,
}


def stream_of(text, at_once):
    """Reads come in pieces of so many characters."""
    file = io.StringIO(text)
    return JsonStream("file", lambda size: file.read(min(size, at_once)))


def read_by_parts(stream):
    """The document, its lists taken element by element."""
    made = {}
    for name in stream.members():
        if stream.next() == "[":
            made[name] = [stream.value() for _ in stream.elements()]
        elif stream.next() == "{":
            made[name] = {key: stream.value() for key in stream.members()}
        else:
            made[name] = stream.value()
    stream.end()
    return made


@pytest.mark.parametrize("at_once", [1, 2, 7, 10_000])
@pytest.mark.parametrize("options", [{}, {"indent": 3}, {"ensure_ascii": False}])
def test_values_are_those_of_a_whole_read(at_once, options):
    text = f" \n{json.dumps(DOCUMENT, **options)}\r\n "
    assert read_by_parts(stream_of(text, at_once)) == DOCUMENT
    stream = stream_of(text, at_once)
    assert stream.value() == DOCUMENT
    stream.end()


@pytest.mark.parametrize("at_once", [3, 10_000])
def test_a_cut_or_changed_document_is_one_line(at_once):
    text = json.dumps(DOCUMENT)
    rng = random.Random(1)
    documents = [text[:length] for length in range(len(text))]
    for _ in range(300):
        place = rng.randrange(len(text))
        documents.append(text[:place] + rng.choice('{}[]",:x\n\x00') + text[place + 1 :])
    refused = 0
    for document in documents:
        try:
            expected = json.loads(document)
        except ValueError:
            expected = None
        if expected is not None:
            assert read_by_parts(stream_of(document, at_once)) == expected
            continue
        with pytest.raises(UserError, match=r"^file:\d+: broken JSON \(.*\): fetch .*$"):
            read_by_parts(stream_of(document, at_once))
        refused += 1
    assert refused > len(text)


PROBLEMS = {
    "": r"file:1: broken JSON \(it is empty\): fetch or write the file again",
    '{"a": NaN}': r"NaN is no number of JSON",
    '{"a": -Infinity}': r"Infinity is no number of JSON",
    '{"a": 1}{': r"more behind its end",
    '\n\n{"a"\n 1}': r"file:4: broken JSON \(':' is expected\)",
    '{1: "a"}': r"a name between quotation marks is expected",
    '{"a": "\n"}': r"Invalid control character",
    '{"a": ' + "[" * 200_000: r"nested too deeply",
    '{"a": ' + "9" * 5_000 + "}": r"Exceeds the limit|invalid literal|int string",
}


@pytest.mark.parametrize("number", range(len(PROBLEMS)))
def test_what_is_no_json_is_told(number):
    text, message = list(PROBLEMS.items())[number]
    with pytest.raises(UserError, match=message):
        read_by_parts(stream_of(text, 1 << 20))


def test_a_text_without_end_is_not_read_for_ever(monkeypatch):
    monkeypatch.setattr(json_stream, "CHARACTERS_AT_ONCE", 10)
    monkeypatch.setattr(json_stream, "MOST_CHARACTERS", 1000)
    sizes = []

    def read(size):
        sizes.append(size)
        return ("x" * size) if sizes[1:] else '"'

    with pytest.raises(UserError, match=r"file:1: .*more than 1,000 characters"):
        JsonStream("file", read).value()
    assert sum(sizes) < 5000


def test_only_the_value_at_hand_is_held(monkeypatch):
    monkeypatch.setattr(json_stream, "CHARACTERS_AT_ONCE", 100)
    text = json.dumps([{"n": n, "text": "x" * 50} for n in range(1000)])
    stream = stream_of(text, 1 << 20)
    for number, _ in enumerate(stream.elements()):
        assert stream.value()["n"] == number
        assert len(stream._text) < 400
    stream.end()
