"""Tokenizers in the files of transformers, in and out.

One difference stays, and is meant: transformers takes every special symbol that stands literally
in a text, such as "[SEP]" or "</s>", for the symbol itself. Ours takes it for plain text; only
the mask is a symbol to ``encode`` of the hub.
"""

import itertools
import json
import re
import reprlib
from pathlib import Path
from typing import Any, Iterable, Optional

from convbert_plugin.data.symbols import FAIRSEQ_SPECIALS, WORDPIECE_SPECIALS
from convbert_plugin.data.text_files import PathLike, check_is_file, decode_utf8
from convbert_plugin.data.tokenizer import (
    CONTINUATION,
    DICTIONARY_FILE,
    SENTENCEPIECE_FILE,
    SETTINGS_FILE,
    VOCAB_FILE,
    SentencePieceTokenizer,
    Tokenizer,
    WordPieceSettings,
    WordPieceTokenizer,
    load_tokenizer,
)
from convbert_plugin.errors import UserError

PIPELINE_FILE = "tokenizer.json"
# Beside vocab.txt, before transformers wrote everything into tokenizer.json.
ADDED_TOKENS_FILE = "added_tokens.json"
ADVICE = "give the right vocabulary with --tokenizer"

# The classes that take the pipeline of tokenizer.json as it stands: the first in transformers 4
# and 5, the second in 5. Any other, such as BertTokenizer, builds its own from
# tokenizer_config.json, in which words end at 100 characters.
GENERIC_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
# What transformers' BertTokenizer assumes where tokenizer_config.json is silent.
BERT_DEFAULTS = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}

# What our WordPiece does, where in tokenizer.json it stands.
OUR_WORDPIECE = {
    ("model", "unk_token"): WORDPIECE_SPECIALS["unk"],
    ("model", "continuing_subword_prefix"): CONTINUATION,
    ("normalizer", "type"): "BertNormalizer",
    ("normalizer", "clean_text"): True,
    ("pre_tokenizer", "type"): "BertPreTokenizer",
}
# Above it, words are so rare that our own limit may stand in for any other.
USUAL_LONGEST_WORD = 100
FRAME = (WORDPIECE_SPECIALS["bos"], WORDPIECE_SPECIALS["eos"])
NO_PIECE = re.compile(r"\s|[\ud800-\udfff]|^\Z")

ROLES = {"pad": "pad", "unk": "unk", "cls": "bos", "sep": "eos", "mask": "mask"}
# Sentencepiece's mark of a space.
SPACE = "▁"
# What ODD_WHITESPACE matches, and the space itself.
WHITESPACE = r"[\s\x1c-\x1f]"


def read_tokenizer(folder: PathLike) -> Tokenizer:
    """The tokenizer of a folder as transformers writes it, or ``transformers_files``.

    A ``tokenizer.json`` gives a WordPiece tokenizer, its added tokens included; a ``vocab.txt``
    or a sentencepiece model beside it has to number the same pieces. Not kept is its limit on the
    characters of a word: ours is 200, as released. Errors: no tokenizer, a broken file, files that
    contradict each other, what our WordPiece does not do.
    """
    folder = Path(folder)
    pipeline, settings = folder / PIPELINE_FILE, folder / SETTINGS_FILE
    names = (VOCAB_FILE, PIPELINE_FILE, SENTENCEPIECE_FILE)
    if folder.is_dir() and not any((folder / name).exists() for name in names):
        raise UserError(f"{folder}: none of {', '.join(names)} is in it: {ADVICE}")
    config = _read_object(settings) if settings.exists() else {}
    if not pipeline.exists():
        return _with_added_tokens(load_tokenizer(folder), folder / ADDED_TOKENS_FILE)
    content = _read_object(pipeline)
    if (folder / SENTENCEPIECE_FILE).exists():
        return _checked_sentencepiece(folder, _symbols(content, pipeline))
    tokenizer = _wordpiece(content, pipeline)
    _check_settings(tokenizer.settings, config, settings, pipeline)
    if (folder / VOCAB_FILE).exists():
        _check_vocab(folder, tokenizer.symbols, _added_tokens(content, pipeline))
    return tokenizer


def _read_object(path: Path) -> dict:
    check_is_file(path)
    text = decode_utf8(path.read_bytes(), path)
    try:
        content = json.loads(text)
    except RecursionError:
        raise UserError(f"{path}: nested too deeply: copy the file again") from None
    except ValueError as error:
        raise UserError(f"{path}: broken JSON ({error}): copy the file again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a JSON object: copy the file again")
    return content


def _with_added_tokens(tokenizer: Tokenizer, path: Path) -> Tokenizer:
    if not isinstance(tokenizer, WordPieceTokenizer) or not path.exists():
        return tokenizer
    rows = zip(tokenizer.symbols, itertools.count())
    symbols = _in_order([*rows, *_read_object(path).items()], path)
    return WordPieceTokenizer(symbols, tokenizer.settings)


def _wordpiece(content: dict, path: Path) -> WordPieceTokenizer:
    _check_pipeline(content, path)
    symbols = _symbols(content, path)
    odd = next((symbol for symbol in symbols if NO_PIECE.search(symbol)), None)
    if odd is not None:
        raise UserError(
            f"{path}: its piece {reprlib.repr(odd)} is empty, holds whitespace or is no Unicode, "
            f"which a dictionary cannot hold: {ADVICE}"
        )
    missing = [special for special in WORDPIECE_SPECIALS.values() if special not in symbols]
    if missing:
        raise UserError(f"{path}: no piece {', '.join(missing)}: {ADVICE}")
    return WordPieceTokenizer(symbols, _settings(content["normalizer"], path))


def _check_pipeline(content: dict, path: Path) -> None:
    """Raise UserError where the pipeline is not what our WordPiece does."""
    kind = _model_type(content)
    if kind != "WordPiece":
        raise UserError(
            f"{path}: its model is {reprlib.repr(kind)}, where WordPiece is expected: {ADVICE} "
            f"(a sentencepiece tokenizer needs its {SENTENCEPIECE_FILE} and {DICTIONARY_FILE} here)"
        )
    for (part, key), expected in OUR_WORDPIECE.items():
        value = content[part].get(key) if isinstance(content.get(part), dict) else None
        if type(value) is not type(expected) or value != expected:
            raise _unlike_ours(path, f"{key} of its {part}", value, reprlib.repr(expected))
    longest = content["model"].get("max_input_chars_per_word")
    if type(longest) is not int or longest < USUAL_LONGEST_WORD:
        raise _unlike_ours(
            path, "max_input_chars_per_word", longest, f"at least {USUAL_LONGEST_WORD}"
        )
    if not _is_framed(content.get("post_processor")):
        raise _unlike_ours(path, "post_processor", "different", " and ".join(FRAME))


def _unlike_ours(path: Path, what: str, value: Any, expected: str) -> UserError:
    return UserError(
        f"{path}: {what} is {reprlib.repr(value)}, which this plugin's WordPiece cannot do "
        f"({expected} is expected): {ADVICE}"
    )


def _model_type(content: dict) -> Any:
    model = content.get("model")
    if not isinstance(model, dict):
        return model
    # Early versions of tokenizers left the type out.
    implied = "WordPiece" if model.get("continuing_subword_prefix") == CONTINUATION else None
    return model.get("type", implied)


def _is_framed(post_processor: Any) -> bool:
    """Whether texts are framed by [CLS] and [SEP], or by whatever the class adds."""
    if post_processor is None:
        return True
    if not isinstance(post_processor, dict):
        return False
    if post_processor.get("type") == "BertProcessing":
        ends = post_processor.get("cls"), post_processor.get("sep")
        return all(
            isinstance(end, list) and end[:1] == [special]
            for end, special in zip(ends, FRAME, strict=True)
        )
    specials = post_processor.get("special_tokens")
    return (
        post_processor.get("type") == "TemplateProcessing"
        and isinstance(specials, dict)
        and set(specials) == set(FRAME)
    )


def _settings(normalizer: dict, path: Path) -> WordPieceSettings:
    keys = ("lowercase", "strip_accents", "handle_chinese_chars")
    return _checked_settings(*map(normalizer.get, keys), keys, path)


def _checked_settings(
    lower: Any, accents: Any, chinese: Any, keys: Iterable[str], path: Path
) -> WordPieceSettings:
    if not all(isinstance(value, bool) for value in (lower, chinese, accents is None or accents)):
        raise UserError(
            f"{path}: {', '.join(keys)} have to be true or false (strip_accents also null): "
            f"copy the file again, or {ADVICE}"
        )
    return WordPieceSettings(not lower, accents, chinese)


def _check_settings(
    settings: WordPieceSettings, config: dict, config_path: Path, path: Path
) -> None:
    """Raise UserError where tokenizer_config.json makes transformers normalize otherwise."""
    stored = (not settings.cased, settings.strip_accents, settings.split_chinese)
    assumed = dict(zip(BERT_DEFAULTS, stored, strict=True))
    if config and config.get("tokenizer_class") not in GENERIC_CLASSES:
        assumed = BERT_DEFAULTS
    declared = _checked_settings(
        *(config.get(key, value) for key, value in assumed.items()), BERT_DEFAULTS, config_path
    )
    if declared.effect != settings.effect:
        raise UserError(
            f"{config_path} and {path} disagree on case, accents or Chinese characters: correct "
            f"one of them, or {ADVICE}"
        )


def _added_tokens(content: dict, path: Path) -> list[tuple]:
    """The pairs of added token and id."""
    tokens = content.get("added_tokens") or []
    if not isinstance(tokens, list) or not all(isinstance(token, dict) for token in tokens):
        raise UserError(f"{path}: its added_tokens are no list of objects: copy the file again")
    return [(token.get("content"), token.get("id")) for token in tokens]


def _symbols(content: dict, path: Path) -> list[str]:
    """The pieces in the order of their ids, the added tokens included; of any kind of model."""
    model = content.get("model")
    rows = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(rows, list) and all(isinstance(row, list) and row for row in rows):
        pairs = [(row[0], index) for index, row in enumerate(rows)]
    elif isinstance(rows, dict):
        pairs = list(rows.items())
    else:
        raise UserError(f"{path}: its model has no vocab: copy the file again, or {ADVICE}")
    return _in_order([*pairs, *_added_tokens(content, path)], path)


def _in_order(pairs: list[tuple], path: Path) -> list[str]:
    """The symbols of pairs of symbol and id, in the order of the ids; a pair may come twice."""
    ids: dict[str, int] = {}
    symbols: dict[int, str] = {}
    for symbol, index in pairs:
        if type(symbol) is not str or type(index) is not int:
            raise UserError(
                f"{path}: {reprlib.repr(symbol)} with id {reprlib.repr(index)} in its vocabulary, "
                f"where a text and a whole number are expected: copy the file again, or {ADVICE}"
            )
        held, held_id = symbols.setdefault(index, symbol), ids.setdefault(symbol, index)
        if held != symbol or held_id != index:
            raise UserError(
                f"{path}: {reprlib.repr(symbol)} with id {reprlib.repr(index)} contradicts "
                f"{reprlib.repr(held)} with id {reprlib.repr(held_id)}: {ADVICE}"
            )
    hole = next((index for index in range(len(symbols)) if index not in symbols), None)
    if hole is not None or not symbols:
        raise UserError(
            f"{path}: of its {len(symbols):,} pieces none has id {hole or 0}, where the ids have "
            f"to be 0, 1, 2 and so on: {ADVICE}"
        )
    return [symbols[index] for index in range(len(symbols))]


def _check_vocab(folder: Path, symbols: list[str], added: list[tuple]) -> None:
    rows = load_tokenizer(folder).symbols
    # transformers writes what was added later into tokenizer.json alone.
    later = set(symbols[len(rows) :]) <= {symbol for symbol, _ in added}
    _check_same(folder, VOCAB_FILE, rows, symbols[: len(rows)] if later else symbols)


def _checked_sentencepiece(folder: Path, symbols: list[str]) -> Tokenizer:
    tokenizer = load_tokenizer(folder)
    without_text = _without_text("")
    symbols = [symbol.removesuffix(without_text) for symbol in symbols]
    _check_same(folder, SENTENCEPIECE_FILE, tokenizer.symbols, symbols)
    return tokenizer


def _check_same(folder: Path, name: str, ours: list[str], theirs: list[str]) -> None:
    if ours == theirs:
        return
    pairs = enumerate(zip(ours, theirs, strict=False))
    difference = next(
        (
            f"id {index} is {reprlib.repr(a)} and {reprlib.repr(b)}"
            for index, (a, b) in pairs
            if a != b
        ),
        f"{len(ours):,} and {len(theirs):,} pieces",
    )
    raise UserError(
        f"{folder / name} and {folder / PIPELINE_FILE} disagree ({difference}): remove the one "
        "that does not belong to the weights"
    )


def transformers_files(tokenizer: Tokenizer, max_length: Optional[int] = None) -> dict[str, bytes]:
    """All files, by name, with which ``AutoTokenizer`` gives the same ids as ``tokenizer``.

    ``read_tokenizer`` and ``load_tokenizer`` read them back. ``max_length``: where transformers
    truncates, in tokens. Of a sentencepiece model, ids may differ where the tokenizers library
    does: it loses a combining mark after a character that the model replaces (½ with a tilde),
    composes decomposed text (NFD) only up to five bytes a character, and sums scores in another
    precision, so that of two segmentations of equal score (00|0 and 0|00) it may take the other.
    Errors: a sentencepiece model or dictionary that transformers cannot express.
    """
    if isinstance(tokenizer, WordPieceTokenizer):
        pipeline, specials = _wordpiece_pipeline(tokenizer), WORDPIECE_SPECIALS
        files = tokenizer.files()
        settings = json.loads(files[SETTINGS_FILE])
    else:
        pipeline, specials = _sentencepiece_pipeline(tokenizer), FAIRSEQ_SPECIALS
        files = {**tokenizer.files(), DICTIONARY_FILE: tokenizer.dictionary()}
        settings = {}
    _add_specials(pipeline, specials)
    settings |= {f"{role}_token": specials[ours] for role, ours in ROLES.items()}
    settings["tokenizer_class"] = GENERIC_CLASSES[0]
    settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    # The decoder of the pipeline does what is right for its pieces.
    settings["clean_up_tokenization_spaces"] = False
    if max_length is not None:
        settings["model_max_length"] = max_length
    return {**files, SETTINGS_FILE: _json(settings), PIPELINE_FILE: _json(_content(pipeline))}


def _json(content: dict) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _content(pipeline) -> dict:
    content = json.loads(pipeline.to_str())
    merges = content["model"].get("merges")
    if merges:
        # The form that the tokenizers library of transformers 4.40 reads as well as today's.
        content["model"]["merges"] = [" ".join(pair) for pair in merges]
    return content


def _add_specials(pipeline, specials: dict[str, str]) -> None:
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


def _wordpiece_pipeline(tokenizer: WordPieceTokenizer):
    from tokenizers import decoders

    pipeline = tokenizer.build_pipeline()
    pipeline.decoder = decoders.WordPiece(prefix=CONTINUATION, cleanup=True)
    return pipeline


def _sentencepiece_pipeline(tokenizer: SentencePieceTokenizer):
    from sentencepiece.sentencepiece_model_pb2 import ModelProto
    from tokenizers import Tokenizer as Pipeline
    from tokenizers import pre_tokenizers

    model = ModelProto.FromString(tokenizer.model)
    scores = {piece.piece: piece.score for piece in model.pieces if piece.type == piece.NORMAL}
    _check_expressible(model, set(tokenizer.symbols))
    make = _unigram if model.trainer_spec.model_type == model.trainer_spec.UNIGRAM else _bpe
    pipeline = Pipeline(make(model, scores, tokenizer.symbols))
    pipeline.normalizer = _normalizer(model.normalizer_spec)
    if SPACE in scores and not any(SPACE in piece[1:] for piece in scores):
        # No piece reaches over a space, so that words can be told apart.
        pipeline.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="never")
    pipeline.decoder = _decoder(model)
    return pipeline


def _check_expressible(model, symbols: set[str]) -> None:
    """Raise UserError for what the tokenizers library would do otherwise than sentencepiece."""
    spec = model.trainer_spec
    odd = [
        piece.piece
        for piece in model.pieces
        if piece.type in (piece.USER_DEFINED, piece.UNUSED)
        and piece.piece not in FAIRSEQ_SPECIALS.values()
    ]
    lacking = [
        piece.piece
        for piece in model.pieces
        if piece.type in (piece.NORMAL, piece.BYTE) and piece.piece not in symbols
    ]
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


def _without_text(symbol: str) -> str:
    """The name of a row that no text may get: no space is left where pieces are looked for."""
    return f"{symbol} "


def _names(model, symbols: list[str]) -> list[str]:
    """The symbols, those without a meaning for sentencepiece under a name that no text matches."""
    kinds = {piece.piece: piece.type for piece in model.pieces}
    from_text = {
        piece
        for piece, kind in kinds.items()
        if kind in (model.SentencePiece.NORMAL, model.SentencePiece.BYTE)
    }
    kept = from_text.union(FAIRSEQ_SPECIALS.values())
    return [symbol if symbol in kept else _without_text(symbol) for symbol in symbols]


def _unigram(model, scores: dict[str, float], symbols: list[str]):
    from tokenizers.models import Unigram

    # An unknown character costs a bit more than the least score, which has to stay as it is.
    lowest = min(scores.values(), default=0.0)
    names = _names(model, symbols)
    return Unigram(
        [(name, scores.get(name, lowest)) for name in names],
        unk_id=symbols.index(FAIRSEQ_SPECIALS["unk"]),
        byte_fallback=model.trainer_spec.byte_fallback,
    )


def _bpe(model, scores: dict[str, float], symbols: list[str]):
    from tokenizers.models import BPE

    # Sentencepiece merges any two neighbours that make a piece, the best piece first.
    merges = [
        (piece[:middle], piece[middle:])
        for piece in sorted(scores, key=scores.__getitem__, reverse=True)
        for middle in range(1, len(piece))
        if piece[:middle] in scores and piece[middle:] in scores
    ]
    return BPE(
        {name: index for index, name in enumerate(_names(model, symbols))},
        merges,
        unk_token=FAIRSEQ_SPECIALS["unk"],
        fuse_unk=True,
        byte_fallback=model.trainer_spec.byte_fallback,
    )


def _normalizer(spec):
    from tokenizers import Regex
    from tokenizers.normalizers import Precompiled, Prepend, Replace, Sequence, Strip

    steps = [Replace(Regex(WHITESPACE), " ")]
    if spec.precompiled_charsmap:
        steps.append(Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [Replace(Regex(" {2,}"), " "), Strip()]
    steps.append(Replace(" ", SPACE))
    if spec.add_dummy_prefix:
        # Metaspace would leave it out before a text that starts with the mark itself.
        steps.append(Prepend(SPACE))
    return Sequence(steps)


def _decoder(model):
    from tokenizers import decoders

    # Metaspace would lose the spaces inside the first piece.
    steps = [decoders.Replace(SPACE, " "), decoders.Fuse()]
    if model.trainer_spec.byte_fallback:
        steps.insert(0, decoders.ByteFallback())
    if model.normalizer_spec.add_dummy_prefix:
        steps.append(decoders.Strip(" ", left=1, right=0))
    return decoders.Sequence(steps)
