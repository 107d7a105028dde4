"""What a run on SQuAD has answered, question by question, as it stands beside its scores."""

import math
from pathlib import Path
from typing import Any, NamedTuple, Optional

from convbert_plugin.analysis.runs import Run
from convbert_plugin.errors import UserError
from convbert_plugin.files.json_files import read_json_object, typed
from convbert_plugin.files.records import ANSWERS_FILE


class Question(NamedTuple):
    """A question, and what was answered.

    ``gold``: the texts that are right, none where there is no answer. ``answer``: the best text,
    whatever the null odds, which are None where they are beyond all numbers. ``exact_match`` and
    ``f1`` (0 to 100) are of it, or of none where its null odds are above the threshold.
    """

    id: str
    question: str
    gold: tuple[str, ...]
    answer: str
    null_odds: Optional[float]
    windows: int
    exact_match: float
    f1: float


class WrongAnswer(NamedTuple):
    """The context of a question that was answered wrongly, and where two texts begin in it.

    The characters at which its first gold answer and ``answer`` begin, where these are known.
    """

    id: str
    context: str
    gold_start: Optional[int]
    answer_start: Optional[int]


class AnswerFile(NamedTuple):
    """All answers of a run on one set, and a few of the wrong ones.

    ``threshold``: null odds above it left a question unanswered; None where all were answered.
    """

    run: Run
    questions: list[Question]
    threshold: Optional[float]
    wrong: list[WrongAnswer]

    @property
    def has_impossible(self) -> bool:
        """Whether a threshold makes a difference: there are unanswerable questions, and odds."""
        has_odds = any(question.null_odds is not None for question in self.questions)
        return has_odds and not all(question.gold for question in self.questions)

    def leaves_unanswered(self, question: Question) -> bool:
        """Whether the threshold says that the question has no answer."""
        return (
            self.threshold is not None
            and question.null_odds is not None
            and question.null_odds > self.threshold
        )


def read_answers(run: Run, subset: str) -> AnswerFile:
    """Read what a run last answered on a set. Raises UserError: no such file, a damaged one."""
    path = Path(run.folder) / ANSWERS_FILE.format(subset=subset)
    try:
        content = read_json_object(path)
        answers = AnswerFile(
            run,
            [_typed(Question, entry) for entry in content["questions"]],
            typed(Optional[float], content["threshold"]),
            [_typed(WrongAnswer, entry) for entry in content["wrong"]],
        )
        _check(answers)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise UserError(
            f"{path}: damaged, or not the answers of a run: validate again, or remove it"
        ) from None
    return answers


def _typed(kind: Any, entry: dict) -> Any:
    # What further versions add is passed over.
    return typed(kind, {name: entry.get(name) for name in kind._fields})


def _check(answers: AnswerFile) -> None:
    known = {question.id for question in answers.questions}
    if not known or len(known) < len(answers.questions):
        raise ValueError
    if not {wrong.id for wrong in answers.wrong} <= known:
        raise ValueError
    for question in answers.questions:
        scores = question.exact_match, question.f1, question.null_odds or 0.0
        if question.windows < 1 or not all(map(math.isfinite, scores)):
            raise ValueError
