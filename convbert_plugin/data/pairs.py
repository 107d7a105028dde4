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
    if first + second <= room:
        return first, second
    half_of_second = room // 2
    half_of_first = room - half_of_second
    if first <= half_of_first:
        return first, room - first
    if second <= half_of_second:
        return room - second, second
    return half_of_first, half_of_second


def join(texts: Sequence[np.ndarray], begin: int, separator: int, max_length: int) -> Framed:
    """Frame one or two texts of token ids, cut so that the example has ``max_length`` tokens."""
    room = max_length - 1 - len(texts)
    first, *second = map(len, texts)
    kept = truncated_lengths(first, second[0], room) if second else (min(first, room),)
    cut = [text[:length] for text, length in zip(texts, kept, strict=True)]
    return frame(cut, begin, separator)


def frame(texts: Iterable[Union[Sequence[int], np.ndarray]], begin: int, separator: int) -> Framed:
    """Put texts of token ids between the special tokens, whole."""
    tokens: list[Union[Sequence[int], np.ndarray]] = [[begin]]
    segments = [[0]]
    for number, text in enumerate(texts):
        tokens += [text, [separator]]
        segments.append([min(number, 1)] * (len(text) + 1))
    return Framed(
        np.concatenate(tokens).astype(np.int64), np.concatenate(segments).astype(np.int64)
    )
