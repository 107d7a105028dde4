"""Texts to an example: [CLS] A [SEP] (B [SEP])."""

from typing import Iterable, NamedTuple, Sequence, Union

import numpy as np


class Framed(NamedTuple):
    """Tokens [T] and segments [T]: 0 up to the first separator, 1 after it."""

    tokens: np.ndarray
    segments: np.ndarray


def truncated_lengths(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of each text stay where both have ``room`` together.

    What is too much is taken from the end of the longer text, token by token, and from the second
    one where both are equally long. Source: classification_tasks.py:296-310.
    """
    second = min(second, max(room - first, room // 2))
    return min(first, room - second), second


def join(texts: Sequence[np.ndarray], begin: int, separator: int, max_length: int) -> Framed:
    """Frame one or two texts of token ids, cut so that the example has ``max_length`` tokens."""
    first, *second = map(len, texts)
    kept = truncated_lengths(first, sum(second), max_length - 1 - len(texts))
    cut = [text[:length] for text, length in zip(texts, kept, strict=False)]
    return frame(cut, begin, separator)


def frame(texts: Iterable[Union[Sequence[int], np.ndarray]], begin: int, separator: int) -> Framed:
    """Put texts of token ids between the special tokens, whole."""
    parts = [np.array([begin]), *(np.append(text, separator) for text in texts)]
    tokens = np.concatenate(parts).astype(np.int64)
    first = sum(map(len, parts[:2]))
    return Framed(tokens, (np.arange(len(tokens)) >= first).astype(np.int64))
