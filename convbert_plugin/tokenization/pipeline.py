"""A tokenizer.json, run by the tokenizers library as it stands."""

import hashlib
import json
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, Mapping

from convbert_plugin.errors import shown
from convbert_plugin.files.text_files import decode_utf8, read_file
from convbert_plugin.tokenization.symbols import read_symbols, without_text
from convbert_plugin.tokenization.time_bound import failure, within
from convbert_plugin.tokenization.tokenizer_files import (
    DICTIONARY_FILE,
    PIPELINE_FILE,
    SETTINGS_FILE,
)
from convbert_plugin.tokenization.tokenizer_interface import Tokenizer
from convbert_plugin.tokenization.wordpiece import CONTINUATION, joined

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Pipeline
    from tokenizers.models import Model

# Of texts that are encoded at once, where one has no more by itself.
CHARACTERS_AT_ONCE = 1 << 16
# A hundredth of what tokenizers usually do, so that a busy machine is no error.
CHARACTERS_A_SECOND = 10_000
SECONDS_AT_LEAST = 10


class PipelineTokenizer(Tokenizer):
    """The pipeline of a ``tokenizer.json``, whose bytes travel with data and checkpoints.

    What is not taken from it: the frame of special tokens, a maximal length and padding, which
    are put around ids elsewhere; and that special tokens in a text are more than text.

    ``content``: the file. ``path``: where it lies, for errors. ``symbols``: all its pieces in the
    order of their ids. ``settings``: what a tokenizer_config.json beside it has to say.
    """

    def __init__(
        self,
        content: bytes,
        path: Path,
        symbols: list[str],
        specials: Mapping[str, str],
        settings: Mapping[str, object],
    ):
        self.content = content
        self.path = path
        self.symbols = symbols
        self.specials = specials
        self.settings = settings
        self._index = {symbol: index for index, symbol in enumerate(symbols)}
        self._pipeline = _for_plain_text(load(content, path), specials)
        self.longest_word = _longest_word(self._pipeline.model)
        text_never_gets = set(specials.values()) - {self.unknown}
        self._piece_of_id = [self.unknown if s in text_never_gets else s for s in symbols]

    def __reduce__(self) -> tuple:
        # The library forgets in a copy that special tokens are plain text.
        return type(self), (self.content, self.path, self.symbols, self.specials, self.settings)

    def normalized(self, text: str) -> str:
        normalizer = self._pipeline.normalizer
        return text if normalizer is None else normalizer.normalize_str(text)

    def pieces_batch(self, texts: list[str]) -> list[list[str]]:
        return list(chain.from_iterable(map(self._pieces_at_once, _parts(texts))))

    def _pieces_at_once(self, texts: list[str]) -> list[list[str]]:
        encodings = within(
            SECONDS_AT_LEAST + sum(map(len, texts)) // CHARACTERS_A_SECOND,
            # The fast way fills in ids alone, no tokens.
            lambda: self._pipeline.encode_batch_fast(texts, add_special_tokens=False),
            f"{self.path}: at the text {shown(max(texts, key=len, default=''))}",
        )
        pieces = self._piece_of_id
        return [[pieces[index] for index in encoding.ids] for encoding in encodings]

    def detokenize(self, pieces: list[str]) -> str:
        if self.longest_word:
            return joined(pieces)
        ids = [self._index[piece] for piece in pieces]
        return within(
            SECONDS_AT_LEAST + len(ids) // CHARACTERS_A_SECOND,
            lambda: self._pipeline.decode(ids, skip_special_tokens=False),
            str(self.path),
        )

    def files(self) -> dict[str, bytes]:
        settings = json.dumps(self.settings, indent=2, ensure_ascii=False) + "\n"
        return {PIPELINE_FILE: self.content, SETTINGS_FILE: settings.encode()}

    def identity(self) -> tuple:
        return "pipeline", hashlib.sha256(self.content).hexdigest(), self.symbols

    def is_at(self, file: Path) -> bool:
        if file.name != PIPELINE_FILE or read_file(file) != self.content:
            return False
        dictionary = file.with_name(DICTIONARY_FILE)
        return not dictionary.exists() or read_symbols(dictionary).symbols == self.symbols


def load(content: bytes, path: Path) -> "Pipeline":
    """The ``tokenizers.Tokenizer`` of a file. Raises UserError where the library takes it not."""
    from tokenizers import Tokenizer as Pipeline

    text = decode_utf8(content, path).removeprefix("\ufeff")
    try:
        return Pipeline.from_str(text)
    except (KeyboardInterrupt, SystemExit):
        raise
    # A panic in Rust is no Exception.
    except BaseException as error:
        raise failure(str(path), error) from None


def _for_plain_text(pipeline: "Pipeline", specials: Mapping[str, str]) -> "Pipeline":
    """The pipeline, from which a text gets no special token and keeps its length."""
    from tokenizers import models

    pipeline.no_truncation()
    pipeline.no_padding()
    pipeline.encode_special_tokens = True
    if isinstance(pipeline.model, models.Unigram):
        # Its rows are all pieces of text, those of the special tokens too.
        added = pipeline.get_added_tokens_decoder().values()
        names = {*specials.values(), *(token.content for token in added if token.special)}
        # As the library holds it: a number read twice may differ in its last digit.
        model = json.loads(pipeline.to_str())["model"]
        pipeline.model = models.Unigram(
            [(without_text(row) if row in names else row, score) for row, score in model["vocab"]],
            model["unk_id"],
            model["byte_fallback"],
        )
    return pipeline


def _longest_word(model: "Model") -> int:
    from tokenizers import models

    if isinstance(model, models.WordPiece) and model.continuing_subword_prefix == CONTINUATION:
        return model.max_input_chars_per_word
    return 0


def _parts(texts: list[str]) -> Iterator[list[str]]:
    """The texts in their order, in lists of ``CHARACTERS_AT_ONCE`` or one long text."""
    part: list[str] = []
    characters = 0
    for text in texts:
        if part and characters + len(text) > CHARACTERS_AT_ONCE:
            yield part
            part, characters = [], 0
        part.append(text)
        characters += len(text)
    if part:
        yield part
