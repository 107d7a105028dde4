"""Scores of answers to SQuAD: by kinds of questions, and over the threshold of null odds."""

import re
import statistics
from typing import Callable, Iterator, NamedTuple, Sequence

import numpy as np

from convbert_plugin.analysis.answer_files import AnswerFile, Question
from convbert_plugin.analysis.groups import GroupAnswers
from convbert_plugin.metrics.squad_scores import (
    SCORES,
    best_threshold,
    question_scores,
    threshold_curve,
)

# Other forms of the words by which questions are told apart.
QUESTION_WORDS = {
    **{word: word for word in ("what", "who", "when", "where", "which", "why", "how")},
    "whom": "who",
    "whose": "who",
}
OTHER, NO_ANSWER = "other", "no answer"
# The fewest words of an answer, and the fewest windows, of each kind that is scored apart.
LENGTHS = {1: "1", 2: "2", 3: "3 to 4", 5: "5 to 9", 10: "10 or more"}
WINDOWS = {1: "1", 2: "2", 3: "3", 4: "4 or more"}
WORD = re.compile(r"[a-z]+")


def _among(kinds: dict[int, str], number: int) -> str:
    return kinds[max(fewest for fewest in kinds if fewest <= number)]


def answer_length(question: Question) -> str:
    """The words of the first gold answer."""
    if not question.gold:
        return NO_ANSWER
    return _among(LENGTHS, max(1, len(question.gold[0].split())))


def question_word(question: Question) -> str:
    """The first word of the question that is one of QUESTION_WORDS."""
    words = WORD.findall(question.question.lower())
    return next((QUESTION_WORDS[word] for word in words if word in QUESTION_WORDS), OTHER)


def number_of_windows(question: Question) -> str:
    """The windows in which the question was read."""
    return _among(WINDOWS, question.windows)


class Partition(NamedTuple):
    """A way to tell questions apart: its name, the kinds in order, and the kind of a question."""

    name: str
    kinds: tuple[str, ...]
    kind_of: Callable[[Question], str]


PARTITIONS = (
    Partition("words of the answer", (NO_ANSWER, *LENGTHS.values()), answer_length),
    Partition("question word", (*dict.fromkeys(QUESTION_WORDS.values()), OTHER), question_word),
    Partition("windows", tuple(WINDOWS.values()), number_of_windows),
)


class PartScore(NamedTuple):
    """What the questions of one kind score, by metric, a run each, 0 to 100."""

    partition: str
    kind: str
    questions: int
    scores: dict[str, list[float]]

    @property
    def means(self) -> dict[str, float]:
        return {metric: statistics.fmean(values) for metric, values in self.scores.items()}


class GroupParts(NamedTuple):
    """The scores of a group by kinds of questions."""

    label: str
    parts: list[PartScore]


def group_parts(answers: GroupAnswers) -> GroupParts:
    """The scores of a group, of every kind of which it has questions."""
    return GroupParts(answers.group.label, list(_part_scores(answers.files)))


def _part_scores(files: Sequence[AnswerFile]) -> Iterator[PartScore]:
    for partition in PARTITIONS:
        by_kind = [_by_kind(file.questions, partition) for file in files]
        for kind in partition.kinds:
            if all(kind in kinds for kinds in by_kind):
                held = [kinds[kind] for kinds in by_kind]
                scores = {metric: [_mean(one, metric) for one in held] for metric in SCORES}
                yield PartScore(partition.name, kind, len(held[0]), scores)


def _by_kind(questions: Sequence[Question], partition: Partition) -> dict[str, list[Question]]:
    kinds: dict[str, list[Question]] = {}
    for question in questions:
        kinds.setdefault(partition.kind_of(question), []).append(question)
    return kinds


def _mean(questions: Sequence[Question], metric: str) -> float:
    return statistics.fmean(getattr(question, metric) for question in questions)


class Curve(NamedTuple):
    """A score over the threshold of null odds: questions with odds above it count as unanswered.

    ``thresholds`` [n], rising from minus infinity, ``scores`` [n] there. ``best`` and
    ``best_threshold``: as the official evaluator finds them. ``score``: at the threshold in force.
    """

    thresholds: np.ndarray
    scores: np.ndarray
    best: float
    best_threshold: float
    score: float

    @property
    def is_best_unanswered(self) -> bool:
        """Whether nothing beats answering nothing, which the official evaluator calls 0."""
        return not self.scores.argmax()

    @property
    def unanswered(self) -> float:
        """The score of answering nothing."""
        return float(self.scores[0])


class RunCurves(NamedTuple):
    """The curves of a run by metric, and the threshold in force."""

    label: str
    seed: int
    threshold: float
    curves: dict[str, Curve]


def run_curves(answers: GroupAnswers) -> Iterator[RunCurves]:
    """The curves of every run of a group for which a threshold makes a difference."""
    for file in answers.files:
        if file.threshold is not None and file.has_impossible:
            curves = _curves(file.questions)
            yield RunCurves(answers.group.label, file.run.seed, file.threshold, curves)


def _curves(questions: Sequence[Question]) -> dict[str, Curve]:
    told = [question.null_odds for question in questions]
    odds = np.array([np.inf if one is None else one for one in told])
    gold = [question.gold for question in questions]
    scored = question_scores([question.answer for question in questions], gold)
    return {
        metric: Curve(
            *threshold_curve(scored, odds, metric),
            *best_threshold(scored, odds, metric),
            _mean(questions, metric),
        )
        for metric in SCORES
    }
