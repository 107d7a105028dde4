"""A tokenizer.json and what stands beside it: its symbols, special tokens and frame."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterable, Iterator, Mapping

from convbert_plugin.errors import UserError, shown
from convbert_plugin.files.json_files import read_json_object
from convbert_plugin.files.text_files import read_file, read_text
from convbert_plugin.tokenization.pipeline import PipelineTokenizer, load
from convbert_plugin.tokenization.pipeline_limits import (
    check_pipeline,
    check_size,
    check_vocabulary,
    try_loading,
)
from convbert_plugin.tokenization.symbols import (
    FAIRSEQ_SPECIALS,
    TOKEN_ROLES,
    WORDPIECE_SPECIALS,
    has_wordpiece_name,
    read_symbols,
    token_names,
)
from convbert_plugin.tokenization.tokenizer_files import (
    DICTIONARY_FILE,
    SETTINGS_FILE,
    VOCAB_FILE,
)
from convbert_plugin.tokenization.wordpiece import (
    SETTINGS_DEFAULTS,
    SETTINGS_KEYS,
    WordPieceSettings,
    check_flags,
    checked_settings,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Pipeline

# Beside tokenizer.json, before transformers wrote everything into tokenizer_config.json.
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
# Where transformers finds it in tokenizer_config.json, it leaves out the older files.
ADDED_TOKENS_KEY = "added_tokens_decoder"
ADVICE = "give another vocabulary with --tokenizer, or with the option that named this one"
# The classes that take the pipeline of tokenizer.json as it stands: the first in transformers 4
# and 5, the second in 5. Any other, such as BertTokenizer, builds its own from
# tokenizer_config.json, in which words end at 100 characters.
GENERIC_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
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
NORMALIZER_KEYS = ("lowercase", "strip_accents", "handle_chinese_chars")
NO_PIECE = re.compile(r"\s|[\ud800-\udfff]|^\Z")
# At the start of a file it says how the file is encoded.
BYTE_ORDER_MARK = "\ufeff"


def load_pipeline(path: Path, flags: WordPieceSettings) -> PipelineTokenizer:
    """The tokenizer of a ``tokenizer.json``, which is used as it stands.

    Errors: a broken file, or one that asks for too much; ids with holes; pieces that a dictionary
    cannot hold; special tokens of other names than the two sets, or another frame than ours;
    files beside it, or flags, that contradict it.
    """
    check_size(path)
    content = read_json_object(path)
    check_pipeline(content, path)
    symbols = pipeline_symbols(content, path)
    check_pieces(symbols, path)
    check_vocabulary(symbols, path)
    stored = path.with_name(SETTINGS_FILE)
    config = read_json_object(stored) if stored.exists() else {}
    specials = _specials(symbols, path, config)
    _check_model(content["model"], symbols, specials, path)
    check_frame(content, config, symbols, specials, path)
    _check_rules(content.get("normalizer"), config, flags, path)
    _check_beside(path, symbols, content)
    try_loading(read_text(path), content, [name for name, _ in _added_tokens(content, path)], path)
    file = read_file(path)
    _check_ids(load(file, path), symbols, path)
    return PipelineTokenizer(file, path, symbols, specials, _settings(content, config, specials))


def _settings(content: dict, config: dict, specials: Mapping[str, str]) -> dict:
    """What has to stand in tokenizer_config.json, so that transformers does the same."""
    if content.get("post_processor") is not None:
        return {"tokenizer_class": GENERIC_CLASSES[0], **token_names(specials)}
    # The class alone knows the frame, and takes the rest from here.
    normalizer = content.get("normalizer") or {}
    rules = {
        ours: normalizer.get(key) for ours, key in zip(SETTINGS_KEYS, NORMALIZER_KEYS, strict=True)
    }
    kind = config.get("tokenizer_class") or FRAMING_CLASSES[1]
    stored = rules if normalizer.get("type") == "BertNormalizer" else {}
    return {"tokenizer_class": kind, **stored, **token_names(specials)}


def _specials(symbols: list[str], path: Path, config: dict) -> Mapping[str, str]:
    """The one of the two sets of special tokens that is among the symbols, and named beside."""
    held = set(symbols)
    lacking = {
        specials["mask"]: [name for name in specials.values() if name not in held]
        for specials in (WORDPIECE_SPECIALS, FAIRSEQ_SPECIALS)
    }
    whole = [s for s in (WORDPIECE_SPECIALS, FAIRSEQ_SPECIALS) if not lacking[s["mask"]]]
    if not whole:
        missing = min(lacking.values(), key=len)
        raise UserError(f"{path}: no piece {', '.join(missing)}: {ADVICE}")
    specials = whole[0]
    if has_wordpiece_name(symbols) and specials is FAIRSEQ_SPECIALS:
        raise UserError(
            f"{path}: has special tokens of both {' '.join(WORDPIECE_SPECIALS.values())} and "
            f"{' '.join(FAIRSEQ_SPECIALS.values())}: {ADVICE}"
        )
    check_token_names(path.parent, config, specials)
    return specials


def check_token_names(folder: Path, config: dict, specials: Mapping[str, str]) -> None:
    """Raise UserError where a file of the folder gives a special token another name than ours."""
    for path, named in _special_token_files(folder, config):
        for role, ours in TOKEN_ROLES.items():
            value, expected = named.get(role), specials[ours]
            name = value.get("content") if isinstance(value, dict) else value
            if value is not None and name != expected:
                raise UserError(
                    f"{path}: its {role} is {shown(name)}, where {expected} is "
                    f"expected: {ADVICE}, in which this token is called {expected}"
                )


def _special_token_files(folder: Path, config: dict) -> Iterator[tuple[Path, dict]]:
    yield folder / SETTINGS_FILE, config
    path = folder / SPECIAL_TOKENS_FILE
    if ADDED_TOKENS_KEY not in config and path.exists():
        yield path, read_json_object(path)


def _check_model(model: dict, symbols: list[str], specials: Mapping[str, str], path: Path) -> None:
    index, name = model.get("unk_id"), model.get("unk_token")
    if type(index) is int and 0 <= index < len(symbols):
        name = symbols[index]
    if name not in (None, specials["unk"]):
        raise UserError(
            f"{path}: unk_token of its model is {shown(name)}, where {specials['unk']} is "
            f"expected: {ADVICE}"
        )
    if model.get("dropout"):
        raise UserError(
            f"{path}: its model leaves out merges at random (dropout {shown(model['dropout'])}): "
            "set dropout to null"
        )


def check_frame(
    content: dict, config: dict, symbols: list[str], specials: Mapping[str, str], path: Path
) -> None:
    """Raise UserError unless transformers frames texts as ours are, by these specials."""
    post_processor = content.get("post_processor")
    if post_processor is None and config.get("tokenizer_class") in FRAMING_CLASSES:
        return
    first, last = specials["bos"], specials["eos"]
    frame = {token: symbols.index(token) for token in (first, last)}
    if not _is_frame(_without_offsets(post_processor), frame):
        raise UserError(
            f"{path}: its post_processor does not give {first} A {last} and, of pairs, "
            f"{first} A {last} B {last}: {ADVICE}"
        )


def _without_offsets(post_processor: Any) -> Any:
    """Less the steps of a sequence that change the offsets of pieces alone."""
    if not isinstance(post_processor, dict) or post_processor.get("type") != "Sequence":
        return post_processor
    steps = post_processor.get("processors")
    steps = steps if isinstance(steps, list) else []
    kept = [s for s in steps if not (isinstance(s, dict) and s.get("type") == "ByteLevel")]
    return kept[0] if len(kept) == 1 else None


def _is_frame(post_processor: Any, frame: Mapping[str, int]) -> bool:
    """Whether texts get the first of these tokens (name: id) in front, the last behind each."""
    first, last = frame
    if not isinstance(post_processor, dict):
        return False
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


def _check_rules(normalizer: Any, config: dict, flags: WordPieceSettings, path: Path) -> None:
    """Raise UserError where flags or tokenizer_config.json want other rules than BERT's here."""
    if not isinstance(normalizer, dict) or normalizer.get("type") != "BertNormalizer":
        if flags != WordPieceSettings():
            raise UserError(
                f"{path}: it has its own rules for case and accents: drop --cased, "
                "--strip-accents and --keep-accents"
            )
        return
    settings = checked_settings(map(normalizer.get, NORMALIZER_KEYS), NORMALIZER_KEYS, path)
    check_flags(settings, flags, path)
    assumed = (not settings.cased, settings.strip_accents, settings.split_chinese)
    if config and config.get("tokenizer_class") not in GENERIC_CLASSES:
        assumed = SETTINGS_DEFAULTS
    stored = path.with_name(SETTINGS_FILE)
    declared = checked_settings(map(config.get, SETTINGS_KEYS, assumed), SETTINGS_KEYS, stored)
    if declared.effect != settings.effect:
        raise UserError(
            f"{stored} and {path} disagree on case, accents or Chinese characters: correct "
            f"one of them, or {ADVICE}"
        )


def _check_beside(path: Path, symbols: list[str], content: dict) -> None:
    """Raise UserError where a vocab.txt or dict.txt beside the file numbers other pieces."""
    vocab, dictionary = path.with_name(VOCAB_FILE), path.with_name(DICTIONARY_FILE)
    if dictionary.exists():
        check_same(dictionary, read_symbols(dictionary).symbols, path, symbols)
    if vocab.exists():
        rows = read_symbols(vocab).symbols
        # transformers writes what was added later into tokenizer.json alone.
        added = {name for name, _ in _added_tokens(content, path)}
        later = set(symbols[len(rows) :]) <= added
        check_same(vocab, rows, path, symbols[: len(rows)] if later else symbols)


def check_same(beside: Path, ours: list[str], path: Path, theirs: list[str]) -> None:
    """Raise UserError, naming both files, unless both number the same pieces alike."""
    if ours == theirs:
        return
    pairs = enumerate(zip(ours, theirs, strict=False))
    difference = next(
        (f"id {index} is {shown(a)} and {shown(b)}" for index, (a, b) in pairs if a != b),
        f"{len(ours):,} and {len(theirs):,} pieces",
    )
    raise UserError(
        f"{beside} and {path} disagree ({difference}): remove the one that does not belong to "
        "the weights"
    )


def _check_ids(pipeline: "Pipeline", symbols: list[str], path: Path) -> None:
    """Raise UserError where the library gives other ids than the file says."""
    ids = pipeline.get_vocab(with_added_tokens=True)
    more = min(ids.keys() - set(symbols), default=None)
    odd = next((s for i, s in enumerate(symbols) if ids.get(s) != i), more)
    if odd is not None:
        raise UserError(
            f"{path}: the tokenizers library gives {shown(odd)} the id {shown(ids.get(odd))}, "
            f"another than the file: {ADVICE}"
        )


def _added_tokens(content: dict, path: Path) -> list[tuple]:
    """The pairs of added token and id."""
    tokens = content.get("added_tokens") or []
    if not isinstance(tokens, list) or not all(isinstance(token, dict) for token in tokens):
        raise UserError(f"{path}: its added_tokens are no list of objects: copy the file again")
    return [(token.get("content"), token.get("id")) for token in tokens]


def pipeline_symbols(content: dict, path: Path) -> list[str]:
    """The pieces in the order of their ids, the added tokens included; of any kind of model."""
    model = content.get("model")
    rows = model.get("vocab") if isinstance(model, dict) else None
    pairs: Iterable[tuple]
    if isinstance(rows, list) and all(isinstance(row, list) and row for row in rows):
        pairs = [(row[0], index) for index, row in enumerate(rows)]
    elif isinstance(rows, dict):
        pairs = rows.items()
    else:
        raise UserError(f"{path}: its model has no vocab: copy the file again, or {ADVICE}")
    return in_order([*pairs, *_added_tokens(content, path)], path)


def in_order(pairs: Iterable[tuple], path: Path) -> list[str]:
    """The symbols of pairs of symbol and id, in the order of the ids; a pair may come twice."""
    ids: dict[str, int] = {}
    symbols: dict[int, str] = {}
    for symbol, index in pairs:
        if type(symbol) is not str or type(index) is not int:
            raise UserError(
                f"{path}: {shown(symbol)} with id {shown(index)} in its vocabulary, "
                f"where a text and a whole number are expected: copy the file again, or {ADVICE}"
            )
        held, held_id = symbols.setdefault(index, symbol), ids.setdefault(symbol, index)
        if held != symbol or held_id != index:
            raise UserError(
                f"{path}: {shown(symbol)} with id {shown(index)} contradicts "
                f"{shown(held)} with id {shown(held_id)}: {ADVICE}"
            )
    hole = next((index for index in range(len(symbols)) if index not in symbols), None)
    if hole is not None or not symbols:
        raise UserError(
            f"{path}: of its {len(symbols):,} pieces none has id {hole or 0}, where the ids have "
            f"to be 0, 1, 2 and so on: {ADVICE}"
        )
    return [symbols[index] for index in range(len(symbols))]


def check_pieces(symbols: list[str], path: Path) -> None:
    """Raise UserError for pieces that no dictionary holds."""
    odd = next((symbol for symbol in symbols if NO_PIECE.search(symbol)), None)
    if odd is not None:
        raise UserError(
            f"{path}: its piece {shown(odd)} is empty, holds whitespace or is no Unicode, "
            f"which a dictionary cannot hold: {ADVICE}"
        )
    if symbols[0].startswith(BYTE_ORDER_MARK):
        raise UserError(
            f"{path}: its first piece {shown(symbols[0])} begins with a byte-order mark, "
            f"which no dictionary keeps: {ADVICE}"
        )
