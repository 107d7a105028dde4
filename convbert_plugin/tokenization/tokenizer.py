"""Text to pieces, by WordPiece or sentencepiece, behind one interface.

A tokenizer lives in a folder: its own files beside the ``dict.txt`` that numbers its pieces.
Neither torch nor fairseq is imported here, so that the command line starts at once.
"""

import abc
import hashlib
import itertools
import json
import re
from pathlib import Path
from typing import Any, Iterable, NamedTuple, Optional

from convbert_plugin.errors import UserError
from convbert_plugin.files.json_files import read_json_object
from convbert_plugin.files.text_files import (
    ODD_WHITESPACE,
    PathLike,
    check_is_file,
    read_file,
)
from convbert_plugin.files.whole_output import whole_file
from convbert_plugin.tokenization.symbols import (
    FAIRSEQ_FIRST,
    FAIRSEQ_SPECIALS,
    WORDPIECE_SPECIALS,
    check_same_symbols,
    fingerprint,
    read_symbols,
)

VOCAB_FILE = "vocab.txt"
SETTINGS_FILE = "tokenizer_config.json"
SENTENCEPIECE_FILE = "sentencepiece.bpe.model"
DICTIONARY_FILE = "dict.txt"
WORDPIECE_FILES = (VOCAB_FILE, SETTINGS_FILE)
SENTENCEPIECE_FILES = (SENTENCEPIECE_FILE,)
TOKENIZER_FILES = WORDPIECE_FILES + SENTENCEPIECE_FILES

# What transformers' BertTokenizer reads of its settings, and assumes where they are silent.
SETTINGS_KEYS = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
SETTINGS_DEFAULTS = (True, None, True)

# Begins the pieces that go on with a word.
CONTINUATION = "##"
# ELECTRA's and ConvBERT's limit; transformers and tokenizers stop at 100.
LONGEST_WORD = 200
# Of the words whose pieces are remembered: about 100 MB of memory.
CACHED_CHARACTERS = 1 << 22


class WordPieceSettings(NamedTuple):
    """How WordPiece normalizes; ``strip_accents`` None follows the case, as in BERT."""

    cased: bool = False
    strip_accents: Optional[bool] = None
    split_chinese: bool = True

    @property
    def strips_accents(self) -> bool:
        return not self.cased if self.strip_accents is None else self.strip_accents

    @property
    def effect(self) -> tuple[bool, bool, bool]:
        return self.cased, self.strips_accents, self.split_chinese


UNCASED = WordPieceSettings()


class Tokenizer(abc.ABC):
    """Text to pieces and back.

    ``symbols``: all symbols of the dictionary in the order of their ids, specials included.
    ``unknown`` and ``mask``: the symbols for a piece outside them and for a masked one. No piece
    holds whitespace, and no piece is a special symbol other than ``unknown``, whatever the text.
    """

    symbols: list[str]
    unknown: str
    mask: str
    # How many of the first symbols fairseq adds by itself, so that dict.txt leaves them out.
    implied_symbols = 0

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

    def flags(self) -> dict:
        """The arguments of ``load_tokenizer`` that matter where no settings are stored."""
        return {}

    @abc.abstractmethod
    def identity(self) -> tuple:
        """What two tokenizers must share to be the same."""

    def fingerprint(self) -> str:
        """The digest that ``Vocabulary.fingerprint`` gives for this tokenizer's dict.txt."""
        return fingerprint(self.symbols)

    def check_folder(self, folder: PathLike) -> None:
        """Raise UserError if the folder holds another tokenizer or another dictionary."""
        folder = Path(folder)
        held = [name for name in (*TOKENIZER_FILES, DICTIONARY_FILE) if (folder / name).exists()]
        if not held:
            return
        if not self._is_in(folder, held):
            raise UserError(
                f"{folder / held[0]}: belongs to another tokenizer: choose another folder, or use "
                "the tokenizer of this one"
            )

    def _is_in(self, folder: Path, held: list[str]) -> bool:
        try:
            if held == [DICTIONARY_FILE]:
                return read_symbols(folder / DICTIONARY_FILE).symbols == self.symbols
            return load_tokenizer(folder, **self.flags()).identity() == self.identity()
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
        rows = self.symbols[self.implied_symbols :]
        return "".join(f"{symbol} 1\n" for symbol in rows).encode()


class WordPieceTokenizer(Tokenizer):
    """BERT's tokenizer over the rows of a ``vocab.txt``."""

    unknown = WORDPIECE_SPECIALS["unk"]
    mask = WORDPIECE_SPECIALS["mask"]

    def __init__(self, symbols: list[str], settings: WordPieceSettings = UNCASED):
        self.symbols = symbols
        self.settings = settings
        self._pieces_of_word: dict[str, list[str]] = {}
        self._cached_characters = 0
        self._pipeline = self.build_pipeline()

    def build_pipeline(self):
        """A new ``tokenizers.Tokenizer`` from text to ids, without special tokens.

        None is registered, so that a literal "[MASK]" in a text is three plain words.
        """
        from tokenizers import Tokenizer as Pipeline
        from tokenizers import models, normalizers, pre_tokenizers

        pipeline = Pipeline(
            models.WordPiece(
                vocab={symbol: index for index, symbol in enumerate(self.symbols)},
                unk_token=self.unknown,
                max_input_chars_per_word=LONGEST_WORD,
                continuing_subword_prefix=CONTINUATION,
            )
        )
        pipeline.normalizer = normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=self.settings.split_chinese,
            strip_accents=self.settings.strips_accents,
            lowercase=not self.settings.cased,
        )
        pipeline.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return pipeline

    def normalized(self, text: str) -> str:
        """The text as it is before it is cut into words and pieces: case, accents, spaces."""
        return self._pipeline.normalizer.normalize_str(text)

    def pieces_batch(self, texts: list[str]) -> list[list[str]]:
        # No word reaches over a space, and text repeats its words: each is encoded once. (Other
        # whitespace is left to the pipeline, which removes some of it as control characters.)
        words_of_text = [text.split(" ") for text in texts]
        self._encode_new({word for words in words_of_text for word in words})
        return [
            list(itertools.chain.from_iterable(map(self._pieces_of_word.__getitem__, words)))
            for words in words_of_text
        ]

    def _encode_new(self, words: set[str]) -> None:
        if self._cached_characters > CACHED_CHARACTERS:
            self._pieces_of_word.clear()
            self._cached_characters = 0
        new = list(words - self._pieces_of_word.keys())
        self._cached_characters += sum(map(len, new))
        # The fast way fills in ids alone, no tokens.
        encodings = self._pipeline.encode_batch_fast(new, add_special_tokens=False)
        for word, encoding in zip(new, encodings, strict=True):
            self._pieces_of_word[word] = [self.symbols[index] for index in encoding.ids]

    def detokenize(self, pieces: list[str]) -> str:
        text = " ".join(pieces).replace(f" {CONTINUATION}", "")
        text = re.sub(r" ([.,!?;:%)\]}])", r"\1", text)
        return re.sub(r"([(\[{]) ", r"\1", text).replace(" ' ", "'")

    def files(self) -> dict[str, bytes]:
        settings = {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": not self.settings.cased,
            "strip_accents": self.settings.strip_accents,
            "tokenize_chinese_chars": self.settings.split_chinese,
            **{f"{role}_token": WORDPIECE_SPECIALS[role] for role in ("pad", "unk", "mask")},
            "cls_token": WORDPIECE_SPECIALS["bos"],
            "sep_token": WORDPIECE_SPECIALS["eos"],
        }
        return {
            VOCAB_FILE: "".join(f"{symbol}\n" for symbol in self.symbols).encode(),
            SETTINGS_FILE: (json.dumps(settings, indent=2) + "\n").encode(),
        }

    def flags(self) -> dict:
        return {"cased": self.settings.cased, "strip_accents": self.settings.strip_accents}

    def identity(self) -> tuple:
        return "wordpiece", self.settings.effect, self.symbols


class SentencePieceTokenizer(Tokenizer):
    """A sentencepiece model; ``symbols`` None takes the model's own pieces in their order."""

    unknown = FAIRSEQ_SPECIALS["unk"]
    mask = FAIRSEQ_SPECIALS["mask"]
    implied_symbols = len(FAIRSEQ_FIRST)

    def __init__(self, model: bytes, path: PathLike, symbols: Optional[list[str]] = None):
        from sentencepiece import SentencePieceProcessor

        self.model = model
        self._processor = SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError:
            raise UserError(f"{path}: not a sentencepiece model, or a broken one") from None
        own = self._own_symbols()
        odd = next((piece for piece in own if piece.split() != [piece]), None)
        if odd is not None:
            raise UserError(
                f"{path}: its piece {odd!r} holds whitespace, where fairseq would split it: "
                "train a vocabulary with `convbert train-vocab`"
            )
        self.symbols = own if symbols is None else symbols
        self._piece_of_id = self._pieces_by_id(set(self.symbols))

    def _own_symbols(self) -> list[str]:
        processor = self._processor
        from_text = [
            processor.IdToPiece(index)
            for index in range(len(processor))
            if not (processor.IsControl(index) or processor.IsUnknown(index))
            or processor.IdToPiece(index) == self.mask
        ]
        plain = [piece for piece in from_text if piece not in FAIRSEQ_FIRST]
        return [*FAIRSEQ_FIRST, *plain, *([] if self.mask in plain else [self.mask])]

    def _pieces_by_id(self, known: set[str]) -> list[str]:
        # Sentencepiece spells an unknown stretch of text out, "[MASK]" or "<mask>" included:
        # only what its ids name may become a piece, and no special symbol.
        usable = known - set(FAIRSEQ_SPECIALS.values())
        pieces = map(self._processor.IdToPiece, range(len(self._processor)))
        return [piece if piece in usable else self.unknown for piece in pieces]

    def pieces_batch(self, texts: list[str]) -> list[list[str]]:
        texts = [ODD_WHITESPACE.sub(" ", text) for text in texts]
        encoded = self._processor.encode(texts, out_type=int, num_threads=1)
        return [[self._piece_of_id[index] for index in ids] for ids in encoded]

    def detokenize(self, pieces: list[str]) -> str:
        # The processor would drop the mask without a trace.
        runs, run = [], []
        for piece in pieces:
            if piece == self.mask:
                runs, run = [*runs, self._processor.decode(run), piece], []
            else:
                run.append(piece)
        return " ".join(filter(None, [*runs, self._processor.decode(run)]))

    def files(self) -> dict[str, bytes]:
        return {SENTENCEPIECE_FILE: self.model}

    def identity(self) -> tuple:
        return "sentencepiece", hashlib.sha256(self.model).hexdigest(), self.symbols


def load_tokenizer(
    path: PathLike, *, cased: bool = False, strip_accents: Optional[bool] = None
) -> Tokenizer:
    """Load a ``vocab.txt``, a sentencepiece ``.model``, or the folder that holds either.

    ``cased`` and ``strip_accents`` say how a bare vocab.txt is used; settings stored beside it
    win, and a flag that contradicts them is an error. A ``dict.txt`` beside the file numbers the
    pieces and has to fit.
    """
    file = _tokenizer_file(Path(path))
    if file.suffix == ".model":
        if cased or strip_accents is not None:
            raise UserError(
                f"{file}: a sentencepiece model has its own rules for case and accents: drop "
                "--cased, --strip-accents and --keep-accents"
            )
        return _load_sentencepiece(file)
    return _load_wordpiece(file, WordPieceSettings(cased, strip_accents))


def _tokenizer_file(path: Path) -> Path:
    if not path.is_dir():
        check_is_file(path)
        return path
    held = [path / name for name in (VOCAB_FILE, SENTENCEPIECE_FILE) if (path / name).exists()]
    if not held:
        raise UserError(
            f"{path}: holds no tokenizer: expected {VOCAB_FILE} or {SENTENCEPIECE_FILE} in it"
        )
    if len(held) > 1:
        raise UserError(f"{held[0]} and {held[1]} stand in one folder: remove one of them")
    return held[0]


def _load_wordpiece(file: Path, flags: WordPieceSettings) -> WordPieceTokenizer:
    symbols, _, is_wordpiece = read_symbols(file)
    if not is_wordpiece or file.name == DICTIONARY_FILE:
        raise UserError(f"{file}: a dictionary, not a tokenizer: give the folder or vocab.txt")
    dictionary, stored = file.with_name(DICTIONARY_FILE), file.with_name(SETTINGS_FILE)
    if file.name != VOCAB_FILE:
        return WordPieceTokenizer(symbols, flags)
    if dictionary.exists():
        check_same_symbols(dictionary, file)
    return WordPieceTokenizer(
        symbols, _stored_settings(stored, flags) if stored.exists() else flags
    )


def _stored_settings(path: Path, flags: WordPieceSettings) -> WordPieceSettings:
    stored = read_json_object(path)
    values = map(stored.get, SETTINGS_KEYS, SETTINGS_DEFAULTS)
    settings = checked_settings(*values, SETTINGS_KEYS, path)
    check_flags(settings, flags, path)
    return settings


def checked_settings(
    lower: Any, accents: Any, chinese: Any, keys: Iterable[str], path: Path
) -> WordPieceSettings:
    """The settings that a file gives under these keys. Raises UserError for other types."""
    if not all(isinstance(value, bool) for value in (lower, chinese, accents is None or accents)):
        raise UserError(
            f"{path}: {', '.join(keys)} have to be true or false (strip_accents also null): "
            "correct them, or copy the file again"
        )
    return WordPieceSettings(not lower, accents, chinese)


def check_flags(settings: WordPieceSettings, flags: WordPieceSettings, path: Path) -> None:
    """Raise UserError where a flag contradicts the settings that ``path`` stores."""
    if flags.cased and not settings.cased:
        raise UserError(f"{path}: it lower-cases, which contradicts --cased: drop the flag")
    if flags.strip_accents not in (None, settings.strips_accents):
        kept, flag = (
            ("keeps", "--strip-accents") if flags.strip_accents else ("strips", "--keep-accents")
        )
        raise UserError(f"{path}: it {kept} accents, which contradicts {flag}: drop the flag")


def _load_sentencepiece(file: Path) -> SentencePieceTokenizer:
    dictionary = file.with_name(DICTIONARY_FILE)
    if file.name != SENTENCEPIECE_FILE or not dictionary.exists():
        return SentencePieceTokenizer(read_file(file), file)
    numbered = read_symbols(dictionary).symbols
    tokenizer = SentencePieceTokenizer(read_file(file), file, numbered)
    # A dictionary counted from a corpus may lack rare pieces and hold some of its own.
    if len(set(tokenizer._own_symbols()) & set(numbered)) * 2 < len(numbered):
        raise UserError(
            f"{dictionary} and {file} disagree (most rows are no pieces of the model): remove the "
            "one that does not belong to the data"
        )
    return tokenizer
