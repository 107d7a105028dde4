"""Cut documents into blocks: the index from which examples are built at load time.

A document is a run of non-empty lines. Lines come as ``fairseq-preprocess`` binarizes them, with
an end-of-sequence token each, so that an empty line is that token alone.
"""

from array import array
from bisect import bisect_left
from typing import Iterator, NamedTuple

import numpy as np

SHORT_BLOCK_PROBABILITY = 0.05
SHORTEST_TARGET = 5
DRAWS_AT_A_TIME = 1 << 16


class BlockIndex(NamedTuple):
    """Where each block begins and how much it takes: 20 bytes a block.

    Shapes, each [N]: first line, tokens of that line to skip, tokens to take, target length of
    the example, which counts [CLS] and [SEP].
    """

    first_line: np.ndarray
    skipped: np.ndarray
    tokens: np.ndarray
    target: np.ndarray

    def __len__(self) -> int:
        return len(self.first_line)


def whole_line_blocks(sizes: np.ndarray, max_length: int, seed: int) -> BlockIndex:
    """Take whole lines of one document until they fill the target length, as released.

    The target is ``max_length``, or with probability 0.05 a length drawn from 5 to it. Lines that
    reach beyond the target belong to the block; the example cuts them. Source: the released
    build_pretraining_dataset.py:30-95.
    """
    ends_before = _tokens_before(sizes)
    cumulative = memoryview(ends_before)
    targets = _targets(max_length, np.random.default_rng(seed))
    first_lines, tokens, drawn = array("q"), array("i"), array("i")
    line = 0
    for document_end in _document_ends(sizes):
        while line < document_end:
            target = next(targets)
            end = bisect_left(cumulative, cumulative[line] + target, line + 1, document_end)
            first_lines.append(line)
            tokens.append(cumulative[end] - cumulative[line])
            drawn.append(target)
            line = end
        line = document_end + 1
    return BlockIndex(
        np.frombuffer(first_lines, dtype=np.int64),
        np.zeros(len(first_lines), dtype=np.int32),
        np.frombuffer(tokens, dtype=np.int32),
        np.frombuffer(drawn, dtype=np.int32),
    )


def full_blocks(sizes: np.ndarray, max_length: int) -> BlockIndex:
    """Cut each document into blocks of ``max_length - 2`` tokens, the last one shorter."""
    ends_before = _tokens_before(sizes)
    starts, counts = [], []
    line = 0
    width = max_length - 2
    for document_end in _document_ends(sizes):
        begin, end = int(ends_before[line]), int(ends_before[document_end])
        if end > begin:
            offsets = np.arange(begin, end, width, dtype=np.int64)
            starts.append(offsets)
            counts.append(np.minimum(end - offsets, width).astype(np.int32))
        line = document_end + 1
    starts = np.concatenate(starts) if starts else np.zeros(0, dtype=np.int64)
    counts = np.concatenate(counts) if counts else np.zeros(0, dtype=np.int32)
    first_line = np.searchsorted(ends_before, starts, side="right") - 1
    skipped = (starts - ends_before[first_line]).astype(np.int32)
    return BlockIndex(first_line, skipped, counts, np.full_like(counts, max_length))


def _tokens_before(sizes):
    before = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes - 1, out=before[1:])
    return before


def _document_ends(sizes):
    ends = np.flatnonzero(sizes <= 1).tolist()
    return [*ends, len(sizes)]


def _targets(max_length: int, rng: np.random.Generator) -> Iterator[int]:
    while True:
        targets = np.full(DRAWS_AT_A_TIME, max_length)
        short = rng.random(DRAWS_AT_A_TIME) < SHORT_BLOCK_PROBABILITY
        targets[short] = rng.integers(
            min(SHORTEST_TARGET, max_length), max_length, short.sum(), endpoint=True
        )
        yield from targets.tolist()
