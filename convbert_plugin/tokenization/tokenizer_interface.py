"""What every tokenizer does: text to pieces and back, and the files of its folder."""

import abc
from pathlib import Path
from typing import Mapping

from convbert_plugin.errors import UserError
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.files.whole_output import whole_file
from convbert_plugin.tokenization.symbols import dictionary_rows, fingerprint, read_symbols
from convbert_plugin.tokenization.tokenizer_files import (
    DICTIONARY_FILE,
    TOKENIZER_FILES,
    main_file,
)


class Tokenizer(abc.ABC):
    """Text to pieces and back.

    ``symbols``: all symbols of the dictionary in the order of their ids, specials included.
    ``specials``: their names by role (pad, unk, bos, eos, mask). No piece holds whitespace, and no
    piece is a special symbol other than ``unknown``, whatever the text. ``longest_word``: the
    characters of the longest word that WordPiece cuts; 0 of any other model.
    """

    symbols: list[str]
    specials: Mapping[str, str]
    longest_word = 0

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
        return text

    def pieces(self, text: str) -> list[str]:
        """The pieces of one text."""
        return self.pieces_batch([text])[0]

    @abc.abstractmethod
    def pieces_batch(self, texts: list[str]) -> list[list[str]]:
        """The pieces of each text."""

    @abc.abstractmethod
    def detokenize(self, pieces: list[str]) -> str:
        """Readable text of pieces."""

    @abc.abstractmethod
    def files(self) -> dict[str, bytes]:
        """The tokenizer's own files, by name."""

    @abc.abstractmethod
    def identity(self) -> tuple:
        """What two tokenizers must share to be the same."""

    @abc.abstractmethod
    def is_at(self, file: Path) -> bool:
        """Whether that main file of a folder, with what stands beside it, is this tokenizer."""

    def fingerprint(self) -> str:
        """The digest that ``Vocabulary.fingerprint`` gives for this tokenizer's dict.txt."""
        return fingerprint(self.symbols)

    def check_folder(self, folder: PathLike) -> None:
        """Raise UserError if the folder holds another tokenizer or another dictionary."""
        folder = Path(folder)
        held = [name for name in (*TOKENIZER_FILES, DICTIONARY_FILE) if (folder / name).exists()]
        if held and not self._is_in(folder, held):
            raise UserError(
                f"{folder / held[0]}: belongs to another tokenizer: choose another folder, or use "
                "the tokenizer of this one"
            )

    def _is_in(self, folder: Path, held: list[str]) -> bool:
        try:
            if held == [DICTIONARY_FILE]:
                return read_symbols(folder / DICTIONARY_FILE).symbols == self.symbols
            return self.is_at(main_file(folder))
        except UserError:
            return False

    def save(self, folder: PathLike) -> None:
        """Write the tokenizer's files and ``dict.txt``; files that stand there already stay.

        Raises UserError, before anything is written, if the folder holds another tokenizer.
        """
        self.check_folder(folder)
        for name, content in {**self.files(), DICTIONARY_FILE: self.dictionary()}.items():
            if not (Path(folder) / name).exists():
                with whole_file(Path(folder) / name) as file:
                    file.write(content)

    def dictionary(self) -> bytes:
        """The content of ``dict.txt``."""
        return "".join(f"{row} 1\n" for row in dictionary_rows(self.symbols)).encode()
