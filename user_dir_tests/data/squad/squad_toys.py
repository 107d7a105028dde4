"""Prepared questions made by hand, of token ids alone."""

from typing import NamedTuple

import numpy as np

from user_dir_tests.data.toy_lines import Lines, lines


class ToyQuestions(NamedTuple):
    """Questions on contexts, as they are opened from a prepared folder."""

    contexts: Lines
    questions: Lines
    paragraphs: np.ndarray
    answers: np.ndarray
    impossible: np.ndarray


def toy_questions(contexts, questions):
    """``questions``: tokens, the number of the paragraph, and the answer or None, of each."""
    answers = [answer or (-1, -1) for *_, answer in questions]
    return ToyQuestions(
        contexts=lines(*contexts),
        questions=lines(*(tokens for tokens, *_ in questions)),
        paragraphs=np.array([paragraph for _, paragraph, _ in questions], np.int32),
        answers=np.array(answers, np.int32),
        impossible=np.array([answer is None for *_, answer in questions]),
    )
