"""The symbols of a vocabulary, which number the pieces of a tokenizer; the special ones by role."""

import hashlib
import re
from collections import Counter
from typing import Any, Iterable, Mapping, NamedTuple

from convbert_plugin.errors import UserError, shown
from convbert_plugin.files.text_files import PathLike, read_text, split_lines

WORDPIECE_SPECIALS = {
    "pad": "[PAD]",
    "unk": "[UNK]",
    "bos": "[CLS]",
    "eos": "[SEP]",
    "mask": "[MASK]",
}
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
ADVICE = "give another vocabulary with --tokenizer, or with the option that named this one"
# Whitespace parts the pieces of a line, a mark of the byte order at the start of a file is lost,
# and what is no Unicode cannot be written.
NOT_HELD = re.compile(r"[\s\ud800-\udfff]|^\ufeff|^\Z")
# What 64 bits hold; Python itself refuses more than 4,300 digits.
COUNT = re.compile("[0-9]{1,18}")


class Symbols(NamedTuple):
    """The symbols of a dictionary, in the order of their ids, specials included.

    ``specials``: their names by role. ``implied``: how many of the first symbols no row holds,
    because fairseq adds them by itself. ``rows``: the file's.
    """

    symbols: list[str]
    counts: list[int]
    specials: Mapping[str, str]
    implied: int
    rows: list[str]


def token_names(specials: Mapping[str, str]) -> dict[str, str]:
    """The special tokens as transformers names them in its files."""
    return {name: specials[role] for name, role in TOKEN_ROLES.items()}


def without_text(symbol: str) -> str:
    """The name of a row that no text may get: no space is left where pieces are looked for."""
    return f"{symbol} "


def names_of(pieces: list[str]) -> list[str]:
    """The names of pieces in a dictionary: their own, but what it cannot hold is spelt out.

    Where a spelt name is another's too, the id stands behind it.
    """
    spelt = [NOT_HELD.sub(_spelt, piece) for piece in pieces]
    counts, names = Counter(spelt), []
    for index, (piece, name) in enumerate(zip(pieces, spelt, strict=True)):
        is_taken = name != piece and counts[name] > 1
        while is_taken:
            name += f"#{index}"
            is_taken = name in counts
        names.append(name)
    return names


def _spelt(found: re.Match) -> str:
    return f"\\u{ord(found[0]):04x}" if found[0] else "\\empty"


def fingerprint(symbols: list[str]) -> str:
    """A hex digest of symbols in their order: equal exactly when all ids are equal."""
    return hashlib.sha256("\n".join(symbols).encode()).hexdigest()


def read_symbols(path: PathLike) -> Symbols:
    """Read a ``dict.txt`` (rows "symbol count") or a ``vocab.txt`` (rows "symbol").

    A file without counts, or with a row of BERT's specials, is WordPiece: its rows are all the
    symbols. So they are where they hold <s> <pad> </s> <unk>. Else these four stand before the
    rows. <mask> comes last where no row has it. A row of whitespace alone in a ``vocab.txt``, which
    no text can get, has a name. Errors: a file that is missing, empty, not UTF-8 or malformed,
    duplicate rows, WordPiece without all five specials.
    """
    rows = _read_rows(path)
    has_counts = re.search(r"\S \d+$", rows[0])
    if has_counts:
        symbols, counts = _split_counts(rows, path)
    else:
        named = zip(rows, names_of(rows), strict=True)
        symbols, counts = [row if row.strip() else name for row, name in named], [1] * len(rows)
    is_wordpiece = not has_counts or has_wordpiece_name(symbols)
    has_all = is_wordpiece or set(FAIRSEQ_FIRST) <= set(symbols)
    implied = 0 if has_all else len(FAIRSEQ_FIRST)
    symbols = [*FAIRSEQ_FIRST[:implied], *symbols]
    counts = [1] * implied + counts
    _check_symbols(symbols, path, implied)
    if not is_wordpiece and FAIRSEQ_SPECIALS["mask"] not in symbols:
        symbols, counts = [*symbols, FAIRSEQ_SPECIALS["mask"]], [*counts, 1]
    specials = specials_of(symbols, path, is_wordpiece)
    return Symbols(symbols, counts, specials, implied, rows)


def specials_of(
    symbols: list[str], path: PathLike, is_wordpiece: bool = False
) -> Mapping[str, str]:
    """The special tokens by role: fairseq's, or BERT's where one of their names is a symbol.

    ``is_wordpiece``: BERT's in any case. Raises UserError unless all of them are symbols.
    """
    has_berts = is_wordpiece or has_wordpiece_name(symbols)
    specials = WORDPIECE_SPECIALS if has_berts else FAIRSEQ_SPECIALS
    held = set(symbols)
    missing = [name for name in specials.values() if name not in held]
    if missing:
        raise UserError(
            f"{path}: no row {', '.join(missing)}: a vocabulary like this needs "
            f"{' '.join(specials.values())}; add these rows, or {ADVICE}"
        )
    return specials


def in_order(ids: Mapping[str, Any], path: PathLike) -> list[str]:
    """The names of pieces in the order of their ids. Raises UserError for holes."""
    pieces = {index: piece for piece, index in ids.items() if type(index) is int}
    hole = next((index for index in range(max(1, len(ids))) if index not in pieces), None)
    if hole is not None:
        raise UserError(
            f"{path}: of its {len(ids):,} pieces none has id {hole}, where the ids have to be 0, "
            f"1, 2 and so on, each once: {ADVICE}"
        )
    return names_of([pieces[index] for index in range(len(ids))])


def dictionary_rows(symbols: list[str]) -> list[str]:
    """The symbols of which ``read_symbols`` makes these again, for a ``dict.txt``."""
    count = len(FAIRSEQ_FIRST)
    is_implied = tuple(symbols[:count]) == FAIRSEQ_FIRST and not has_wordpiece_name(symbols)
    return symbols[count:] if is_implied else symbols


def has_wordpiece_name(symbols: Iterable[str]) -> bool:
    """Whether one of BERT's special tokens is among them, which makes a dictionary WordPiece."""
    return not set(symbols).isdisjoint(WORDPIECE_SPECIALS.values())


def _read_rows(path: PathLike) -> list[str]:
    rows = split_lines(read_text(path))
    while rows and not rows[-1]:
        rows.pop()
    if not rows:
        raise UserError(f"{path}: empty, where a vocabulary of one piece a line is expected")
    return rows


def _split_counts(rows: list[str], path: PathLike) -> tuple[list[str], list[int]]:
    symbols, counts = [], []
    while not rows[-1].strip():
        rows = rows[:-1]
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


def check_same_symbols(
    one: PathLike, symbols: list[str], other: PathLike, others: list[str]
) -> None:
    """Raise UserError, naming both files, unless both number the same pieces alike."""
    if symbols == others:
        return
    pairs = enumerate(zip(symbols, others, strict=False))
    difference = next(
        (f"id {index} is {shown(a)} and {shown(b)}" for index, (a, b) in pairs if a != b),
        f"{len(symbols):,} and {len(others):,} symbols",
    )
    raise UserError(
        f"{one} and {other} disagree ({difference}): remove the one that does not belong to the "
        "data or the weights"
    )
