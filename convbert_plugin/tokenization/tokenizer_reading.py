"""Tokenizers in the files of transformers, read as ours."""

import itertools
from pathlib import Path
from typing import Optional

from convbert_plugin.errors import UserError
from convbert_plugin.files.json_files import read_json_object
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.tokenization.pipeline_reading import (
    ADVICE,
    check_frame,
    check_pieces,
    check_same,
    check_token_names,
    in_order,
    pipeline_symbols,
)
from convbert_plugin.tokenization.symbols import without_text
from convbert_plugin.tokenization.tokenizer import load_tokenizer
from convbert_plugin.tokenization.tokenizer_files import (
    PIPELINE_FILE,
    SENTENCEPIECE_FILE,
    SETTINGS_FILE,
    VOCAB_FILE,
    is_sentencepiece_export,
)
from convbert_plugin.tokenization.tokenizer_interface import Tokenizer
from convbert_plugin.tokenization.wordpiece import WordPieceTokenizer

# Beside vocab.txt, before transformers wrote everything into tokenizer.json.
ADDED_TOKENS_FILE = "added_tokens.json"


def read_tokenizer(
    path: PathLike, *, cased: bool = False, strip_accents: Optional[bool] = None
) -> Tokenizer:
    """The tokenizer of a folder as transformers writes it, or of what ``load_tokenizer`` takes.

    A ``tokenizer.json``, which may also be named itself, is used as it is; a ``vocab.txt`` has
    its added_tokens.json. ``cased`` and ``strip_accents``: as for ``load_tokenizer``. Errors: no
    tokenizer, a broken file, files or flags that contradict each other, other special tokens or
    another frame than ours.
    """
    path = Path(path)
    folder = path.parent if path.name == PIPELINE_FILE and path.is_file() else path
    names = (VOCAB_FILE, PIPELINE_FILE, SENTENCEPIECE_FILE)
    if folder.is_dir() and not any((folder / name).exists() for name in names):
        raise UserError(f"{folder}: none of {', '.join(names)} is in it: {ADVICE}")
    stored = folder / SETTINGS_FILE
    config = read_json_object(stored) if stored.exists() else {}
    tokenizer = load_tokenizer(folder, cased=cased, strip_accents=strip_accents)
    if is_sentencepiece_export(folder):
        _check_translation(tokenizer, folder / PIPELINE_FILE, config)
    if isinstance(tokenizer, WordPieceTokenizer):
        tokenizer = _with_added_tokens(tokenizer, folder / ADDED_TOKENS_FILE)
    check_token_names(folder, config, tokenizer.specials)
    return tokenizer


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


def _with_added_tokens(tokenizer: WordPieceTokenizer, path: Path) -> WordPieceTokenizer:
    if not path.exists():
        return tokenizer
    rows = zip(tokenizer.symbols, itertools.count())
    symbols = in_order([*rows, *read_json_object(path).items()], path)
    check_pieces(symbols, path)
    return WordPieceTokenizer(symbols, tokenizer.settings)


def _check_translation(tokenizer: Tokenizer, path: Path, config: dict) -> None:
    """Raise UserError where the ``tokenizer.json`` of an export is not of its model."""
    content = read_json_object(path)
    mark = without_text("")
    symbols = [symbol.removesuffix(mark) for symbol in pipeline_symbols(content, path)]
    check_same(path.with_name(SENTENCEPIECE_FILE), tokenizer.symbols, path, symbols)
    check_frame(content, config, symbols, tokenizer.specials, path)
