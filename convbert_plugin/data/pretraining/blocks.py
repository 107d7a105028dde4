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
LINES_AT_A_TIME = 1 << 16


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
    targets = _targets(max_length, np.random.default_rng(seed))
    target = next(targets)
    first_lines, tokens, drawn = array("q"), array("i"), array("i")
    begin = 0
    while begin < len(sizes):
        piece, is_last = _piece(sizes, begin, max_length)
        before = _tokens_before(piece).data
        line = 0
        for document_end in _document_ends(piece).tolist():
            while line < document_end:
                end = bisect_left(before, before[line] + target, line + 1, document_end)
                if end == len(piece) and not is_last:
                    break
                first_lines.append(begin + line)
                tokens.append(before[end] - before[line])
                drawn.append(target)
                target = next(targets)
                line = end
            else:
                line = document_end + 1
        begin += min(line, len(piece))
    return BlockIndex(
        np.frombuffer(first_lines, dtype=np.int64),
        np.zeros(len(first_lines), dtype=np.int32),
        np.frombuffer(tokens, dtype=np.int32),
        np.frombuffer(drawn, dtype=np.int32),
    )


def full_blocks(sizes: np.ndarray, max_length: int) -> BlockIndex:
    """Cut each document into blocks of ``max_length - 2`` tokens, the last one shorter."""
    empty = np.zeros(0, dtype=np.int32)
    pieces = [BlockIndex(empty.astype(np.int64), empty, empty, empty)]
    begin = skipped = 0
    while begin < len(sizes):
        piece, is_last = _piece(sizes, begin, max_length)
        lines, skips, tokens = _full_blocks_of(piece, skipped, max_length - 2)
        next_begin, next_skipped = begin + len(piece), 0
        if piece[-1] > 1 and not is_last:
            next_begin, next_skipped = begin + int(lines[-1]), int(skips[-1])
            lines, skips, tokens = lines[:-1], skips[:-1], tokens[:-1]
        pieces.append(BlockIndex(begin + lines, skips, tokens, np.full_like(tokens, max_length)))
        begin, skipped = next_begin, next_skipped
    return BlockIndex(*map(np.concatenate, zip(*pieces, strict=True)))


def _full_blocks_of(
    sizes: np.ndarray, skipped: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First line, skipped tokens and tokens of each block, from token ``skipped`` on."""
    before = _tokens_before(sizes)
    ends = before[_document_ends(sizes)]
    starts = np.concatenate([[skipped], ends[:-1]])
    blocks = -(-(ends - starts) // width)
    of_document = np.arange(blocks.sum()) - np.repeat(np.cumsum(blocks) - blocks, blocks)
    starts = np.repeat(starts, blocks) + of_document * width
    tokens = np.minimum(np.repeat(ends, blocks) - starts, width).astype(np.int32)
    lines = np.searchsorted(before, starts, side="right") - 1
    return lines, (starts - before[lines]).astype(np.int32), tokens


def _piece(sizes: np.ndarray, begin: int, max_length: int) -> tuple[np.ndarray, bool]:
    """Lines from ``begin`` on, and whether they are the last.

    A corpus is read in pieces, to keep memory low. A block that reaches the end of a piece may go
    on beyond it: the next piece begins where that block begins. So a piece holds more lines than
    any block.
    """
    end = begin + max(LINES_AT_A_TIME, 2 * max_length)
    return sizes[begin:end], end >= len(sizes)


def _tokens_before(sizes: np.ndarray) -> np.ndarray:
    before = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(np.maximum(sizes - 1, 0), out=before[1:])
    return before


def _document_ends(sizes: np.ndarray) -> np.ndarray:
    return np.append(np.flatnonzero(sizes <= 1), len(sizes))


def _targets(max_length: int, rng: np.random.Generator) -> Iterator[int]:
    while True:
        targets = np.full(DRAWS_AT_A_TIME, max_length)
        short = rng.random(DRAWS_AT_A_TIME) < SHORT_BLOCK_PROBABILITY
        targets[short] = rng.integers(
            min(SHORTEST_TARGET, max_length), max_length, short.sum(), endpoint=True
        )
        yield from targets.tolist()
