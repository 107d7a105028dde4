"""BERT's WordPiece over the rows of a vocab.txt, with a memory of the words it has cut."""

import itertools
import json
import re
from collections import Counter
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Callable,
    Generic,
    Iterable,
    Iterator,
    NamedTuple,
    Optional,
    TypeVar,
)

from convbert_plugin.errors import UserError
from convbert_plugin.files.json_files import read_json_object
from convbert_plugin.tokenization.character_offsets import Span, exact_offsets
from convbert_plugin.tokenization.symbols import (
    WORDPIECE_SPECIALS,
    names_of,
    read_symbols,
    token_names,
)
from convbert_plugin.tokenization.tokenizer_files import (
    DICTIONARY_FILE,
    SETTINGS_FILE,
    VOCAB_FILE,
)
from convbert_plugin.tokenization.tokenizer_interface import OffsetPieces, Tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Pipeline

# What transformers' BertTokenizer reads of its settings, and assumes where they are silent.
SETTINGS_KEYS = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
SETTINGS_DEFAULTS = (True, None, True)

# Begins the pieces that go on with a word.
CONTINUATION = "##"
# ELECTRA's and ConvBERT's limit; transformers and tokenizers stop at 100.
LONGEST_WORD = 200
# No word reaches over it. (Other whitespace is left to the pipeline, which removes some of it as
# control characters.)
WORD_END = " "
# Of the words whose pieces are remembered: about 100 MB of memory.
CACHED_CHARACTERS = 1 << 22

Made = TypeVar("Made")


class WordPieceSettings(NamedTuple):
    """How WordPiece normalizes; ``strip_accents`` None follows the case, as in BERT."""

    cased: bool = False
    strip_accents: Optional[bool] = None
    split_chinese: bool = True

    @property
    def strips_accents(self) -> bool:
        return not self.cased if self.strip_accents is None else self.strip_accents


UNCASED = WordPieceSettings()


class WordCache(Generic[Made]):
    """What was made of words, which texts repeat: each is encoded once, until they are too many."""

    def __init__(self) -> None:
        self._made: dict[str, Made] = {}
        self._characters = 0

    @property
    def get(self) -> Callable[[str], Made]:
        """What gives what was made of a word: that of this very cache, in a copy too."""
        return self._made.__getitem__

    def add(
        self, words_of_texts: list[list[str]], make: Callable[[list[str]], Iterable[Made]]
    ) -> None:
        """See to it that these words are known."""
        if self._characters > CACHED_CHARACTERS:
            self._made.clear()
            self._characters = 0
        new = list(set().union(*words_of_texts) - self._made.keys())
        self._characters += sum(map(len, new))
        self._made.update(zip(new, make(new), strict=True))


class WordPieceTokenizer(Tokenizer):
    """BERT's tokenizer over the rows of a ``vocab.txt``, which goes out as it came in."""

    specials = WORDPIECE_SPECIALS
    longest_word = LONGEST_WORD

    pipeline: "Pipeline"

    def __init__(self, rows: list[str], settings: WordPieceSettings = UNCASED):
        self.rows = rows
        self.symbols = names_of(rows)
        self.settings = settings
        self._pieces_of_word = WordCache[list[str]]()
        self._offsets_of_word = WordCache[OffsetPieces]()
        self.pipeline = self.build_pipeline()

    def build_pipeline(self) -> "Pipeline":
        """A new ``tokenizers.Tokenizer`` from text to ids, without special tokens.

        None is registered, so that a literal "[MASK]" in a text is three plain words.
        """
        from tokenizers import Tokenizer as Pipeline
        from tokenizers import models, normalizers, pre_tokenizers

        counts = Counter(self.rows)
        pieces = zip(self.rows, self.symbols, strict=True)
        names = [row if counts[row] == 1 else symbol for row, symbol in pieces]
        pipeline = Pipeline(
            models.WordPiece(
                vocab={name: index for index, name in enumerate(names)},
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

    def pieces_batch(self, texts: list[str]) -> list[list[str]]:
        words_of_text = [text.split(WORD_END) for text in texts]
        known = self._pieces_of_word
        known.add(words_of_text, self._pieces_of_words)
        return [
            list(itertools.chain.from_iterable(map(known.get, words))) for words in words_of_text
        ]

    def _pieces_of_words(self, words: list[str]) -> Iterator[list[str]]:
        # The fast way fills in ids alone, no tokens.
        for encoding in self.pipeline.encode_batch_fast(words, add_special_tokens=False):
            yield [self.symbols[index] for index in encoding.ids]

    def pieces_with_offsets(self, texts: list[str]) -> list[OffsetPieces]:
        words_of_text = [text.split(WORD_END) for text in texts]
        known = self._offsets_of_word
        known.add(words_of_text, self._offsets_of_words)
        return [_laid_out(words, map(known.get, words)) for words in words_of_text]

    def _offsets_of_words(self, words: list[str]) -> Iterator[OffsetPieces]:
        encodings = self.pipeline.encode_batch(words, add_special_tokens=False)
        for word, encoding in zip(words, encodings, strict=True):
            pieces = [self.symbols[index] for index in encoding.ids]
            offsets = exact_offsets(word, encoding.tokens, encoding.offsets)
            yield OffsetPieces(pieces, list(offsets))

    def detokenize(self, pieces: list[str]) -> str:
        return joined(pieces)

    def files(self) -> dict[str, bytes]:
        settings = {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": not self.settings.cased,
            "strip_accents": self.settings.strip_accents,
            "tokenize_chinese_chars": self.settings.split_chinese,
            **token_names(WORDPIECE_SPECIALS),
        }
        return {
            VOCAB_FILE: "".join(f"{row}\n" for row in self.rows).encode(),
            SETTINGS_FILE: (json.dumps(settings, indent=2) + "\n").encode(),
        }

    def identity(self) -> tuple:
        cased, _, split_chinese = self.settings
        return "wordpiece", cased, self.settings.strips_accents, split_chinese, self.symbols

    def is_of(self, file: Path) -> bool:
        flags = WordPieceSettings(self.settings.cased, self.settings.strip_accents)
        return load_wordpiece(file, flags).identity() == self.identity()


def _laid_out(words: list[str], made: Iterable[OffsetPieces]) -> OffsetPieces:
    """The pieces of a text of those of its words."""
    pieces: list[str] = []
    offsets: list[Span] = []
    begin = 0
    for word, of_word in zip(words, made, strict=True):
        pieces += of_word.pieces
        offsets += [(begin + start, begin + end) for start, end in of_word.offsets]
        begin += len(word) + len(WORD_END)
    return OffsetPieces(pieces, offsets)


def joined(pieces: Iterable[str]) -> str:
    """Readable text of WordPiece's pieces."""
    text = " ".join(pieces).replace(f" {CONTINUATION}", "")
    text = re.sub(r" ([.,!?;:%)\]}])", r"\1", text)
    return re.sub(r"([(\[{]) ", r"\1", text).replace(" ' ", "'")


def load_wordpiece(file: Path, flags: WordPieceSettings) -> WordPieceTokenizer:
    """The tokenizer of a ``vocab.txt``: the settings stored beside it win over the flags."""
    _, _, specials, _, rows = read_symbols(file)
    if specials is not WORDPIECE_SPECIALS or file.name == DICTIONARY_FILE:
        raise UserError(f"{file}: a dictionary, not a tokenizer: give the folder or vocab.txt")
    if file.name != VOCAB_FILE:
        return WordPieceTokenizer(rows, flags)
    stored = file.with_name(SETTINGS_FILE)
    settings = _stored_settings(stored, flags) if stored.exists() else flags
    return WordPieceTokenizer(rows, settings)


def _stored_settings(path: Path, flags: WordPieceSettings) -> WordPieceSettings:
    """The settings in tokenizer_config.json. Errors: other types; a flag that contradicts them."""
    lower, accents, chinese = map(read_json_object(path).get, SETTINGS_KEYS, SETTINGS_DEFAULTS)
    if not all(isinstance(value, bool) for value in (lower, chinese, accents is None or accents)):
        raise UserError(
            f"{path}: {', '.join(SETTINGS_KEYS)} have to be true or false (strip_accents also "
            "null): correct them, or copy the file again"
        )
    settings = WordPieceSettings(not lower, accents, chinese)
    strips, wanted = settings.strips_accents, flags.strip_accents
    contradictions = {
        "lower-cases, which contradicts --cased": flags.cased and not settings.cased,
        "keeps accents, which contradicts --strip-accents": wanted is True and not strips,
        "strips accents, which contradicts --keep-accents": wanted is False and strips,
    }
    for words in filter(contradictions.get, contradictions):
        raise UserError(f"{path}: it {words}: drop the flag")
    return settings
