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


def write_lines(path: Path, lines: Iterable[Sequence[int]], vocabulary_size: int) -> None:
    """Write lines of token ids to ``path`` .bin and .idx."""
    path.parent.mkdir(exist_ok=True)
    is_short = vocabulary_size < LARGEST_OF_UINT16
    sizes = []
    with open(f"{path}.bin", "wb") as data:
        for line in lines:
            data.write(np.array(line, np.uint16 if is_short else np.uint32).tobytes())
            sizes.append(len(line))
    starts = np.cumsum([0, *sizes])[:-1] * (2 if is_short else 4)
    with open(f"{path}.idx", "wb") as index:
        kind = UINT16 if is_short else UINT32
        index.write(MAGIC + struct.pack("<QBQ", VERSION, kind, len(sizes)))
        index.write(np.array(sizes, np.int32).tobytes() + starts.astype(np.int64).tobytes())


def dictionary_symbols(words: Iterable[str]) -> dict[str, int]:
    """The ids of the symbols of a dictionary of words, after fairseq's own."""
    symbols = dict.fromkeys((*FAIRSEQ_FIRST, *words))
    return {symbol: number for number, symbol in enumerate(symbols)}


def write_dictionary(path: Path, words: Sequence[str], counts: Sequence[int]) -> None:
    """Write a dictionary of words in their order; fairseq would sort them by their counts."""
    rows = itertools.zip_longest(words, counts, fillvalue=1)
    text = "".join(f"{word} {count}\n" for word, count in rows if word not in FAIRSEQ_FIRST)
    path.write_text(text, encoding="utf-8")
