"""Our tokenizers in the files of transformers.

A special symbol that stands literally in a text, such as "[SEP]" or "</s>", is plain text for
ours, and for transformers where the files say ``split_special_tokens``. By its own choice it takes
it for the symbol itself. It knows nothing between the two, and fills masks by the second alone.
"""

import json
from functools import partial
from typing import TYPE_CHECKING, Any, Collection, Mapping, Optional

from convbert_plugin.errors import UserError
from convbert_plugin.tokenization.pipeline import SPLIT_SPECIALS, PipelineTokenizer
from convbert_plugin.tokenization.sentencepiece_tokenizer import SentencePieceTokenizer
from convbert_plugin.tokenization.symbols import (
    FAIRSEQ_SPECIALS,
    token_names,
    without_text,
)
from convbert_plugin.tokenization.tokenizer_files import (
    DICTIONARY_FILE,
    PIPELINE_FILE,
    SENTENCEPIECE_FILE,
    SETTINGS_FILE,
)
from convbert_plugin.tokenization.tokenizer_interface import Tokenizer
from convbert_plugin.tokenization.wordpiece import CONTINUATION, WordPieceTokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Pipeline
    from tokenizers.decoders import Decoder
    from tokenizers.models import Model
    from tokenizers.normalizers import Normalizer
    from tokenizers.pre_tokenizers import PreTokenizer

# This class takes the pipeline of tokenizer.json as it stands. Any other, such as BertTokenizer,
# builds its own from tokenizer_config.json, in which words end at 100 characters.
GENERIC_CLASS = "PreTrainedTokenizerFast"
SPECIAL_NAMES = frozenset(FAIRSEQ_SPECIALS.values())
# Sentencepiece's mark of a space.
SPACE = "▁"
# What ODD_WHITESPACE matches, and the space itself.
WHITESPACE = r"[\s\x1c-\x1f]"


def transformers_files(
    tokenizer: Tokenizer, max_length: Optional[int] = None, fills_masks: bool = True
) -> dict[str, bytes]:
    """All files, by name, with which ``AutoTokenizer`` gives the same ids as ``tokenizer``.

    A ``tokenizer.json`` that came in goes out as it is. ``load_tokenizer`` reads them back.
    ``max_length``: where transformers truncates, in tokens. ``fills_masks``: a literal mask has to
    be one there, and so has every special symbol; what came in does so unless it says else.

    Of a sentencepiece model, ids may differ where the tokenizers library does: it loses a combining
    mark after a character that the model replaces (½ with a tilde), composes decomposed text (NFD)
    only up to five bytes a character, and sums scores in another precision, so that of two
    segmentations of equal score (00|0 and 0|00) it may take the other.
    Errors: a sentencepiece model or dictionary that transformers cannot express.
    """
    files = tokenizer.files()
    # The decoder of the pipeline does what is right for its pieces.
    settings = {
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **token_names(tokenizer.specials),
        **json.loads(files.get(SETTINGS_FILE, b"{}")),
    }
    # It would make transformers run foreign code.
    settings.pop("auto_map", None)
    if fills_masks and not tokenizer.further_specials:
        settings.pop(SPLIT_SPECIALS, None)
    elif not isinstance(tokenizer, PipelineTokenizer):
        settings[SPLIT_SPECIALS] = True
    if not isinstance(tokenizer, PipelineTokenizer):
        files[PIPELINE_FILE] = json_bytes(pipeline_content(tokenizer))
        settings["tokenizer_class"] = GENERIC_CLASS
    elif json.loads(tokenizer.content.decode("utf-8-sig")).get("post_processor"):
        # Where it has none, the class that transformers chooses by itself knows the frame.
        settings.setdefault("tokenizer_class", GENERIC_CLASS)
    if isinstance(tokenizer, SentencePieceTokenizer):
        files[DICTIONARY_FILE] = tokenizer.dictionary()
    if max_length is not None:
        settings["model_max_length"] = max_length
    return {**files, SETTINGS_FILE: json_bytes(settings)}


def takes_text_alone(files: Mapping[str, bytes]) -> bool:
    """Whether transformers takes special symbols that stand in a text for text, by these files."""
    return json.loads(files[SETTINGS_FILE]).get(SPLIT_SPECIALS) is True


def pipeline_content(tokenizer: Tokenizer) -> dict:
    """Our tokenizer as a ``tokenizer.json``, with its special tokens and their frame."""
    from tokenizers import decoders

    if isinstance(tokenizer, WordPieceTokenizer):
        pipeline = tokenizer.build_pipeline()
        pipeline.decoder = decoders.WordPiece(prefix=CONTINUATION, cleanup=True)
    else:
        assert isinstance(tokenizer, SentencePieceTokenizer)
        pipeline = _sentencepiece_pipeline(tokenizer)
    _add_specials(pipeline, tokenizer.specials)
    content = json.loads(pipeline.to_str())
    if merges := content["model"].get("merges"):
        # The form that the tokenizers library of transformers 4.40 reads as well as today's.
        content["model"]["merges"] = [" ".join(pair) for pair in merges]
    return content


def json_bytes(content: dict) -> bytes:
    """A file of an object, as transformers writes it."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _add_specials(pipeline: "Pipeline", specials: Mapping[str, str]) -> None:
    from tokenizers import AddedToken
    from tokenizers.processors import TemplateProcessing

    first, last = specials["bos"], specials["eos"]
    pipeline.add_special_tokens(
        [AddedToken(token, normalized=False) for token in specials.values()]
    )
    pipeline.post_processor = TemplateProcessing(
        single=f"{first}:0 $A:0 {last}:0",
        pair=f"{first}:0 $A:0 {last}:0 $B:1 {last}:1",
        special_tokens=[(token, pipeline.token_to_id(token)) for token in (first, last)],
    )


def _sentencepiece_pipeline(tokenizer: SentencePieceTokenizer) -> "Pipeline":
    # protobuf makes its classes at their import.
    from sentencepiece.sentencepiece_model_pb2 import ModelProto  # type: ignore[attr-defined]
    from tokenizers import Regex, pre_tokenizers
    from tokenizers import Tokenizer as Pipeline

    model = ModelProto.FromString(tokenizer.model)
    scores = {piece.piece: piece.score for piece in model.pieces if piece.type == piece.NORMAL}
    _check_expressible(model, set(tokenizer.symbols))
    is_unigram = model.trainer_spec.model_type == model.trainer_spec.UNIGRAM
    make = _unigram if is_unigram else _bpe
    # The symbols, those without a meaning for sentencepiece under a name that no text matches.
    kept = SPECIAL_NAMES.union(_pieces(model, "NORMAL", "BYTE"))
    names = [symbol if symbol in kept else without_text(symbol) for symbol in tokenizer.symbols]
    pipeline = Pipeline(make(model, scores, names))
    pipeline.normalizer = _normalizer(model.normalizer_spec)
    splits: list[PreTokenizer] = []
    if is_unigram:
        # It would find the names of special symbols, which are rows, as pieces of a text.
        splits.append(pre_tokenizers.Split(Regex(_inside_specials(scores)), "isolated"))
    if SPACE in scores and not any(SPACE in piece[1:] for piece in scores):
        # No piece reaches over a space, so that words can be told apart.
        splits.append(pre_tokenizers.Metaspace(SPACE, prepend_scheme="never"))
    pipeline.pre_tokenizer = pre_tokenizers.Sequence(splits)
    pipeline.decoder = _decoder(model)
    return pipeline


def _inside_specials(pieces: Collection[str]) -> str:
    """A pattern of a place inside each special symbol, where a split changes no segmentation."""

    def is_apart(name: str, place: int) -> tuple[bool, bool]:
        # Neighbours that are both unknown make one piece.
        is_known = name[place - 1] in pieces or name[place] in pieces
        return is_known, not any(name[place - 1 : place + 1] in piece for piece in pieces)

    places = {
        name: max(range(1, len(name)), key=partial(is_apart, name))
        for name in sorted(SPECIAL_NAMES)
    }
    return "|".join(f"(?<={name[:place]})(?={name[place:]})" for name, place in places.items())


def _check_expressible(model: Any, symbols: set[str]) -> None:
    """Raise UserError for what the tokenizers library would do otherwise than sentencepiece."""
    spec = model.trainer_spec
    odd = [p for p in _pieces(model, "USER_DEFINED", "UNUSED") if p not in SPECIAL_NAMES]
    lacking = [piece for piece in _pieces(model, "NORMAL", "BYTE") if piece not in symbols]
    problem = None
    if spec.model_type not in (spec.UNIGRAM, spec.BPE):
        problem = f"its model type is {spec.ModelType.Name(spec.model_type)}"
    elif spec.treat_whitespace_as_suffix or not model.normalizer_spec.escape_whitespaces:
        problem = "it marks spaces otherwise than at the start of a word"
    elif odd:
        problem = f"{len(odd):,} of its pieces are user-defined or unused, {odd[0]!r} for example"
    elif lacking:
        problem = (
            f"{DICTIONARY_FILE} lacks {len(lacking):,} of its pieces, {lacking[0]!r} for example"
        )
    if problem:
        raise UserError(
            f"{SENTENCEPIECE_FILE}: {problem}, which transformers cannot express: train with model "
            f"and {DICTIONARY_FILE} of `convbert train-vocab` to convert to transformers"
        )


def _pieces(model: Any, *kinds: str) -> list[str]:
    """The pieces of a sentencepiece model that are of these kinds."""
    types = [model.SentencePiece.Type.Value(kind) for kind in kinds]
    return [piece.piece for piece in model.pieces if piece.type in types]


def _unigram(model: Any, scores: dict[str, float], names: list[str]) -> "Model":
    from tokenizers.models import Unigram

    # An unknown character costs a bit more than the least score, which has to stay as it is.
    lowest = min(scores.values(), default=0.0)
    return Unigram(
        [(name, scores.get(name, lowest)) for name in names],
        unk_id=names.index(FAIRSEQ_SPECIALS["unk"]),
        byte_fallback=model.trainer_spec.byte_fallback,
    )


def _bpe(model: Any, scores: dict[str, float], names: list[str]) -> "Model":
    from tokenizers.models import BPE

    # Sentencepiece merges any two neighbours that make a piece, the best piece first.
    merges = [
        (piece[:middle], piece[middle:])
        for piece in sorted(scores, key=scores.__getitem__, reverse=True)
        for middle in range(1, len(piece))
        if piece[:middle] in scores and piece[middle:] in scores
    ]
    return BPE(
        {name: index for index, name in enumerate(names)},
        merges,
        unk_token=FAIRSEQ_SPECIALS["unk"],
        fuse_unk=True,
        byte_fallback=model.trainer_spec.byte_fallback,
    )


def _normalizer(spec: Any) -> "Normalizer":
    from tokenizers import Regex
    from tokenizers.normalizers import Precompiled, Prepend, Replace, Sequence, Strip

    steps: list[Normalizer] = [Replace(Regex(WHITESPACE), " ")]
    if spec.precompiled_charsmap:
        steps.append(Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [Replace(Regex(" {2,}"), " "), Strip()]
    steps.append(Replace(" ", SPACE))
    if spec.add_dummy_prefix:
        # Metaspace would leave it out before a text that starts with the mark itself.
        steps.append(Prepend(SPACE))
    return Sequence(steps)


def _decoder(model: Any) -> "Decoder":
    from tokenizers import decoders

    # Metaspace would lose the spaces inside the first piece.
    steps: list[Decoder] = [decoders.Replace(SPACE, " "), decoders.Fuse()]
    if model.trainer_spec.byte_fallback:
        steps.insert(0, decoders.ByteFallback())
    if model.normalizer_spec.add_dummy_prefix:
        steps.append(decoders.Strip(" ", left=1, right=0))
    return decoders.Sequence(steps)
