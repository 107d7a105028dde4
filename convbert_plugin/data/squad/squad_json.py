"""SQuAD's .json files, 1.1 and 2.0: paragraph by paragraph, and every mistake in one line."""

from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple, Optional

from convbert_plugin.errors import UserError, shown
from convbert_plugin.files.json_stream import JsonStream
from convbert_plugin.files.text_files import HALF_PAIR, PathLike, open_characters

SHAPE = '{"data": [{"paragraphs": [{"context": ..., "qas": [...]}]}]}'
# Of values of JSON.
BEGINNINGS = tuple('{["-0123456789tfn')
REMEDY = "mend it, or pass over what is broken with --skip-broken"


class Answer(NamedTuple):
    """A right answer: characters of the context from ``start`` on."""

    text: str
    start: int


class Question(NamedTuple):
    """A question; ``is_impossible``: its context does not answer it."""

    id: str
    text: str
    answers: tuple[Answer, ...]
    is_impossible: bool


class Paragraph(NamedTuple):
    """A context and the questions about it."""

    context: str
    questions: tuple[Question, ...]


class _Broken(Exception):
    """What is wrong with a question or a paragraph."""


class SquadReader:
    """The paragraphs of a file that have questions, each once.

    Then ``has_gold`` says whether the file tells what is right, and ``skipped`` what is wrong with
    questions and paragraphs that were passed over. ``report_position`` gets the position in the
    file on disk.

    Raises:
        UserError: no SQuAD file; a question or a paragraph that is broken, unless they are
            skipped; no question; questions of which some have answers, or none by the file, and
            others nothing of both.
    """

    def __init__(
        self,
        path: PathLike,
        skip_broken: bool = False,
        report_position: Callable[[int], None] = lambda position: None,
    ):
        self.path = Path(path)
        self.skipped: list[str] = []
        self._skip_broken = skip_broken
        self._report_position = report_position
        self._ids: set[str] = set()
        # A question that tells what is right, and one that does not.
        self._told: Optional[str] = None
        self._untold: Optional[str] = None

    @property
    def has_gold(self) -> bool:
        return self._told is not None

    def __iter__(self) -> Iterator[Paragraph]:
        with open_characters(self.path, self._report_position) as read:
            for number, value in enumerate(self._values(JsonStream(self.path, read)), start=1):
                if paragraph := self._paragraph(value, number):
                    yield paragraph
        if not self._ids:
            raise UserError(f"{self.path}: no question in it: nothing to read")

    def pass_over(self, problem: str) -> None:
        """Count what is broken. Raises UserError unless that is to be skipped."""
        if not self._skip_broken:
            raise UserError(f"{self.path}: {problem}: {REMEDY}")
        self.skipped.append(problem)

    def _values(self, stream: JsonStream) -> Iterator[Any]:
        """The paragraphs as they stand there."""
        held = 0
        self._expect(stream, "{")
        for name in stream.members():
            if name != "data":
                stream.value()
                continue
            held += 1
            self._expect(stream, "[")
            for _ in stream.elements():
                self._expect(stream, "{")
                for key in stream.members():
                    if key != "paragraphs":
                        stream.value()
                        continue
                    self._expect(stream, "[")
                    for _ in stream.elements():
                        held += 1
                        yield stream.value()
        stream.end()
        if not held:
            raise self._no_squad()

    def _expect(self, stream: JsonStream, character: str) -> None:
        found = stream.next()
        # What is no JSON at all is told by the stream.
        if found != character and found in BEGINNINGS:
            raise self._no_squad()

    def _no_squad(self) -> UserError:
        return UserError(f"{self.path}: no file of SQuAD: expected {SHAPE}")

    def _paragraph(self, value: Any, number: int) -> Optional[Paragraph]:
        if not isinstance(value, dict) or not {"context", "qas"} & value.keys():
            raise self._no_squad()
        questions = []
        try:
            context = _text(value, "context")
            if not isinstance(value.get("qas"), list):
                raise _Broken("its 'qas' is no list")
        except _Broken as broken:
            self.pass_over(f"paragraph {number}: {broken}")
            return None
        for held in value["qas"]:
            name = held.get("id") if isinstance(held, dict) else None
            try:
                questions.append(self._question(held, context))
            except _Broken as broken:
                where = (
                    f"paragraph {number}: question" if name is None else f"question {shown(name)}"
                )
                self.pass_over(f"{where}: {broken}")
        for question in questions:
            self._check_gold(question)
        return Paragraph(context, tuple(questions)) if questions else None

    def _question(self, value: Any, context: str) -> Question:
        if not isinstance(value, dict):
            raise _Broken("no object")
        name = _text(value, "id")
        if name in self._ids:
            raise _Broken("another question has this id as well")
        is_impossible = value.get("is_impossible", False)
        if not isinstance(is_impossible, bool):
            raise _Broken("its 'is_impossible' is neither true nor false")
        answers = value.get("answers") or []
        if not isinstance(answers, list):
            raise _Broken("its 'answers' are no list")
        if answers and is_impossible:
            raise _Broken("it has answers, and its 'is_impossible' is true")
        text = _text(value, "question")
        question = Question(
            name, text, tuple(_answer(answer, context) for answer in answers), is_impossible
        )
        self._ids.add(name)
        return question

    def _check_gold(self, question: Question) -> None:
        if question.answers or question.is_impossible:
            self._told = self._told or question.id
        else:
            self._untold = self._untold or question.id
        if self._told and self._untold:
            raise UserError(
                f"{self.path}: question {shown(self._untold)} has no answer, while that of "
                f"{shown(self._told)} is told: add it, or say that there is none by "
                '"is_impossible": true'
            )


def _text(value: dict, name: str) -> str:
    """A text of more than spaces."""
    text = value.get(name)
    if not isinstance(text, str):
        raise _Broken(f"its {name!r} is no text")
    if not text.strip():
        raise _Broken(f"its {name!r} is empty")
    if HALF_PAIR.search(text):
        raise _Broken(f"its {name!r} holds half of a character (an escape \\ud800 to \\udfff)")
    return text


def _answer(value: Any, context: str) -> Answer:
    if not isinstance(value, dict):
        raise _Broken("an answer that is no object")
    text, start = _text(value, "text"), value.get("answer_start")
    if type(start) is not int:
        raise _Broken(f"the 'answer_start' of its answer {shown(text)} is no whole number")
    if start < 0 or not context.startswith(text, start):
        begin = context.find(text)
        instead = "nowhere" if begin < 0 else f"at {begin}"
        raise _Broken(
            f"its answer {shown(text)} does not stand at character {shown(start)} of its context, "
            f"but {instead}"
        )
    return Answer(text, start)
