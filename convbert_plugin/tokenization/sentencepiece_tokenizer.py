"""A sentencepiece model, whose pieces a fairseq dictionary numbers."""

import itertools
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

from convbert_plugin.errors import UserError
from convbert_plugin.files.text_files import ODD_WHITESPACE, PathLike, read_file
from convbert_plugin.tokenization.character_offsets import SPACE_MARK, exact_offsets
from convbert_plugin.tokenization.symbols import (
    FAIRSEQ_FIRST,
    FAIRSEQ_SPECIALS,
    names_of,
    read_symbols,
)
from convbert_plugin.tokenization.tokenizer_files import (
    DICTIONARY_FILE,
    SENTENCEPIECE_FILE,
)
from convbert_plugin.tokenization.tokenizer_interface import OffsetPieces, Tokenizer


class SentencePieceTokenizer(Tokenizer):
    """A sentencepiece model; ``symbols`` None takes the model's own pieces in their order."""

    specials = FAIRSEQ_SPECIALS

    def __init__(self, model: bytes, path: PathLike, symbols: Optional[list[str]] = None):
        from sentencepiece import SentencePieceProcessor

        self.model = model
        self._processor = SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError:
            raise UserError(
                f"{path}: not a sentencepiece model, or a broken one: copy it again"
            ) from None
        own = [self._processor.IdToPiece(index) for index in range(len(self._processor))]
        self._pieces = dict(zip(names_of(own), own, strict=True))
        self.symbols = self.own_symbols() if symbols is None else symbols
        # Sentencepiece spells an unknown stretch of text out, "[MASK]" or "<mask>" included:
        # only what its ids name may become a piece, and no special symbol.
        usable = set(self.symbols) - set(FAIRSEQ_SPECIALS.values())
        self._piece_of_id = [name if name in usable else self.unknown for name in self._pieces]

    def own_symbols(self) -> list[str]:
        """The model's pieces in their order, and the special symbols."""
        processor = self._processor
        from_text = [
            name
            for index, name in enumerate(self._pieces)
            if not (processor.IsControl(index) or processor.IsUnknown(index)) or name == self.mask
        ]
        plain = [piece for piece in from_text if piece not in FAIRSEQ_FIRST]
        return [*FAIRSEQ_FIRST, *plain, *([] if self.mask in plain else [self.mask])]

    def pieces_batch(self, texts: list[str]) -> list[list[str]]:
        encoded = self._encoded(texts, int)
        return [[self._piece_of_id[index] for index in ids] for ids in encoded]

    def pieces_with_offsets(self, texts: list[str]) -> list[OffsetPieces]:
        from sentencepiece.sentencepiece_pb2 import SentencePieceText  # type: ignore[attr-defined]

        # The one form with offsets that all versions give; they are of bytes.
        encoded = self._encoded(texts, "serialized_proto")
        return [
            self._with_offsets(text, SentencePieceText.FromString(serialized).pieces)
            for text, serialized in zip(texts, encoded, strict=True)
        ]

    def _with_offsets(self, text: str, found: Sequence[Any]) -> OffsetPieces:
        place = _character_places(text)
        return OffsetPieces(
            [self._piece_of_id[piece.id] for piece in found],
            list(
                exact_offsets(
                    text,
                    [piece.piece for piece in found],
                    [(place[piece.begin], place[piece.end] + _is_part(piece)) for piece in found],
                )
            ),
        )

    def _encoded(self, texts: list[str], kind: Any) -> Any:
        texts = [ODD_WHITESPACE.sub(" ", text) for text in texts]
        return self._processor.encode(texts, out_type=kind, num_threads=1)

    def detokenize(self, pieces: list[str]) -> str:
        texts: list[str] = []
        # The processor would drop the mask without a trace.
        for is_mask, run in itertools.groupby(pieces, key=self.mask.__eq__):
            own = [self._pieces.get(piece, piece) for piece in run]
            texts += own if is_mask else [self._processor.decode(own)]
        return " ".join(filter(None, texts))

    def files(self) -> dict[str, bytes]:
        return {SENTENCEPIECE_FILE: self.model}

    def identity(self) -> tuple:
        return "sentencepiece", self.model, self.symbols


def _is_part(piece: Any) -> bool:
    """Whether it is of the next character: of several pieces the last one alone is said to be."""
    return bool(piece.piece.strip(SPACE_MARK)) and not piece.surface.strip()


def _character_places(text: str) -> Mapping[int, int]:
    """The number of the character that begins at each byte, of a text as it goes in."""
    sizes = (len(character.encode()) for character in ODD_WHITESPACE.sub(" ", text))
    return {byte: place for place, byte in enumerate(itertools.accumulate(sizes, initial=0))}


def load_sentencepiece(file: Path) -> SentencePieceTokenizer:
    """The tokenizer of a model; a ``dict.txt`` beside one of the usual name numbers its pieces."""
    dictionary = file.with_name(DICTIONARY_FILE)
    if file.name != SENTENCEPIECE_FILE or not dictionary.exists():
        return SentencePieceTokenizer(read_file(file), file)
    numbered = read_symbols(dictionary).symbols
    tokenizer = SentencePieceTokenizer(read_file(file), file, numbered)
    # A dictionary counted from a corpus may lack rare pieces and hold some of its own.
    if len(set(tokenizer.own_symbols()) & set(numbered)) * 2 < len(numbered):
        raise UserError(
            f"{dictionary} and {file} disagree (most rows are no pieces of the model): remove the "
            "one that does not belong to the data"
        )
    return tokenizer
