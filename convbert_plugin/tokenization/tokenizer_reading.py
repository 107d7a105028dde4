"""Tokenizers in the files of transformers, read as ours."""

import itertools
import re
import reprlib
from functools import partial
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional

from convbert_plugin.errors import UserError
from convbert_plugin.files.json_files import read_json_object
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.tokenization.symbols import FAIRSEQ_SPECIALS, WORDPIECE_SPECIALS
from convbert_plugin.tokenization.tokenizer import (
    CONTINUATION,
    DICTIONARY_FILE,
    SENTENCEPIECE_FILE,
    SETTINGS_DEFAULTS,
    SETTINGS_FILE,
    SETTINGS_KEYS,
    VOCAB_FILE,
    Tokenizer,
    WordPieceSettings,
    WordPieceTokenizer,
    check_flags,
    checked_settings,
    load_tokenizer,
)
from convbert_plugin.tokenization.tokenizer_writing import (
    GENERIC_CLASSES,
    PIPELINE_FILE,
    ROLES,
    without_text,
)

# Beside vocab.txt, before transformers wrote everything into tokenizer.json.
ADDED_TOKENS_FILE = "added_tokens.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
# Where transformers finds it in tokenizer_config.json, it leaves out both of these files.
ADDED_TOKENS_KEY = "added_tokens_decoder"
ADVICE = "give another vocabulary with --tokenizer, or with the option that named this one"

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
# The classes that frame texts by [CLS] and [SEP] whatever tokenizer.json says; so does the one that
# transformers takes where none is named.
FRAMING_CLASSES = (
    None,
    *(
        f"{name}Tokenizer{kind}"
        for name in ("Bert", "ConvBert", "Electra")
        for kind in ("", "Fast")
    ),
)
NO_PIECE = re.compile(r"\s|[\ud800-\udfff]|^\Z")
# At the start of a file it says how the file is encoded.
BYTE_ORDER_MARK = "\ufeff"


def read_tokenizer(
    path: PathLike, *, cased: bool = False, strip_accents: Optional[bool] = None
) -> Tokenizer:
    """The tokenizer of a folder as transformers writes it, or of what ``load_tokenizer`` takes.

    A ``tokenizer.json``, which may also be named itself, gives a WordPiece tokenizer, its added
    tokens included; a ``vocab.txt`` or a sentencepiece model beside it has to number the same
    pieces. Not kept is its limit on the characters of a word: ours is 200, as released.
    ``cased`` and ``strip_accents``: as for ``load_tokenizer``. Errors: no tokenizer, a broken
    file, files or flags that contradict each other, other special tokens or another frame than
    ours, what our WordPiece does not do.
    """
    path = Path(path)
    folder = path.parent if path.name == PIPELINE_FILE and path.is_file() else path
    pipeline, settings = folder / PIPELINE_FILE, folder / SETTINGS_FILE
    names = (VOCAB_FILE, PIPELINE_FILE, SENTENCEPIECE_FILE)
    if folder.is_dir() and not any((folder / name).exists() for name in names):
        raise UserError(f"{folder}: none of {', '.join(names)} is in it: {ADVICE}")
    config = read_json_object(settings) if settings.exists() else {}
    load = partial(load_tokenizer, folder, cased=cased, strip_accents=strip_accents)
    if not pipeline.exists():
        tokenizer = _with_added_tokens(load(), folder / ADDED_TOKENS_FILE)
    elif (folder / SENTENCEPIECE_FILE).exists():
        tokenizer = _same_sentencepiece(load(), folder, config)
    else:
        tokenizer = _wordpiece(folder, config, WordPieceSettings(cased, strip_accents))
    _check_special_tokens(tokenizer, folder, config)
    return tokenizer


def check_rows(tokenizer: Tokenizer, rows: int, path: PathLike) -> None:
    """Raise UserError unless the token table of the model at ``path`` has a row a symbol."""
    symbols = len(tokenizer.symbols)
    if symbols == rows:
        return
    advice = "give the vocabulary that it was trained with by --tokenizer"
    if symbols < rows and isinstance(tokenizer, WordPieceTokenizer):
        last = rows - 1
        advice += (
            ", or, if the table was padded, name its last rows: append the lines "
            f"[unused{symbols}] to [unused{last}] to vocab.txt (beside a tokenizer.json: to its "
            f'added_tokens, as {{"id": {last}, "content": "[unused{last}]"}})'
        )
    raise UserError(
        f"{path}: {rows:,} rows in the model and {symbols:,} symbols in the vocabulary: {advice}"
    )


def _with_added_tokens(tokenizer: Tokenizer, path: Path) -> Tokenizer:
    if not isinstance(tokenizer, WordPieceTokenizer) or not path.exists():
        return tokenizer
    rows = zip(tokenizer.symbols, itertools.count())
    symbols = _in_order([*rows, *read_json_object(path).items()], path)
    _check_pieces(symbols, path)
    return WordPieceTokenizer(symbols, tokenizer.settings)


def _check_pieces(symbols: list[str], path: Path) -> None:
    odd = next((symbol for symbol in symbols if NO_PIECE.search(symbol)), None)
    if odd is not None:
        raise UserError(
            f"{path}: its piece {reprlib.repr(odd)} is empty, holds whitespace or is no Unicode, "
            f"which a dictionary cannot hold: {ADVICE}"
        )
    if symbols[0].startswith(BYTE_ORDER_MARK):
        raise UserError(
            f"{path}: its first piece {reprlib.repr(symbols[0])} begins with a byte-order mark, "
            f"which no dictionary keeps: {ADVICE}"
        )


def _wordpiece(folder: Path, config: dict, flags: WordPieceSettings) -> WordPieceTokenizer:
    path = folder / PIPELINE_FILE
    content = read_json_object(path)
    _check_pipeline(content, path)
    symbols = _symbols(content, path)
    _check_pieces(symbols, path)
    missing = [special for special in WORDPIECE_SPECIALS.values() if special not in symbols]
    if missing:
        raise UserError(f"{path}: no piece {', '.join(missing)}: {ADVICE}")
    _check_frame(content, config, symbols, WORDPIECE_SPECIALS, path)
    settings = _settings(content["normalizer"], path)
    check_flags(settings, flags, path)
    _check_settings(settings, config, folder / SETTINGS_FILE, path)
    if (folder / VOCAB_FILE).exists():
        _check_vocab(folder, symbols, _added_tokens(content, path))
    return WordPieceTokenizer(symbols, settings)


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


def _check_frame(
    content: dict, config: dict, symbols: list[str], specials: Mapping[str, str], path: Path
) -> None:
    """Raise UserError unless transformers frames texts as ours are, by these specials."""
    post_processor = content.get("post_processor")
    if post_processor is None and config.get("tokenizer_class") in FRAMING_CLASSES:
        return
    first, last = specials["bos"], specials["eos"]
    frame = {token: symbols.index(token) for token in (first, last)}
    if not isinstance(post_processor, dict) or not _is_frame(post_processor, frame):
        raise UserError(
            f"{path}: its post_processor does not give {first} A {last} and, of pairs, "
            f"{first} A {last} B {last}: {ADVICE}"
        )


def _is_frame(post_processor: dict, frame: Mapping[str, int]) -> bool:
    """Whether texts get the first of these tokens (name: id) in front, the last behind each."""
    first, last = frame
    if post_processor.get("type") == "BertProcessing":
        ends = {"cls": [first, frame[first]], "sep": [last, frame[last]]}
        return post_processor == {"type": "BertProcessing", **ends}
    rows = {token: {"id": token, "ids": [row], "tokens": [token]} for token, row in frame.items()}
    before, text, behind = (_special(first, 0), _sequence("A", 0), _special(last, 0))
    return post_processor == {
        "type": "TemplateProcessing",
        "single": [before, text, behind],
        "pair": [before, text, behind, _sequence("B", 1), _special(last, 1)],
        "special_tokens": rows,
    }


def _special(token: str, segment: int) -> dict:
    return {"SpecialToken": {"id": token, "type_id": segment}}


def _sequence(name: str, segment: int) -> dict:
    return {"Sequence": {"id": name, "type_id": segment}}


def _check_special_tokens(tokenizer: Tokenizer, folder: Path, config: dict) -> None:
    """Raise UserError where a file of the folder gives a special token another name than ours."""
    is_wordpiece = isinstance(tokenizer, WordPieceTokenizer)
    specials = WORDPIECE_SPECIALS if is_wordpiece else FAIRSEQ_SPECIALS
    for path, named in _special_token_files(folder, config):
        for role, ours in ROLES.items():
            value, expected = named.get(f"{role}_token"), specials[ours]
            name = value.get("content") if isinstance(value, dict) else value
            if value is not None and name != expected:
                raise UserError(
                    f"{path}: its {role}_token is {reprlib.repr(name)}, where {expected} is "
                    f"expected: {ADVICE}, in which this token is called {expected}"
                )


def _special_token_files(folder: Path, config: dict) -> Iterator[tuple[Path, dict]]:
    yield folder / SETTINGS_FILE, config
    path = folder / SPECIAL_TOKENS_FILE
    if ADDED_TOKENS_KEY not in config and path.exists():
        yield path, read_json_object(path)


def _settings(normalizer: dict, path: Path) -> WordPieceSettings:
    keys = ("lowercase", "strip_accents", "handle_chinese_chars")
    return checked_settings(*map(normalizer.get, keys), keys, path)


def _check_settings(
    settings: WordPieceSettings, config: dict, config_path: Path, path: Path
) -> None:
    """Raise UserError where tokenizer_config.json makes transformers normalize otherwise."""
    assumed = (not settings.cased, settings.strip_accents, settings.split_chinese)
    if config and config.get("tokenizer_class") not in GENERIC_CLASSES:
        assumed = SETTINGS_DEFAULTS
    declared = checked_settings(
        *map(config.get, SETTINGS_KEYS, assumed), SETTINGS_KEYS, config_path
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


def _same_sentencepiece(tokenizer: Tokenizer, folder: Path, config: dict) -> Tokenizer:
    path = folder / PIPELINE_FILE
    content = read_json_object(path)
    mark = without_text("")
    symbols = [symbol.removesuffix(mark) for symbol in _symbols(content, path)]
    _check_same(folder, SENTENCEPIECE_FILE, tokenizer.symbols, symbols)
    _check_frame(content, config, symbols, FAIRSEQ_SPECIALS, path)
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
