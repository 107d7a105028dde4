"""One or two texts to an example: [CLS] A [SEP] (B [SEP])."""

from typing import NamedTuple

import numpy as np


class Joined(NamedTuple):
    """Tokens [T] and segments [T]: 1 for the second text and its separator."""

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


def join(texts: list[np.ndarray], begin: int, separator: int, max_length: int) -> Joined:
    """Put one or two texts of token ids, cut to ``max_length``, between the special tokens."""
    room = max_length - 1 - len(texts)
    if len(texts) == 2:
        kept = truncated_lengths(len(texts[0]), len(texts[1]), room)
    else:
        kept = (min(len(texts[0]), room),)
    tokens, segments = [[begin]], [[0]]
    for segment, (text, length) in enumerate(zip(texts, kept, strict=True)):
        tokens += [text[:length], [separator]]
        segments.append([segment] * (length + 1))
    return Joined(
        np.concatenate(tokens).astype(np.int64), np.concatenate(segments).astype(np.int64)
    )
