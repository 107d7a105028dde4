"""What every tokenizer does: text to pieces and back, and the files of its folder."""

import abc
from pathlib import Path
from typing import TYPE_CHECKING, Mapping, NamedTuple, Optional, Sequence

from convbert_plugin.errors import UserError, shown
from convbert_plugin.files.text_files import PathLike, read_file
from convbert_plugin.tokenization.symbols import dictionary_rows, fingerprint, read_symbols
from convbert_plugin.tokenization.tokenizer_files import (
    DICTIONARY_FILE,
    SETTINGS_FILE,
    TOKENIZER_FILES,
    main_file,
    write_missing,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Pipeline

# Texts of which tokenizers that go together make the same, and what it is that the first ones show.
SHOWN_BY = {"Aa": "case", "é": "accents", "漢字": "Chinese characters"}
TEXTS_TO_COMPARE = (
    *SHOWN_BY,
    "I İ ı ß ﬁ ½ Ａ ① e\u0301",
    "don't x-ray 1,000.5 C++ a_b (the cat) [SEP] <s>",
    "русский ελληνικά עברית العربية हिन्दी ไทย 한국어 ひらがな 🙂",
    "  a  b\tc\u3000d ",
)
ADDED_TOKENS = "added tokens"


class OffsetPieces(NamedTuple):
    """The pieces of a text, and the characters [start, end) of it, as given, that each stands for.

    Offsets are exact as ``exact_offsets`` has it.
    """

    pieces: list[str]
    offsets: list[tuple[int, int]]


class Tokenizer(abc.ABC):
    """Text to pieces and back.

    ``symbols``: all symbols of the dictionary in the order of their ids, specials included.
    ``specials``: their names by role (pad, unk, bos, eos, mask). No piece holds whitespace, and no
    piece is a special symbol other than ``unknown``, whatever the text. ``longest_word``: the
    characters of the longest word that WordPiece cuts; 0 of any other model. ``pipeline``: the
    tokenizers library's own, where it does the work. ``added``: tokens that are looked for in a
    text before it is cut. ``further_specials``: those that are special tokens in transformers.
    """

    symbols: list[str]
    specials: Mapping[str, str]
    longest_word = 0
    added: Sequence[str] = ()
    further_specials: Sequence[str] = ()
    pipeline: Optional["Pipeline"] = None

    @property
    def unknown(self) -> str:
        """The symbol for a piece outside the vocabulary."""
        return self.specials["unk"]

    @property
    def mask(self) -> str:
        """The symbol for a masked piece."""
        return self.specials["mask"]

    def normalized(self, text: str) -> str:
        """The text as it is before it is cut into words and pieces: case, accents, spaces."""
        normalizer = getattr(self.pipeline, "normalizer", None)
        return text if normalizer is None else normalizer.normalize_str(text)

    def pieces(self, text: str) -> list[str]:
        """The pieces of one text."""
        return self.pieces_batch([text])[0]

    @abc.abstractmethod
    def pieces_batch(self, texts: list[str]) -> list[list[str]]:
        """The pieces of each text."""

    @abc.abstractmethod
    def pieces_with_offsets(self, texts: list[str]) -> list[OffsetPieces]:
        """The pieces of each text, those of ``pieces_batch``, and where they stand in it."""

    @abc.abstractmethod
    def detokenize(self, pieces: list[str]) -> str:
        """Readable text of pieces."""

    @abc.abstractmethod
    def files(self) -> dict[str, bytes]:
        """The tokenizer's own files, by name."""

    @abc.abstractmethod
    def identity(self) -> tuple:
        """What two tokenizers must share to be the same."""

    def is_of(self, file: Path) -> bool:
        """Whether a main file of this kind makes the same tokenizer, by what it holds."""
        return read_file(file) == self.files()[file.name]

    def fingerprint(self) -> str:
        """The digest that ``Vocabulary.fingerprint`` gives for this tokenizer's dict.txt."""
        return fingerprint(self.symbols)

    def description(self) -> dict:
        """What data and checkpoints keep of it, in plain values: the digest, and a few outcomes."""
        return {"vocabulary": self.fingerprint(), "tokenizer": self.outcomes()}

    def outcomes(self) -> dict[str, str]:
        """What it makes of some texts, before it cuts them and after."""
        made = {
            text: f"{self.normalized(text)}\n{' '.join(pieces)}"
            for text, pieces in zip(
                TEXTS_TO_COMPARE, self.pieces_batch(list(TEXTS_TO_COMPARE)), strict=True
            )
        }
        return {**made, ADDED_TOKENS: " ".join(self.added)}

    def check_folder(self, folder: PathLike) -> None:
        """Raise UserError if the folder holds another tokenizer or another dictionary."""
        files = [Path(folder) / name for name in (*TOKENIZER_FILES, DICTIONARY_FILE)]
        held = [file for file in files if file.exists()]
        if held and not self._is_in(Path(folder)):
            file = main_file(Path(folder)) or held[0]
            raise UserError(
                f"{file}: belongs to another tokenizer: choose another folder, or use the "
                "tokenizer of this one"
            )

    def _is_in(self, folder: Path) -> bool:
        try:
            file, dictionary = main_file(folder), folder / DICTIONARY_FILE
            if dictionary.exists() and read_symbols(dictionary).symbols != self.symbols:
                return False
            if file is None:
                return not (folder / SETTINGS_FILE).exists()
            return file.name in self.files() and self.is_of(file)
        except UserError:
            return False

    def save(self, folder: PathLike) -> None:
        """Write the tokenizer's files and ``dict.txt``; files that stand there already stay.

        Raises UserError, before anything is written, if the folder holds another tokenizer.
        """
        self.check_folder(folder)
        write_missing(Path(folder), {**self.files(), DICTIONARY_FILE: self.dictionary()})

    def dictionary(self) -> bytes:
        """The content of ``dict.txt``."""
        return "".join(f"{row} 1\n" for row in dictionary_rows(self.symbols)).encode()


def difference(one: Mapping[str, str], other: Mapping[str, str]) -> Optional[str]:
    """What two tokenizers do otherwise, by the first of their ``outcomes`` that is not the same."""
    for text, made in one.items():
        both = (str(outcome).split("\n") for outcome in (made, other.get(text, made)))
        for a, b in zip(*both, strict=False):
            if a != b:
                is_text = text != ADDED_TOKENS
                what = f"{SHOWN_BY.get(text, 'texts')} ({shown(text)}: " if is_text else f"{text} ("
                return f"{what}{shown(a)} and {shown(b)})"
    return None
