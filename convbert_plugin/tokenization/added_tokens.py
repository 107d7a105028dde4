"""Tokens that were added to a vocabulary: one id each, wherever a text has them.

transformers has written them to tokenizer.json, to tokenizer_config.json and, before that, to
added_tokens.json.
"""

import json
import re
from pathlib import Path
from typing import Any, Iterable, Mapping, NamedTuple

from convbert_plugin.errors import UserError, shown
from convbert_plugin.files.json_files import read_json_object
from convbert_plugin.tokenization.pipeline import SPLIT_SPECIALS, PipelineTokenizer
from convbert_plugin.tokenization.pipeline_limits import try_loading
from convbert_plugin.tokenization.symbols import COUNT
from convbert_plugin.tokenization.tokenizer_files import SETTINGS_FILE
from convbert_plugin.tokenization.tokenizer_interface import Tokenizer
from convbert_plugin.tokenization.tokenizer_writing import (
    GENERIC_CLASS,
    json_bytes,
    pipeline_content,
)
from convbert_plugin.tokenization.wordpiece import WordPieceTokenizer

ADDED_TOKENS_FILE = "added_tokens.json"
# Beside the tokenizer, before transformers wrote everything into tokenizer_config.json.
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
# Where transformers finds it in tokenizer_config.json, it leaves out the older files.
ADDED_TOKENS_KEY = "added_tokens_decoder"
# Names of further special tokens, which may be rows of the vocabulary.
EXTRA_TOKENS_KEYS = ("additional_special_tokens", "extra_special_tokens")
UNWRITABLE = re.compile("[\ud800-\udfff]")
# How an added token is looked for in a text.
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


class AddedTokens(NamedTuple):
    """What ``tokenizers.AddedToken`` takes, and the ids that ``path`` tells of some of them.

    ``splits_specials``: a text is to have none of the special ones among them.
    """

    tokens: list[dict]
    ids: Mapping[str, int]
    path: Path
    splits_specials: bool = False


def added_beside(file: Path) -> AddedTokens:
    """The tokens that the files beside a tokenizer's add to it.

    Raises:
        UserError: no JSON, or tokens and ids that are none.
    """
    settings, older, oldest = map(
        file.with_name, (SETTINGS_FILE, SPECIAL_TOKENS_FILE, ADDED_TOKENS_FILE)
    )
    config = read_json_object(settings) if settings.exists() else {}
    splits_specials = config.get(SPLIT_SPECIALS) is True
    if ADDED_TOKENS_KEY in config:
        return _of_decoder(config, settings)._replace(splits_specials=splits_specials)
    names = read_json_object(older) if older.exists() else {}
    specials = [*_extra_tokens(config, settings), *_extra_tokens(names, older)]
    ids = read_json_object(oldest) if oldest.exists() else {}
    if not all(type(index) is int for index in ids.values()):
        raise UserError(f"{oldest}: expected tokens and their ids: copy the file again")
    is_special = {token["content"] for token in specials}
    tokens = [_token(name, oldest) for name in sorted(ids, key=ids.__getitem__)]
    plain = [token for token in tokens if token["content"] not in is_special]
    return AddedTokens([*plain, *specials], ids, oldest, splits_specials)


def with_added(tokenizer: Tokenizer, file: Path) -> Tokenizer:
    """A tokenizer with the tokens that the files beside its own add to it.

    As in transformers, a token has the id of its row, or the next one.

    Raises:
        UserError: as ``added_beside``; another id than that is told.
    """
    added, kept = added_beside(file), tokenizer.specials.values()
    if all(token["content"] in kept for token in added.tokens):
        return tokenizer
    if isinstance(tokenizer, WordPieceTokenizer):
        settings = {
            **json.loads(tokenizer.files()[SETTINGS_FILE]),
            "tokenizer_class": GENERIC_CLASS,
            **({SPLIT_SPECIALS: True} if added.splits_specials else {}),
        }
        content = json_bytes(pipeline_content(tokenizer))
        tokenizer = PipelineTokenizer(content, file, json_bytes(settings))
    assert isinstance(tokenizer, PipelineTokenizer)
    ids = tokenizer.pipeline.get_vocab(with_added_tokens=True)
    content = json.loads(tokenizer.content.decode("utf-8-sig"))
    tokens = {token["content"]: token for token in content.get("added_tokens") or ()}
    for token in added.tokens:
        name = token["content"]
        if name not in kept:
            flags = {**dict.fromkeys(FLAGS, False), "normalized": not token.get("special")}
            tokens[name] = {"id": ids.setdefault(name, len(ids)), **flags, **token}
    for name, told in added.ids.items():
        if ids[name] != told:
            raise UserError(
                f"{added.path}: its token {shown(name)} has id {told}, and {ids[name]} in "
                f"{file.name}: correct it, or remove the file that does not belong to the model"
            )
    changed = {**content, "added_tokens": sorted(tokens.values(), key=lambda token: token["id"])}
    if changed == content:
        return tokenizer
    try_loading(json_bytes(changed), changed, file)
    return PipelineTokenizer(json_bytes(changed), file, tokenizer.settings)


def _of_decoder(config: Mapping, path: Path) -> AddedTokens:
    decoder = config[ADDED_TOKENS_KEY]
    if not isinstance(decoder, dict) or not all(map(COUNT.fullmatch, decoder)):
        raise UserError(f"{path}: its {ADDED_TOKENS_KEY} is no object of ids: copy the file again")
    tokens = {index: _token(decoder[index], path) for index in sorted(decoder, key=int)}
    ids = {token["content"]: int(index) for index, token in tokens.items()}
    extra = [token for token in _extra_tokens(config, path) if token["content"] not in ids]
    return AddedTokens([*tokens.values(), *extra], ids, path)


def _extra_tokens(config: Mapping, path: Path) -> Iterable[dict]:
    for values in filter(None, map(config.get, EXTRA_TOKENS_KEYS)):
        values = [*values.values()] if isinstance(values, dict) else values
        for value in values if isinstance(values, list) else [values]:
            yield {**_token(value, path), "special": True}


def _token(value: Any, path: Path) -> dict:
    token = {"content": value} if isinstance(value, str) else value
    if not _is_token(token):
        raise UserError(f"{path}: its added token {shown(value)} is none: copy the file again")
    return {key: held for key, held in token.items() if key in ("content", *FLAGS)}


def _is_token(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("content"), str)
        and UNWRITABLE.search(value["content"]) is None
        and all(isinstance(value.get(flag, False), bool) for flag in FLAGS)
    )
