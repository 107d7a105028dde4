"""A model for longer texts, or for another vocabulary."""

from dataclasses import replace
from typing import Mapping

from convbert_plugin.conversion.portable import PortableModel
from convbert_plugin.errors import UserError
from convbert_plugin.formats.surgery import compose_rows, tile_positions
from convbert_plugin.models.state import TOKEN_TABLE
from convbert_plugin.tokenization.tokenizer import Tokenizer
from convbert_plugin.tokenization.wordpiece import CONTINUATION

POSITIONS = "embeddings.positions.weight"
# What has a row or a number for each token.
OF_VOCABULARY = (TOKEN_TABLE, "masked_lm_head.bias", "generator.head.bias")


def change_positions(model: PortableModel, positions: int) -> PortableModel:
    """The model with that many positions."""
    table = model.tensors[POSITIONS]
    trained = min(model.trained_positions, len(table))
    told = f"the {trained} that training reached, repeated (tiled) beyond them"
    if positions <= trained:
        told = f"the first of {len(table)}"
    remarks, reading = [f"{positions} positions: {told}"], model.reading
    if reading is not None and positions < reading.length:
        remarks.append(f"questions are answered in windows of {positions}, not {reading.length}")
        reading = reading._replace(length=positions)
    return replace(
        model,
        config=replace(model.config, max_positions=positions),
        tensors={**model.tensors, POSITIONS: tile_positions(table, positions, trained)},
        trained_positions=min(trained, positions),
        reading=reading,
        remarks=(*model.remarks, *remarks),
    )


def change_vocabulary(model: PortableModel, tokenizer: Tokenizer) -> PortableModel:
    """The model with the rows of another WordPiece vocabulary.

    A symbol of both keeps its row. Another one gets the mean of the rows of the pieces into which
    the old tokenizer cuts it (Gee et al. 2022), or a fresh row where it cannot; a longer one than
    any word may be, the row of [UNK].

    Raises:
        UserError: either vocabulary is not WordPiece.
    """
    if not all(t.longest_word for t in (model.tokenizer, tokenizer)):
        raise UserError(
            "--vocab maps one WordPiece vocabulary to another: this model's or the "
            "one given is another kind of tokenizer"
        )
    sources = _sources(model.tokenizer, tokenizer)
    tensors = {
        name: compose_rows(tensor, sources) if name in OF_VOCABULARY else tensor
        for name, tensor in model.tensors.items()
    }
    shared = len(set(model.tokenizer.symbols) & set(tokenizer.symbols))
    fresh = sum(not numbers for numbers in sources)
    told = (
        f"{len(sources):,} symbols: {shared:,} keep their rows, "
        f"{len(sources) - shared - fresh:,} are means of pieces, {fresh:,} are fresh"
    )
    return replace(model, tensors=tensors, tokenizer=tokenizer, remarks=(*model.remarks, told))


def _sources(old: Tokenizer, new: Tokenizer) -> list[list[int]]:
    ids = {symbol: index for index, symbol in enumerate(old.symbols)}
    return [
        [ids[symbol]] if symbol in ids else [ids[piece] for piece in _cut(symbol, old, ids)]
        for symbol in new.symbols
    ]


def _cut(symbol: str, old: Tokenizer, ids: Mapping[str, int]) -> list[str]:
    """The pieces of which the old tokenizer makes a symbol; none if it lacks one."""
    if len(symbol.removeprefix(CONTINUATION)) > old.longest_word:
        return [old.unknown]
    if symbol.startswith(CONTINUATION):
        # Spaces stand only around Chinese characters.
        inside = "".join(old.normalized(symbol.removeprefix(CONTINUATION)).split())
        return _cut_inside(inside, ids)
    pieces = old.pieces(symbol)
    return [] if old.unknown in pieces else pieces


def _cut_inside(rest: str, ids: Mapping[str, int]) -> list[str]:
    """The longest pieces, from the left, that go on with a word; none if one is lacking."""
    pieces = []
    while rest:
        ends = range(len(rest), 0, -1)
        end = next((end for end in ends if CONTINUATION + rest[:end] in ids), None)
        if end is None:
            return []
        pieces.append(CONTINUATION + rest[:end])
        rest = rest[end:]
    return pieces
