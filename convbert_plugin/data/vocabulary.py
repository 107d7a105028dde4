"""The dictionary: fairseq's, or a WordPiece vocabulary that keeps its own ids."""

import io
import os
from functools import cached_property
from pathlib import Path
from typing import Any, Callable, Mapping, TextIO, Union

from fairseq.data import Dictionary
from fairseq.tokenizer import tokenize_line
from torch import Tensor

from convbert_plugin.errors import UserError, listed
from convbert_plugin.files.text_files import PathLike, read_file
from convbert_plugin.files.whole_output import whole_file
from convbert_plugin.tokenization.symbols import (
    FAIRSEQ_SPECIALS,
    check_same_symbols,
    fingerprint,
    read_symbols,
    without_text,
)
from convbert_plugin.tokenization.tokenizer import load_tokenizer
from convbert_plugin.tokenization.tokenizer_files import (
    DICTIONARY_FILE,
    FILES_OF,
    SETTINGS_FILE,
    TOKENIZER_FILES,
    VOCAB_FILE,
    main_file,
    write_missing,
)
from convbert_plugin.tokenization.tokenizer_interface import difference


class Vocabulary(Dictionary):
    """A fairseq ``Dictionary`` that knows its mask and carries its tokenizer's files along.

    ``bos`` and ``eos`` are [CLS] and [SEP] of a WordPiece vocabulary, <s> and </s> of another.
    """

    def __init__(self, *, mask: str = FAIRSEQ_SPECIALS["mask"], **arguments: Any):
        super().__init__(**arguments)
        self.mask_word = mask
        self.tokenizer_files: dict[str, str] = {}

    @classmethod
    def load(cls, f: PathLike, add_special_symbols: bool = True) -> "Vocabulary":
        """Load a ``dict.txt`` (rows "piece count") or a bare ``vocab.txt`` (rows "piece").

        Rows of WordPiece are ids, specials included, as are those that hold <s> <pad> </s> <unk>;
        rows of any other dictionary follow these, and <mask> comes last where no row has it.
        Errors: as
        ``read_symbols``; tokenizer files beside a ``dict.txt`` that do not fit it.
        """
        path = Path(f).absolute()
        symbols, counts, specials, implied, _ = read_symbols(f)
        vocabulary = cls() if implied else cls._of_rows(specials)
        for symbol, count in list(zip(symbols, counts, strict=True))[len(vocabulary) :]:
            vocabulary.add_symbol(symbol, count)
        for role, special in () if implied else specials.items():
            setattr(vocabulary, f"{role}_index", vocabulary.indices[special])
        vocabulary.tokenizer_files = _tokenizer_files(path)
        return vocabulary

    @classmethod
    def _of_rows(cls, specials: Mapping[str, str]) -> "Vocabulary":
        vocabulary = cls(**specials, add_special_symbols=False)
        # save() writes the symbols from here on: all of them, since their rows are their ids.
        vocabulary.nspecial = 0
        return vocabulary

    def save(self, f: Union[PathLike, TextIO]) -> None:
        """Write rows "piece count" that load to the same ids, to a path or an open file.

        Beside a path, the tokenizer's files are written too. Raises UserError, before anything
        is written, if another tokenizer's file stands there.
        """
        if not isinstance(f, (str, os.PathLike)):
            return super().save(f)
        folder = Path(f).absolute().parent
        self.check_folder(folder)
        rows = io.StringIO()
        super().save(rows)
        content = rows.getvalue().encode()
        # A run saves it with each checkpoint.
        if not (os.path.isfile(f) and read_file(f) == content):
            with whole_file(f) as file:
                file.write(content)
        write_missing(folder, self._tokenizer_contents)

    def check_folder(self, folder: Path) -> None:
        """Raise UserError if another tokenizer's files stand in ``folder``."""
        for name in TOKENIZER_FILES:
            held, own = folder / name, self._tokenizer_contents.get(name)
            if held.exists() and read_file(held) != own:
                raise UserError(
                    f"{held}: belongs to another tokenizer than this dictionary: choose another "
                    "folder, or remove the old data with its tokenizer"
                )

    def encode_line(
        self,
        line: str,
        line_tokenizer: Callable[[str], list[str]] = tokenize_line,
        **options: Any,
    ) -> Tensor:
        """The ids of a line of pieces, in which no text ever is a special symbol.

        One that stands there all the same, because the text is no tokenizer's, is unknown.
        """
        special = {self[index] for index in self.special_ids()}

        def pieces(line: str) -> list[str]:
            return [
                without_text(piece) if piece in special else piece for piece in line_tokenizer(line)
            ]

        return super().encode_line(line, pieces, **options)

    def mask(self) -> int:
        """The index of the mask symbol."""
        return self.indices[self.mask_word]

    def special_ids(self) -> set[int]:
        """The ids that text never gets and a model never predicts: not the unknown piece's."""
        return {self.pad(), self.bos(), self.eos(), self.mask()}

    def fingerprint(self) -> str:
        """A hex digest of the symbols in order: equal exactly when all ids are equal."""
        return fingerprint(self.symbols)

    @cached_property
    def _tokenizer_contents(self) -> dict[str, bytes]:
        """Kept, for a run writes them with each checkpoint, and its data may have gone by then."""
        return {name: read_file(path) for name, path in self.tokenizer_files.items()}

    @cached_property
    def outcomes(self) -> Mapping[str, str]:
        """What its tokenizer makes of some texts; nothing where it has none."""
        main = next(filter(self.tokenizer_files.get, FILES_OF), None)
        return {} if main is None else load_tokenizer(self.tokenizer_files[main]).outcomes()

    def description(self) -> dict:
        """What checkpoints keep of it, as ``Tokenizer.description``."""
        return {"vocabulary": self.fingerprint(), "tokenizer": self.outcomes}


def open_vocabulary(folder: Path, maker: str) -> Vocabulary:
    """The dictionary of a folder of data, which ``maker`` makes."""
    path = folder / DICTIONARY_FILE
    if not path.is_file():
        raise UserError(f"{path} is missing: name a folder made by {maker}")
    return Vocabulary.load(path)


def check_same_vocabulary(vocabulary: Vocabulary, kept: Mapping, problem: str) -> None:
    """Raise UserError if ``kept`` is the description of another vocabulary or tokenizer.

    What was not kept, as beside weights from elsewhere, is not asked for. ``problem``: the line,
    which says "another vocabulary"; of another tokenizer it says what that does otherwise.
    """
    if kept.get("vocabulary") not in (None, vocabulary.fingerprint()):
        raise UserError(problem)
    outcomes = kept.get("tokenizer")
    if isinstance(outcomes, dict) and (words := difference(outcomes, vocabulary.outcomes)):
        raise UserError(problem.replace("another vocabulary", f"another treatment of {words}", 1))


def _tokenizer_files(path: Path) -> dict[str, str]:
    """The files that travel with the dictionary at ``path``, by the names that they shall have."""
    settings = path.with_name(SETTINGS_FILE)
    if path.name == VOCAB_FILE and (added := load_tokenizer(path).added):
        raise UserError(
            f"{path}: files beside it add tokens to it ({listed(added)}): give the "
            f"{DICTIONARY_FILE} that `convbert encode` writes"
        )
    if not path.name.startswith(Path(DICTIONARY_FILE).stem):
        beside = {SETTINGS_FILE: str(settings)} if path.name == VOCAB_FILE else {}
        return {VOCAB_FILE: str(path), **(beside if settings.exists() else {})}
    main = main_file(path.parent)
    if main is None:
        return {}
    if main.name == VOCAB_FILE:
        check_same_symbols(path, read_symbols(path).symbols, main, read_symbols(main).symbols)
    files = [path.with_name(name) for name in FILES_OF[main.name]]
    return {file.name: str(file) for file in files if file.exists()}
