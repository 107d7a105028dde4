"""Pieces to lines of token ids, as fairseq-preprocess binarizes them."""

from typing import Sequence

from convbert_plugin.tokenization.tokenizer_interface import Tokenizer


class TokenIds:
    """What a tokenizer's dictionary calls pieces: a piece that it lacks is the unknown one."""

    def __init__(self, tokenizer: Tokenizer):
        self._ids = {symbol: number for number, symbol in enumerate(tokenizer.symbols)}
        self._unknown = self._ids[tokenizer.unknown]
        self._end = self._ids[tokenizer.specials["eos"]]

    def line(self, pieces: Sequence[str]) -> list[int]:
        """Their ids, and the separator behind them."""
        return [*(self._ids.get(piece, self._unknown) for piece in pieces), self._end]
