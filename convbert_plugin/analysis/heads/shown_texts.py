"""The texts that a page shows: which, and what every head looks at in them as characters."""

import string
from typing import Any, Iterable, NamedTuple, Optional, Sequence

import numpy as np
import torch
from torch import Tensor

from convbert_plugin.analysis.heads.corpus_batches import CorpusText
from convbert_plugin.analysis.heads.measured_models import MeasuredModel
from convbert_plugin.analysis.words import printable
from convbert_plugin.modules.mixed_attention import AttentionMaps

# Of all maps and kernels on a page together, which leaves half of 3 MB to the rest of it.
MOST_CHARACTERS = 1_500_000
MOST_TEXTS = 200
# A number from 0 to 1 in 4,095ths, as two characters: off by at most 0.0125 of a percent.
DIGITS = np.frombuffer(
    (string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/").encode(), np.uint8
)
STEPS = len(DIGITS) ** 2 - 1


class ShownText(NamedTuple):
    """The first ``size`` tokens of a text, which is ``place``-th of all."""

    place: int
    text: CorpusText
    size: int

    @property
    def is_whole(self) -> bool:
        return self.size == len(self.text.tokens)


def texts_to_show(
    models: Sequence[MeasuredModel],
    texts: Sequence[CorpusText],
    wanted_lines: Iterable[int] = (),
    most_characters: int = MOST_CHARACTERS,
) -> list[ShownText]:
    """The first text, as much of it as fits; then those of wanted lines and all others, whole.

    Whatever still fits is taken, and shown in the order of the file.
    """

    def cost(size: int, is_whole: bool = True) -> int:
        return sum(_characters(model, size, is_whole) for model in models)

    size = len(texts[0].tokens)
    while size > 1 and cost(size, size == len(texts[0].tokens)) > most_characters:
        size -= 1
    first = ShownText(0, texts[0], size)
    left = most_characters - cost(size, first.is_whole)
    by_line = {text.line: place for place, text in enumerate(texts)}
    order = dict.fromkeys([*(by_line[line] for line in wanted_lines), *range(len(texts))])
    shown = [first]
    for place in order:
        needed = cost(len(texts[place].tokens))
        if place and needed <= left and len(shown) < MOST_TEXTS:
            shown.append(ShownText(place, texts[place], len(texts[place].tokens)))
            left -= needed
    return sorted(shown)


def _characters(model: MeasuredModel, size: int, is_whole: bool) -> int:
    columns = size if is_whole else size + 1
    return 2 * model.layers * model.heads * size * (columns + model.taps)


def maps_of(model: MeasuredModel, shown: ShownText) -> AttentionMaps:
    """Attention [L, H, N, N] and kernels [L, H, N, K] (or None) of the N tokens that are shown.

    Of a text that is not shown whole attention is [L, H, N, N + 1]: what goes to tokens beyond
    stands last.
    """
    size = shown.size
    maps = model.read.convbert.extract_attention(model.read.texts[shown.place].tokens)
    attention = maps.attention[:, 0, :, :size].double().cpu()
    near, beyond = attention[..., :size], attention[..., size:]
    if not shown.is_whole:
        near = torch.cat([near, beyond.sum(dim=-1, keepdim=True)], dim=-1)
    kernels = maps.kernels
    return AttentionMaps(near, None if kernels is None else kernels[:, 0, :, :size].cpu())


def coded(numbers: Optional[Tensor]) -> str:
    """Numbers from 0 to 1, the last dimension first, two characters each; nothing of None."""
    if numbers is None:
        return ""
    steps = np.rint(numbers.double().flatten().numpy() * STEPS).astype(np.int64)
    digits = np.stack([steps // len(DIGITS), steps % len(DIGITS)], axis=-1)
    return DIGITS[digits].tobytes().decode()


def values_of(models: Sequence[MeasuredModel], shown: ShownText) -> dict[str, Any]:
    """What the page's script reads of one text."""
    maps = [maps_of(model, shown) for model in models]
    return {
        "line": shown.text.line,
        "words": list(map(printable, models[0].read.words(shown.place)[: shown.size])),
        "tokens": len(shown.text.tokens),
        "attention": [coded(each.attention) for each in maps],
        "kernels": [coded(each.kernels) for each in maps],
    }
