"""What a model has answered on a set: its official scores, and each answer for the report."""

import math
from typing import NamedTuple, Optional

import numpy as np

from convbert_plugin.data.squad.squad_answers import (
    QuestionSpans,
    best_texts,
    in_characters,
    merge,
)
from convbert_plugin.data.squad.squad_files import PreparedQuestions, QuestionTexts
from convbert_plugin.data.squad.squad_windows import Windows
from convbert_plugin.metrics.squad_scores import question_scores, squad_scores

# How many of the wrong answers are told with their contexts.
MOST_WRONG = 20


class AnsweredQuestions(NamedTuple):
    """The answers to questions of a split, those alone of which every window was read.

    ``numbers`` [n]: which ones; ``answers``: the best text for each, ``spans``: where all of the
    split are, in characters. Questions with null odds above the ``threshold`` are left unanswered.
    """

    questions: PreparedQuestions
    texts: QuestionTexts
    windows: Windows
    numbers: np.ndarray
    answers: list[str]
    spans: QuestionSpans
    threshold: float

    @property
    def gold(self) -> list[tuple[str, ...]]:
        return [self.texts.gold[number] for number in self.numbers]

    @property
    def null_odds(self) -> np.ndarray:
        return self.spans.null_odds[self.numbers]

    def scores(self) -> dict[str, float]:
        """The official scores by their names."""
        odds = self.null_odds.tolist()
        return squad_scores(self.answers, odds, self.gold, self.threshold)

    def for_report(self) -> dict:
        """Every question with its answer and scores, and some of the wrong ones with contexts."""
        scored = question_scores(self.answers, self.gold)
        exact_match, f1 = (100.0 * values for values in scored.at(self.null_odds, self.threshold))
        window_counts = np.bincount(self.windows.question, minlength=len(self.texts.ids))
        questions = [
            {
                "id": self.texts.ids[number],
                "question": self.texts.questions[number],
                "gold": list(self.texts.gold[number]),
                "is_impossible": self.texts.is_impossible[number],
                "answer": answer,
                "null_odds": _finite(self.spans.null_odds[number]),
                "windows": int(window_counts[number]),
                "exact_match": float(exact_match[place]),
                "f1": float(f1[place]),
            }
            for place, (number, answer) in enumerate(zip(self.numbers, self.answers, strict=True))
        ]
        wrong = self.numbers[exact_match == 0.0]
        # As far from each other as they can be.
        told = np.linspace(0, len(wrong) - 1, min(MOST_WRONG, len(wrong))).round().astype(int)
        return {
            "questions": questions,
            "threshold": _finite(self.threshold),
            "wrong": [self._with_context(int(number)) for number in wrong[told]],
        }

    def _with_context(self, number: int) -> dict:
        """A question's context, and at which characters its gold answer and the answer begin."""
        held = self.questions
        paragraph, first = int(held.paragraphs[number]), int(held.answers[number, 0])
        begin = held.offsets[held.first_tokens[paragraph] + first, 0]
        has_answer = self.spans.scores[number, 0] > -np.inf
        return {
            "id": self.texts.ids[number],
            "context": self.texts.contexts[paragraph],
            "gold_start": int(begin) if first >= 0 else None,
            "answer_start": int(self.spans.starts[number, 0]) if has_answer else None,
        }


def answered_questions(
    table: np.ndarray,
    questions: PreparedQuestions,
    texts: QuestionTexts,
    windows: Windows,
    threshold: float,
) -> AnsweredQuestions:
    """What a model has answered, by its ``table`` [W, ...] of all windows."""
    paragraphs = questions.paragraphs
    spans = merge(table, windows.question)
    spans = in_characters(spans, questions.offsets, questions.first_tokens[paragraphs])
    answers = best_texts(spans, [texts.contexts[paragraph] for paragraph in paragraphs])
    numbers = np.flatnonzero(spans.seen)
    read = [answers[number] for number in numbers]
    return AnsweredQuestions(questions, texts, windows, numbers, read, spans, threshold)


def _finite(value: float) -> Optional[float]:
    return float(value) if math.isfinite(value) else None
