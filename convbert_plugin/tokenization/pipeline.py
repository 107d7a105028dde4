"""A tokenizer.json, run by the tokenizers library as it stands."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Optional

from convbert_plugin.errors import UserError, shown
from convbert_plugin.files.json_files import read_json_object
from convbert_plugin.files.text_files import decode_utf8, read_file
from convbert_plugin.tokenization.character_offsets import exact_offsets
from convbert_plugin.tokenization.pipeline_limits import (
    TRIAL_SECONDS,
    check_vocabulary,
    read_within_limits,
)
from convbert_plugin.tokenization.symbols import (
    ADVICE,
    check_same_symbols,
    in_order,
    read_symbols,
    specials_of,
    without_text,
)
from convbert_plugin.tokenization.time_bound import within
from convbert_plugin.tokenization.tokenizer_files import (
    PIPELINE_FILE,
    SETTINGS_FILE,
    VOCAB_FILE,
)
from convbert_plugin.tokenization.tokenizer_interface import OffsetPieces, Tokenizer
from convbert_plugin.tokenization.wordpiece import CONTINUATION, joined

if TYPE_CHECKING:
    from tokenizers import Encoding
    from tokenizers import Tokenizer as Pipeline

# A hundredth of what tokenizers usually do, so that a busy machine is no error.
CHARACTERS_A_SECOND = 10_000
SECONDS_AT_LEAST = 10
# A setting with which transformers takes special tokens that stand in a text for text.
SPLIT_SPECIALS = "split_special_tokens"
# The classes of transformers that frame texts by [CLS] and [SEP] where tokenizer.json does not.
FRAMING_CLASSES = re.compile("(Bert|ConvBert|Electra)Tokenizer(Fast)?")
# The second is a cuneiform sign, for which most vocabularies have their unknown piece alone.
TEXTS_TO_FRAME = ("a", "\U00012000")


class PipelineTokenizer(Tokenizer):
    """The pipeline of a ``tokenizer.json``, whose bytes travel with data and checkpoints.

    What is not taken from it: the frame of special tokens, a maximal length and padding, which
    are put around ids elsewhere; and that special tokens in a text are more than text.

    ``content``: the file. ``path``: where it lies, for errors. ``settings``: the bytes of the
    tokenizer_config.json beside it, which may have the special tokens of ``further_specials`` cut
    as text, as ours are. Errors: as ``load_pipeline``, which bounds what a file may ask for.
    """

    pipeline: "Pipeline"

    def __init__(self, content: bytes, path: Path, settings: Optional[bytes] = None):
        self.content = content
        self.path = path
        self.settings = settings
        self.pipeline = _load(content, path)
        ids = self.pipeline.get_vocab(with_added_tokens=True)
        self.symbols = in_order(ids, path)
        self._pieces = dict(zip(self.symbols, sorted(ids, key=ids.__getitem__), strict=True))
        check_vocabulary(self.symbols, path)
        self.specials = specials_of(self.symbols, path)
        added = self.pipeline.get_added_tokens_decoder()
        specials, tokens = set(self.specials.values()), [added[index] for index in sorted(added)]
        self.further_specials = [
            token.content for token in tokens if token.special and token.content not in specials
        ]
        if self._splits_specials():
            specials.update(self.further_specials)
        self.added = [token.content for token in tokens if token.content not in specials]
        self.pipeline = _taking_text_alone(self.pipeline, specials)
        model = self.pipeline.model
        if getattr(model, "continuing_subword_prefix", None) == CONTINUATION:
            self.longest_word = getattr(model, "max_input_chars_per_word", 0)
        self._index = {symbol: index for index, symbol in enumerate(self.symbols)}
        text_never_gets = set(specials) - {self.unknown}
        self._piece_of_id = [self.unknown if s in text_never_gets else s for s in self.symbols]

    def __reduce__(self) -> tuple:
        # The library forgets in a copy that special tokens are plain text.
        return type(self), (self.content, self.path, self.settings)

    def _splits_specials(self) -> bool:
        return self.settings is not None and json.loads(self.settings).get(SPLIT_SPECIALS) is True

    def pieces_batch(self, texts: list[str]) -> list[list[str]]:
        # The fast way fills in ids alone, no tokens.
        encodings = self._encoded(texts, self.pipeline.encode_batch_fast)
        return [self._pieces_of(encoding) for encoding in encodings]

    def pieces_with_offsets(self, texts: list[str]) -> list[OffsetPieces]:
        encodings = self._encoded(texts, self.pipeline.encode_batch)
        return [
            OffsetPieces(
                self._pieces_of(encoding),
                list(exact_offsets(text, encoding.tokens, encoding.offsets)),
            )
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def _pieces_of(self, encoding: "Encoding") -> list[str]:
        return [self._piece_of_id[index] for index in encoding.ids]

    def _encoded(
        self, texts: list[str], encode: Callable[..., list["Encoding"]]
    ) -> list["Encoding"]:
        return within(
            SECONDS_AT_LEAST + sum(map(len, texts)) // CHARACTERS_A_SECOND,
            lambda: encode(texts, add_special_tokens=False),
            f"{self.path}: at the text {shown(max(texts, key=len, default=''))}",
        )

    def detokenize(self, pieces: list[str]) -> str:
        if self.longest_word:
            return joined(map(self._pieces.__getitem__, pieces))
        ids = [self._index[piece] for piece in pieces]
        return within(
            SECONDS_AT_LEAST + len(ids) // CHARACTERS_A_SECOND,
            lambda: self.pipeline.decode(ids, skip_special_tokens=False),
            str(self.path),
        )

    def files(self) -> dict[str, bytes]:
        settings = {} if self.settings is None else {SETTINGS_FILE: self.settings}
        return {PIPELINE_FILE: self.content, **settings}

    def identity(self) -> tuple:
        return "pipeline", self.content


def load_pipeline(path: Path) -> PipelineTokenizer:
    """The tokenizer of a ``tokenizer.json``, which is used as it stands.

    Errors: a broken file, or one that asks for too much; ids with holes; pieces that a dictionary
    cannot hold; special tokens of other names than the two sets, or another frame than ours; a
    vocab.txt beside it that numbers other pieces.
    """
    content, parsed = read_within_limits(path)
    stored = path.with_name(SETTINGS_FILE)
    config = read_json_object(stored) if stored.exists() else {}
    tokenizer = PipelineTokenizer(content, path, read_file(stored) if stored.exists() else None)
    kind = config.get("tokenizer_class") or "BertTokenizer"
    if parsed.get("post_processor") or not FRAMING_CLASSES.fullmatch(str(kind)):
        _check_frame(tokenizer)
    beside = path.with_name(VOCAB_FILE)
    if beside.exists():
        rows = read_symbols(beside).symbols
        # transformers writes what was added later into tokenizer.json alone.
        check_same_symbols(beside, rows, path, tokenizer.symbols[: len(rows)])
    return tokenizer


def _check_frame(tokenizer: PipelineTokenizer) -> None:
    """Raise UserError unless the library frames texts as ours are, by the special tokens."""
    first, last = tokenizer.specials["bos"], tokenizer.specials["eos"]

    def frames() -> bool:
        encode = tokenizer.pipeline.encode
        a, b = (encode(text, add_special_tokens=False).ids for text in TEXTS_TO_FRAME)
        single, pair = encode(TEXTS_TO_FRAME[0]), encode(*TEXTS_TO_FRAME)
        cls, sep = map(tokenizer.symbols.index, (first, last))
        ours, behind = [cls, *a, sep], [*b, sep]
        ids_fit = (single.ids, pair.ids) == (ours, ours + behind)
        return ids_fit and pair.type_ids == [0] * len(ours) + [1] * len(behind)

    if not within(SECONDS_AT_LEAST, frames, str(tokenizer.path)):
        raise UserError(
            f"{tokenizer.path}: its post_processor does not give {first} A {last} and, of pairs, "
            f"{first} A {last} B {last}: {ADVICE}"
        )


def _load(content: bytes, path: Path) -> "Pipeline":
    """The ``tokenizers.Tokenizer`` of a file. Raises UserError where the library takes it not."""
    from tokenizers import Tokenizer as Pipeline

    text = decode_utf8(content, path).removeprefix("\ufeff")
    pipeline = within(TRIAL_SECONDS, lambda: Pipeline.from_str(text), str(path))
    dropout = getattr(pipeline.model, "dropout", None)
    if dropout:
        raise UserError(
            f"{path}: its model leaves out merges at random (dropout {shown(dropout)}): set "
            "dropout to null"
        )
    return pipeline


def _taking_text_alone(pipeline: "Pipeline", specials: set[str]) -> "Pipeline":
    """The pipeline where a text keeps its length, and gets added tokens but no special one."""
    from tokenizers import Tokenizer as Pipeline
    from tokenizers import models

    added = pipeline.get_added_tokens_decoder().values()
    if any(token.special != (token.content in specials) for token in added):
        content = json.loads(pipeline.to_str())
        for token in content["added_tokens"]:
            token["special"] = token["content"] in specials
        pipeline = Pipeline.from_str(json.dumps(content))
    pipeline.no_truncation()
    pipeline.no_padding()
    pipeline.encode_special_tokens = True
    if isinstance(pipeline.model, models.Unigram):
        # Its rows are all pieces of text, those of the special tokens too. As the library holds
        # it: a number read twice may differ in its last digit.
        model = json.loads(pipeline.to_str())["model"]
        rows = [(without_text(row) if row in specials else row, n) for row, n in model["vocab"]]
        pipeline.model = models.Unigram(rows, model["unk_id"], model["byte_fallback"])
    return pipeline
