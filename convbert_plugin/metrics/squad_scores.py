"""The official scores of SQuAD 1.1 and 2.0, over a whole set, from 0 to 100.

A set with unanswerable questions (those without a gold answer) is scored by the rules of 2.0, any
other by those of 1.1: they differ where nothing is left of a text without articles and punctuation.
Source: evaluate-v1.1.py and evaluate-v2.0.py of the SQuAD site.
"""

import re
import string
from collections import Counter
from functools import lru_cache
from typing import NamedTuple, Optional, Sequence

import numpy as np

SCORES = ("exact_match", "f1")
BEST_SCORES = ("best_exact_match", "best_f1")
SCORES_WITH_IMPOSSIBLE = (
    *SCORES,
    *("has_answer_exact_match", "has_answer_f1", "no_answer_exact_match", "no_answer_f1"),
    *BEST_SCORES,
)
BEST_THRESHOLDS = tuple(f"{name}_threshold" for name in BEST_SCORES)

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
# The gold answers of a whole development set, and what is predicted for it.
_REMEMBERED = 2**16


class QuestionScores(NamedTuple):
    """What the answers to questions score, 0 to 1, each array [Q], in float64.

    ``exact_match`` and ``f1`` are of the texts that were predicted, ``blank_exact_match`` and
    ``blank_f1`` those of saying that there is no answer. ``has_answer``: there is a gold answer;
    ``has_text``: a text was predicted.
    """

    exact_match: np.ndarray
    f1: np.ndarray
    blank_exact_match: np.ndarray
    blank_f1: np.ndarray
    has_answer: np.ndarray
    has_text: np.ndarray

    def at(self, null_odds: Optional[np.ndarray], threshold: float) -> tuple[np.ndarray, ...]:
        """Exact match [Q] and F1 [Q] where null odds above the threshold mean no answer."""
        if null_odds is None:
            return self.exact_match, self.f1
        is_blank = np.asarray(null_odds, float) > threshold
        return (
            np.where(is_blank, self.blank_exact_match, self.exact_match),
            np.where(is_blank, self.blank_f1, self.f1),
        )


def normalize_answer(text: str) -> str:
    """Return a text in small letters, without punctuation, articles and spaces to spare."""
    text = text.lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def exact_match(prediction: str, gold: Sequence[str]) -> float:
    """Return 1 if a text equals one of the gold texts, else 0."""
    normal = _normalized(prediction)
    return float(any(normal == _normalized(text) for text in gold))


def f1(prediction: str, gold: Sequence[str], blanks_agree: bool = True) -> float:
    """Return the best F1 of the words of a text and those of a gold text.

    Of two texts without words it is 1 if ``blanks_agree``, as in version 2.0, else 0.
    """
    return max((_f1_of(prediction, text, blanks_agree) for text in gold), default=0.0)


def question_scores(
    predictions: Sequence[Optional[str]], gold: Sequence[Sequence[str]]
) -> QuestionScores:
    """Score the answer to each question; None, where none was predicted, scores 0.

    ``gold``: the gold texts of each question, none where it is unanswerable.
    """
    has_answer = np.array([bool(texts) for texts in gold], bool)
    has_impossible = not has_answer.all()
    if has_impossible:
        gold = [[text for text in texts if _normalized(text)] or [""] for texts in gold]
        blank_exact_match = blank_f1 = (~has_answer).astype(float)
    else:
        blank_exact_match = np.array([exact_match("", texts) for texts in gold], float)
        blank_f1 = np.zeros(len(gold))
    scores = np.zeros((2, len(gold)))
    for number, (text, texts) in enumerate(zip(predictions, gold, strict=True)):
        if text is not None:
            scores[:, number] = exact_match(text, texts), f1(text, texts, has_impossible)
    has_text = np.array([bool(text) for text in predictions], bool)
    return QuestionScores(scores[0], scores[1], blank_exact_match, blank_f1, has_answer, has_text)


def squad_scores(
    predictions: Sequence[Optional[str]],
    null_odds: Optional[Sequence[float]],
    gold: Sequence[Sequence[str]],
    threshold: float,
) -> dict[str, float]:
    """Return the scores of a set by their names here.

    ``predictions``: for each question the best answer that is not blank; it counts as blank where
    the question's ``null_odds`` are above the threshold (None: nowhere). Of what a set has none,
    such as answerable questions, the score is 0.
    """
    odds = None if null_odds is None else np.asarray(null_odds, float)
    scored = question_scores(predictions, gold)
    at_threshold = dict(zip(SCORES, scored.at(odds, threshold), strict=True))
    scores = {name: _percent(values) for name, values in at_threshold.items()}
    if scored.has_answer.all():
        return scores
    for group, members in (("has", scored.has_answer), ("no", ~scored.has_answer)):
        for name, values in at_threshold.items():
            scores[f"{group}_answer_{name}"] = _percent(values[members])
    if odds is not None:
        for name in SCORES:
            best = best_threshold(scored, odds, name)
            scores[f"best_{name}"], scores[f"best_{name}_threshold"] = best
    return scores


def best_threshold(scored: QuestionScores, null_odds: np.ndarray, name: str) -> tuple[float, float]:
    """Return the best that ``exact_match`` or ``f1`` may be, and the threshold for it.

    The official search, ties of odds included: questions are answered one by one, those of lower
    odds first, beginning with none, which goes by a threshold of 0.
    """
    thresholds, scores = threshold_curve(scored, null_odds, name)
    best = int(scores.argmax())
    return float(scores[best]), float(thresholds[best]) if best else 0.0


def threshold_curve(
    scored: QuestionScores, null_odds: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return thresholds [Q + 1], rising from minus infinity, and the score at each, 0 to 100."""
    order = np.argsort(null_odds, kind="stable")
    gained = np.where(scored.has_answer, getattr(scored, name), -scored.has_text.astype(float))
    unanswerable = float((~scored.has_answer).sum())
    totals = np.concatenate([[unanswerable], gained[order]]).cumsum()
    thresholds = np.concatenate([[-np.inf], np.asarray(null_odds, float)[order]])
    return thresholds, 100.0 * totals / max(len(order), 1)


def _percent(values: np.ndarray) -> float:
    return 100.0 * float(values.sum()) / max(len(values), 1)


@lru_cache(_REMEMBERED)
def _normalized(text: str) -> str:
    return normalize_answer(text)


@lru_cache(_REMEMBERED)
def _word_counts(text: str) -> tuple[Counter, int]:
    counts = Counter(_normalized(text).split())
    return counts, counts.total()


def _f1_of(prediction: str, gold: str, blanks_agree: bool) -> float:
    (ours, our_count), (theirs, their_count) = _word_counts(prediction), _word_counts(gold)
    if blanks_agree and not (our_count and their_count):
        return float(our_count == their_count)
    if ours.keys().isdisjoint(theirs):
        return 0.0
    common = (ours & theirs).total()
    precision, recall = common / our_count, common / their_count
    return 2 * precision * recall / (precision + recall)
