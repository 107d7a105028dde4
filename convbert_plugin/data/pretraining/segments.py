"""Put a block's lines into the one or two segments of an example."""

from typing import List, Tuple

import numpy as np

ONE_SEGMENT_PROBABILITY = 0.1
# [CLS] A [SEP] B [SEP]
SPECIALS_OF_TWO_SEGMENTS = 3


def split_into_segments(
    lines: List[np.ndarray], target_length: int, max_length: int, rng: np.random.Generator
) -> Tuple[np.ndarray, np.ndarray]:
    """Segments A and B, cut so that the example with its specials fits ``max_length``.

    ELECTRA's rule since its correction of 2020-03-16, which the released ConvBERT builder
    precedes: a line goes to A while A is empty or the line keeps A under half the target, and
    with probability 1/2 where the line is the first to go beyond it. In one example of ten all
    lines go to A.
    """
    if rng.random() < ONE_SEGMENT_PROBABILITY:
        first_target = np.inf
    else:
        first_target = (target_length - SPECIALS_OF_TWO_SEGMENTS) // 2
    first: list[np.ndarray] = []
    second: list[np.ndarray] = []
    first_length = 0
    for line in lines:
        if (
            first_length == 0
            or first_length + len(line) < first_target
            or (not second and first_length < first_target and rng.random() < 0.5)
        ):
            first.append(line)
            first_length += len(line)
        else:
            second.append(line)
    a = np.concatenate(first)[: max_length - 2]
    room = max(0, max_length - len(a) - SPECIALS_OF_TWO_SEGMENTS)
    return a, np.concatenate([a[:0], *second])[:room]
