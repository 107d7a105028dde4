"""The symbols of a vocabulary file, which number the pieces of a tokenizer."""

import hashlib
import re
from typing import Iterable, Mapping, NamedTuple

from convbert_plugin.errors import UserError, shown
from convbert_plugin.files.text_files import PathLike, read_text, split_lines

WORDPIECE_SPECIALS = {
    "pad": "[PAD]",
    "unk": "[UNK]",
    "bos": "[CLS]",
    "eos": "[SEP]",
    "mask": "[MASK]",
}
WORDPIECE_NAMES = frozenset(WORDPIECE_SPECIALS.values())
# The order is fairseq's: their ids are 0 to 3. The mask has no fixed id.
FAIRSEQ_SPECIALS = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
FAIRSEQ_FIRST = ("<s>", "<pad>", "</s>", "<unk>")
# What transformers calls them.
TOKEN_ROLES = {
    "pad_token": "pad",
    "unk_token": "unk",
    "mask_token": "mask",
    "cls_token": "bos",
    "sep_token": "eos",
}
# What 64 bits hold; Python itself refuses more than 4,300 digits.
COUNT = re.compile("[0-9]{1,18}")


class Symbols(NamedTuple):
    """The symbols of a dictionary, in the order of their ids, specials included.

    ``specials``: their names by role. ``implied``: how many of the first symbols no row holds,
    because fairseq adds them by itself.
    """

    symbols: list[str]
    counts: list[int]
    specials: Mapping[str, str]
    implied: int = 0


def token_names(specials: Mapping[str, str]) -> dict[str, str]:
    """The special tokens as transformers names them in its files."""
    return {name: specials[role] for name, role in TOKEN_ROLES.items()}


def without_text(symbol: str) -> str:
    """The name of a row that no text may get: no space is left where pieces are looked for."""
    return f"{symbol} "


def fingerprint(symbols: list[str]) -> str:
    """A hex digest of symbols in their order: equal exactly when all ids are equal."""
    return hashlib.sha256("\n".join(symbols).encode()).hexdigest()


def read_symbols(path: PathLike) -> Symbols:
    """Read a ``dict.txt`` (rows "symbol count") or a ``vocab.txt`` (rows "symbol").

    A file without counts, or with a row of BERT's specials, is WordPiece: its rows are all the
    symbols. So they are where they hold <s> <pad> </s> <unk>. Else these four stand before the
    rows. <mask> comes last where no row has it. Errors: a file that is missing, empty, not UTF-8
    or malformed, duplicate rows, WordPiece without all five specials.
    """
    rows = _read_rows(path)
    symbols, counts = rows, [1] * len(rows)
    has_counts = re.search(r"\S \d+$", rows[0])
    if has_counts:
        symbols, counts = _split_counts(rows, path)
    is_wordpiece = not has_counts or has_wordpiece_name(symbols)
    has_all = is_wordpiece or set(FAIRSEQ_FIRST) <= set(symbols)
    implied = 0 if has_all else len(FAIRSEQ_FIRST)
    symbols = [*FAIRSEQ_FIRST[:implied], *symbols]
    counts = [1] * implied + counts
    _check_symbols(symbols, path, implied)
    if is_wordpiece:
        _check_specials(symbols, path)
    elif FAIRSEQ_SPECIALS["mask"] not in symbols:
        symbols, counts = [*symbols, FAIRSEQ_SPECIALS["mask"]], [*counts, 1]
    specials = WORDPIECE_SPECIALS if is_wordpiece else FAIRSEQ_SPECIALS
    return Symbols(symbols, counts, specials, implied)


def dictionary_rows(symbols: list[str]) -> list[str]:
    """The symbols of which ``read_symbols`` makes these again, for a ``dict.txt``."""
    count = len(FAIRSEQ_FIRST)
    is_implied = tuple(symbols[:count]) == FAIRSEQ_FIRST and not has_wordpiece_name(symbols)
    return symbols[count:] if is_implied else symbols


def has_wordpiece_name(symbols: Iterable[str]) -> bool:
    """Whether one of BERT's special tokens is among them, which makes a dictionary WordPiece."""
    return not WORDPIECE_NAMES.isdisjoint(symbols)


def _read_rows(path: PathLike) -> list[str]:
    rows = split_lines(read_text(path))
    while rows and not rows[-1].strip():
        rows.pop()
    if not rows:
        raise UserError(f"{path}: empty, where a vocabulary of one piece a line is expected")
    return rows


def _split_counts(rows: list[str], path: PathLike) -> tuple[list[str], list[int]]:
    symbols, counts = [], []
    for number, row in enumerate(rows, start=1):
        symbol, _, count = row.rpartition(" ")
        if not symbol or not COUNT.fullmatch(count):
            raise UserError(
                f"{path}:{number}: expected 'piece count', the count of at most 18 digits, got "
                f"{shown(row)}: write the dictionary again"
            )
        symbols.append(symbol)
        counts.append(int(count))
    return symbols, counts


def _check_symbols(symbols: list[str], path: PathLike, before_rows: int) -> None:
    first_lines: dict[str, int] = {}
    for number, symbol in enumerate(symbols, start=1 - before_rows):
        if symbol.split() != [symbol]:
            raise UserError(
                f"{path}:{number}: {symbol!r} is empty or holds whitespace, where fairseq would "
                "split it: one piece a line is expected"
            )
        if symbol not in first_lines:
            first_lines[symbol] = number
            continue
        before = first_lines[symbol]
        where = f"on line {before}" if before > 0 else "among fairseq's own symbols"
        raise UserError(
            f"{path}:{number}: {symbol!r} stands {where} already "
            f"({len(symbols) - len(set(symbols)):,} duplicate lines in all), so its id is not "
            "defined; the vocab.txt of the ConvBERT repository is corrupt in this way: use BERT's"
        )


def _check_specials(symbols: list[str], path: PathLike) -> None:
    missing = [special for special in WORDPIECE_SPECIALS.values() if special not in symbols]
    if missing:
        raise UserError(
            f"{path}: no row {', '.join(missing)}: a WordPiece vocabulary needs "
            f"{' '.join(WORDPIECE_SPECIALS.values())}; use BERT's vocab.txt or add these rows"
        )


def check_same_symbols(dictionary: PathLike, vocab: PathLike) -> None:
    """Raise UserError, naming both files, unless both number the same pieces alike."""
    ours, theirs = read_symbols(dictionary).symbols, read_symbols(vocab).symbols
    if ours == theirs:
        return
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    difference = (
        f"{len(ours):,} and {len(theirs):,} symbols"
        if at is None
        else f"id {at} is {ours[at]!r} and {theirs[at]!r}"
    )
    raise UserError(
        f"{dictionary} and {vocab} disagree ({difference}): remove the one that does not belong "
        "to the data"
    )
