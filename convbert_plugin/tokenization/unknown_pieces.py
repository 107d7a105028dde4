"""How much of a text a tokenizer does not know, and what is to be said of it."""

from typing import NamedTuple, Sequence

from convbert_plugin.errors import shown
from convbert_plugin.tokenization.tokenizer_interface import Tokenizer

MUCH_UNKNOWN = 0.01


class PieceCounts(NamedTuple):
    """How many pieces there are, how many of them are unknown, and a word that holds one."""

    pieces: int = 0
    unknown: int = 0
    example: str = ""

    @property
    def share(self) -> float:
        """How much is unknown, from 0 to 1."""
        return self.unknown / max(1, self.pieces)

    def warning(self, symbol: str) -> str:
        """What to say where much is unknown; else nothing."""
        if self.share <= MUCH_UNKNOWN:
            return ""
        return (
            f"{self.share:.1%} of the tokens are {symbol}: does the vocabulary fit the language, "
            "the case, the accents and the normalization (composed or decomposed letters) of the "
            "text? A vocab.txt can be used with --cased or --keep-accents. The first such word is "
            f"{shown(self.example)}"
        )


def total_of(parts: Sequence[PieceCounts]) -> PieceCounts:
    """The counts of all parts together."""
    pieces, unknown = sum(part.pieces for part in parts), sum(part.unknown for part in parts)
    return PieceCounts(pieces, unknown, next((part.example for part in parts if part.unknown), ""))


def count_pieces(
    tokenizer: Tokenizer, texts: Sequence[str], pieces: Sequence[list[str]]
) -> PieceCounts:
    """The counts of texts and their pieces."""
    unknown = [each.count(tokenizer.unknown) for each in pieces]
    first = next((text for text, count in zip(texts, unknown, strict=True) if count), "")
    words = (word for word in first.split() if tokenizer.unknown in tokenizer.pieces(word))
    return PieceCounts(sum(map(len, pieces)), sum(unknown), next(words, first))
