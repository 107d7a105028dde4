"""Questions with contexts of any length, as windows that a model can take."""

from typing import NamedTuple

import numpy as np

from convbert_plugin.errors import UserError
from convbert_plugin.formats.reading import Reading

# [CLS], and [SEP] after the question and after the context.
SPECIALS = 3


class Windows(NamedTuple):
    """Arrays [W], the windows of a question one after the other.

    ``question``: which one it is of. ``first``: the first token of its part of the context, and
    ``length``: how many it has. Tokens from ``scored_first`` up to and without ``scored_end`` (of
    the whole context) are scored in this window: none has more context around them.
    """

    question: np.ndarray
    first: np.ndarray
    length: np.ndarray
    scored_first: np.ndarray
    scored_end: np.ndarray


def make_windows(
    query_lengths: np.ndarray, context_lengths: np.ndarray, reading: Reading
) -> Windows:
    """The windows of questions [Q] of so many tokens, over contexts [Q] of so many.

    They begin ``doc_stride`` tokens after each other, or where one ends if that comes first, and
    the last one reaches the end of the context. Source: BERT's run_squad.py.

    Raises:
        UserError: a question that leaves no room for its context.
    """
    kept = np.minimum(query_lengths, reading.max_query_length).astype(np.int64)
    room = reading.length - SPECIALS - kept
    if len(room) and room.min() < 1:
        raise UserError(
            f"--tokens-per-sample {reading.length}: a window is filled by a question of "
            f"{kept.max()} tokens, [CLS] and two [SEP], and nothing of the context fits: raise it, "
            "or lower --max-query-length"
        )
    context_lengths = context_lengths.astype(np.int64)
    step = np.minimum(room, reading.doc_stride)
    counts = 1 + np.maximum(0, -(-(context_lengths - room) // step))
    question = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(question)) - np.repeat(np.cumsum(counts) - counts, counts)
    first = place * step[question]
    length = np.minimum(room[question], context_lengths[question] - first)
    return Windows(question, first, length, *_scored(question, first, length))


def _scored(
    question: np.ndarray, first: np.ndarray, length: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where each window's scored tokens begin and end [W].

    A token is scored where min(tokens left of it, tokens right of it) + 0.01 × tokens of the
    window is highest, the first time: along the context the best window only moves on, from each
    to the next.
    """
    end = first + length
    turn = _better_from(first[:-1], length[:-1], first[1:], length[1:])
    is_next = question[1:] == question[:-1]
    scored_first, scored_end = first.copy(), end.copy()
    scored_first[1:][is_next] = turn[is_next]
    scored_end[:-1][is_next] = turn[is_next]
    return scored_first, scored_end


def _better_from(
    first: np.ndarray, length: np.ndarray, next_first: np.ndarray, next_length: np.ndarray
) -> np.ndarray:
    """The first token for which the next window is better: at the latest, where the window ends.

    In hundredths, so that equals are equal.
    """
    last, next_last = first + length - 1, next_first + next_length - 1
    shorter = length - next_length
    # Left of the next one's middle the tokens left of it count, and in the window those right.
    turn = (100 * (last + next_first) + shorter) // 200 + 1
    # Right of it those on the right count in both, and one window is better for all of them.
    is_better = 100 * (next_last - last) > shorter
    return np.where(is_better, np.minimum(turn, last + 1), last + 1)
