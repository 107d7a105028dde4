"""Where the pieces of a text stand in it, made exact of what the libraries say."""

import unicodedata
from typing import Iterator, Sequence

SPACE_MARK = "▁"
# Control and format characters, which no reader sees.
INVISIBLE = ("Cc", "Cf")
Span = tuple[int, int]


def exact_offsets(text: str, pieces: Sequence[str], spans: Sequence[Span]) -> Iterator[Span]:
    """The characters [start, end) of each piece, of spans by a tokenizer's library.

    None begins or ends in whitespace or invisible characters around others. A combining mark that
    no piece has belongs to the character before it. A piece of a space alone is empty, at the end
    of the space. ``pieces``: as the library spells them.
    """
    next_starts = [*(start for start, _ in spans[1:]), len(text)]
    for piece, (start, end), next_start in zip(pieces, spans, next_starts, strict=False):
        start, end = _visible(text, piece, start, end)
        while start < end < next_start and unicodedata.category(text[end])[0] == "M":
            end += 1
        yield start, end


def _visible(text: str, piece: str, start: int, end: int) -> Span:
    if start < end and _is_visible(text[start]) and _is_visible(text[end - 1]):
        is_prefix = piece.startswith(SPACE_MARK) and not piece.strip(SPACE_MARK)
        # Put before a text that has none, it stands for no character.
        return (start, end) if not is_prefix or SPACE_MARK in text[start:end] else (start, start)
    shown = [place for place in range(start, end) if _is_visible(text[place])]
    shown = shown or [place for place in range(start, end) if not text[place].isspace()]
    return (shown[0], shown[-1] + 1) if shown else (end, end)


def _is_visible(character: str) -> bool:
    if character.isascii():
        return " " < character < "\x7f"
    return not character.isspace() and unicodedata.category(character) not in INVISIBLE
