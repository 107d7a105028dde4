"""The tokenizer of a file or a folder, whatever cuts the text into pieces.

A tokenizer lives in a folder: its own files beside the ``dict.txt`` that numbers its pieces.
"""

import itertools
import re
from pathlib import Path
from typing import Mapping, Optional

from convbert_plugin.errors import UserError, shown
from convbert_plugin.files.json_files import read_json_object
from convbert_plugin.files.text_files import PathLike, check_is_file
from convbert_plugin.tokenization.added_tokens import (
    ADDED_TOKENS_KEY,
    SPECIAL_TOKENS_FILE,
    with_added,
)
from convbert_plugin.tokenization.pipeline import load_pipeline
from convbert_plugin.tokenization.sentencepiece_tokenizer import load_sentencepiece
from convbert_plugin.tokenization.symbols import (
    ADVICE,
    TOKEN_ROLES,
    check_same_symbols,
    read_symbols,
)
from convbert_plugin.tokenization.tokenizer_files import (
    DICTIONARY_FILE,
    FILES_OF,
    PIPELINE_FILE,
    SETTINGS_FILE,
    VOCAB_FILE,
    main_file,
)
from convbert_plugin.tokenization.tokenizer_interface import Tokenizer
from convbert_plugin.tokenization.wordpiece import WordPieceSettings, load_wordpiece

# Of the model beside it, which may say what the tokenizer's settings do not.
MODEL_CONFIG_FILE = "config.json"
# The classes of transformers that split the texts of a vocab.txt as BERT does.
BERTS_CLASSES = (
    "((|Conv|Distil|Mobile|Retri|Squeeze)Bert|Electra|LayoutLM|Lxmert|Realm|PreTrained"
    "|DPR(ContextEncoder|QuestionEncoder|Reader))Tokenizer(Fast)?|TokenizersBackend"
)
# All but those that split them, whatever the files, by a library or by rules of their own.
CLASSES_BY_FILES = (
    "(?!(BertJapanese|Bertweet|BioGpt|Cpm|CpmAnt|FSMT|Flaubert|Phobert|RoFormer|XLM)Tokenizer).*"
)
# What BertJapaneseTokenizer says beside its name, or instead.
SPLITTERS = {"word_tokenizer_type": "basic", "subword_tokenizer_type": "wordpiece"}

__all__ = ["DICTIONARY_FILE", "Tokenizer", "check_rows", "load_tokenizer"]


def load_tokenizer(
    path: PathLike, *, cased: bool = False, strip_accents: Optional[bool] = None
) -> Tokenizer:
    """Load a ``tokenizer.json``, a ``vocab.txt``, a sentencepiece ``.model``, or their folder.

    ``cased`` and ``strip_accents`` say how a bare vocab.txt is used; settings stored beside it
    win, and a flag that contradicts them is an error. A ``dict.txt`` beside the file numbers the
    pieces and has to fit. Errors: no tokenizer, a broken file, files or flags that contradict
    each other, other special tokens than ours, a class that splits texts by what is no file's.
    """
    file = Path(path)
    if file.is_dir() or (file.name == PIPELINE_FILE and file.is_file()):
        folder = file if file.is_dir() else file.parent
        found = main_file(folder)
        if found is None:
            raise UserError(
                f"{folder}: holds no tokenizer: expected {', '.join(FILES_OF)} in it: {ADVICE}"
            )
        file = found
    check_is_file(file)
    flags = WordPieceSettings(cased, strip_accents)
    is_sentencepiece, is_pipeline = file.suffix == ".model", file.name == PIPELINE_FILE
    if (is_sentencepiece or is_pipeline) and flags != WordPieceSettings():
        raise UserError(
            f"{file}: it has its own rules for case and accents: drop --cased, --strip-accents and "
            "--keep-accents"
        )
    if is_sentencepiece:
        tokenizer: Tokenizer = load_sentencepiece(file)
    else:
        tokenizer = load_pipeline(file) if is_pipeline else load_wordpiece(file, flags)
    if file.name not in FILES_OF:
        return tokenizer
    _check_class(file)
    _check_token_names(file.parent, tokenizer.specials)
    if not is_sentencepiece:
        tokenizer = with_added(tokenizer, file)
        dictionary = file.with_name(DICTIONARY_FILE)
        if dictionary.exists():
            rows = read_symbols(dictionary).symbols
            check_same_symbols(dictionary, rows, file, tokenizer.symbols)
    return tokenizer


def _check_class(file: Path) -> None:
    """Raise UserError where another way to split texts is named than the files hold."""
    beside = map(file.with_name, (SETTINGS_FILE, MODEL_CONFIG_FILE))
    configs = {path: read_json_object(path) for path in beside if path.exists()}
    classes = BERTS_CLASSES if file.name == VOCAB_FILE else CLASSES_BY_FILES
    for key, known in {"tokenizer_class": classes, **SPLITTERS}.items():
        named = ((path, config[key]) for path, config in configs.items() if config.get(key))
        path, value = next(named, (None, None))
        if path and not re.fullmatch(known, str(value)):
            raise UserError(
                f"{path}: its {key} {shown(value)} splits texts by what is in none of its files, "
                f"and not as BERT does: {ADVICE}"
            )


def _check_token_names(folder: Path, specials: Mapping[str, str]) -> None:
    """Raise UserError where a file of the folder gives a special token another name than ours."""
    settings, older = folder / SETTINGS_FILE, folder / SPECIAL_TOKENS_FILE
    config = read_json_object(settings) if settings.exists() else {}
    named = {settings: config}
    if ADDED_TOKENS_KEY not in config and older.exists():
        named[older] = read_json_object(older)
    for (path, names), (token, role) in itertools.product(named.items(), TOKEN_ROLES.items()):
        value, expected = names.get(token), specials[role]
        name = value.get("content") if isinstance(value, dict) else value
        if value is not None and name != expected:
            raise UserError(
                f"{path}: its {token} is {shown(name)}, where {expected} is expected: {ADVICE}, "
                f"in which this token is called {expected}"
            )


def check_rows(tokenizer: Tokenizer, rows: int, path: PathLike) -> None:
    """Raise UserError unless the token table of the model at ``path`` has a row a symbol."""
    symbols = len(tokenizer.symbols)
    if symbols == rows:
        return
    advice = "give the vocabulary that it was trained with by --tokenizer"
    if symbols < rows and tokenizer.longest_word:
        last = rows - 1
        advice += (
            ", or, if the table was padded, name its last rows: append the lines "
            f"[unused{symbols}] to [unused{last}] to vocab.txt (a tokenizer.json has them in its "
            f'model\'s vocab as "[unused{last}]": {last})'
        )
    raise UserError(
        f"{path}: {rows:,} rows in the model and {symbols:,} symbols in the vocabulary: {advice}"
    )
