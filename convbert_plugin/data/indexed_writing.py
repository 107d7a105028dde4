"""Write what fairseq-preprocess writes, without the seconds that the imports of fairseq take.

Source: MMapIndexedDataset and Dictionary of fairseq.
"""

import itertools
import struct
from pathlib import Path
from typing import Iterable, Sequence

import numpy as np

from convbert_plugin.tokenization.symbols import FAIRSEQ_FIRST, FAIRSEQ_SPECIALS

END = FAIRSEQ_SPECIALS["eos"]
MAGIC, VERSION = b"MMIDIDX\0\0", 1
# What fairseq calls the kinds of numbers, and how many symbols go into each.
UINT16, UINT32 = 8, 9
LARGEST_OF_UINT16 = 65500


class LineWriter:
    """Lines of token ids that are added to an open file.

    Use as a context: at its end the .idx is written too.
    """

    def __init__(self, path: Path, vocabulary_size: int):
        path.parent.mkdir(exist_ok=True)
        self._path = path
        self._kind = UINT16 if vocabulary_size < LARGEST_OF_UINT16 else UINT32
        self._number = np.dtype(np.uint16 if self._kind == UINT16 else np.uint32)
        self.sizes: list[int] = []

    def __enter__(self) -> "LineWriter":
        self._data = open(f"{self._path}.bin", "wb")
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        self._data.close()
        if kind is None:
            self._write_index()

    def add(self, line: Sequence[int]) -> None:
        self._data.write(np.array(line, self._number).tobytes())
        self.sizes.append(len(line))

    def _write_index(self) -> None:
        starts = np.cumsum([0, *self.sizes])[:-1] * self._number.itemsize
        with open(f"{self._path}.idx", "wb") as index:
            index.write(MAGIC + struct.pack("<QBQ", VERSION, self._kind, len(self.sizes)))
            sizes = np.array(self.sizes, np.int32)
            index.write(sizes.tobytes() + starts.astype(np.int64).tobytes())


def write_lines(path: Path, lines: Iterable[Sequence[int]], vocabulary_size: int) -> None:
    """Write lines of token ids to ``path`` .bin and .idx."""
    with LineWriter(path, vocabulary_size) as writer:
        for line in lines:
            writer.add(line)


def dictionary_symbols(words: Iterable[str]) -> dict[str, int]:
    """The ids of the symbols of a dictionary of words, after fairseq's own."""
    symbols = dict.fromkeys((*FAIRSEQ_FIRST, *words))
    return {symbol: number for number, symbol in enumerate(symbols)}


def write_dictionary(path: Path, words: Sequence[str], counts: Sequence[int]) -> None:
    """Write a dictionary of words in their order; fairseq would sort them by their counts."""
    rows = itertools.zip_longest(words, counts, fillvalue=1)
    text = "".join(f"{word} {count}\n" for word, count in rows if word not in FAIRSEQ_FIRST)
    path.write_text(text, encoding="utf-8")
