"""The texts of a file, as batches of token ids."""

from typing import Callable, Iterable, Iterator, NamedTuple, Optional

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from convbert_plugin.errors import UserError
from convbert_plugin.files.text_files import PathLike, read_blocks
from convbert_plugin.models.hub_interface import ConvBertHubInterface

# Attention maps have so many numbers in each layer and head at once, beyond which a batch is one
# text.
NUMBERS_AT_ONCE = 1 << 19


class CorpusText(NamedTuple):
    """Ids [T] of one line, which counts from 1."""

    line: int
    tokens: Tensor


class CorpusBatch(NamedTuple):
    """Texts, and their ids [B, T], padded on the right."""

    texts: list[CorpusText]
    tokens: Tensor


def corpus_texts(
    convbert: ConvBertHubInterface,
    path: PathLike,
    longest: Optional[int],
    show: Callable[[int], None] = lambda position: None,
) -> list[CorpusText]:
    """One of each line that holds text, cut to ``longest`` tokens where that is given.

    Raises:
        UserError: no text, or a line of more tokens than the model has positions.
    """
    most = convbert.model.max_positions()
    if longest is not None and not 2 < longest <= most:
        raise UserError(f"--tokens-per-sample {longest}: choose from 3 to the model's {most}")
    texts = []
    for block in read_blocks(path, show):
        for number, line in enumerate(block.lines(), block.first_line):
            if not line.strip():
                continue
            tokens = convbert.encode(line, whole=True)
            if longest is not None and len(tokens) > longest:
                # The separator stays.
                tokens = torch.cat([tokens[: longest - 1], tokens[-1:]])
            if len(tokens) > most:
                raise UserError(
                    f"{path}: line {number}: {len(tokens)} tokens, where the model has {most} "
                    f"positions: split it, or cut all texts by --tokens-per-sample {most}"
                )
            texts.append(CorpusText(number, tokens))
    if not texts:
        raise UserError(f"{path}: holds no text: give one with a text a line")
    return texts


def corpus_batches(
    convbert: ConvBertHubInterface, texts: Iterable[CorpusText]
) -> Iterator[CorpusBatch]:
    """The texts by length, as many at once as memory allows.

    Where pads are visible, of equal texts alone: the others would see them.
    """
    pad, is_alone = convbert.vocabulary.pad(), convbert.model.cfg.pads_visible
    waiting: list[CorpusText] = []
    for text in sorted(texts, key=lambda text: len(text.tokens)):
        size = len(text.tokens)
        is_unequal = is_alone and waiting and len(waiting[0].tokens) != size
        if waiting and (is_unequal or (len(waiting) + 1) * size**2 > NUMBERS_AT_ONCE):
            yield _batch(waiting, pad)
            waiting = []
        waiting.append(text)
    if waiting:
        yield _batch(waiting, pad)


def _batch(texts: list[CorpusText], pad: int) -> CorpusBatch:
    ids = [text.tokens for text in texts]
    return CorpusBatch(texts, pad_sequence(ids, batch_first=True, padding_value=pad))
