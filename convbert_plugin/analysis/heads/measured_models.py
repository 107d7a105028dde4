"""Models that read the same texts, measured side by side."""

import os
from pathlib import Path
from typing import Any, Callable, Iterable, NamedTuple, Optional, Sequence

from convbert_plugin.analysis.heads.corpus_batches import CorpusText
from convbert_plugin.analysis.heads.kernel_search import Head
from convbert_plugin.analysis.heads.measuring_heads import (
    WITHOUT_KERNELS,
    check_head,
    measured_heads,
)
from convbert_plugin.errors import UserError, counted, shown
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.models.hub_interface import ConvBertHubInterface


class ReadTexts(NamedTuple):
    """Texts as one model reads them."""

    convbert: ConvBertHubInterface
    texts: Sequence[CorpusText]

    def words(self, place: int) -> list[str]:
        """The tokens of one of them."""
        vocabulary = self.convbert.vocabulary
        return [vocabulary[token] for token in self.texts[place].tokens.tolist()]


class MeasuredModel(NamedTuple):
    """A model under a short name, the texts as it reads them, and what was measured in them."""

    name: str
    read: ReadTexts
    found: dict[str, Any]

    @property
    def layers(self) -> int:
        return len(self.found["attention"]["local_share"])

    @property
    def heads(self) -> int:
        return len(self.found["attention"]["local_share"][0])

    @property
    def taps(self) -> int:
        """0 where it has no kernels of its own at every position."""
        kernels = self.found["kernels"]
        return len(kernels["mean_kernel"][0][0]) if kernels else 0

    @property
    def conv_type(self) -> str:
        return self.read.convbert.model.shape.conv_type


def measured_models(
    named: Sequence[tuple[str, ReadTexts]],
    text_path: PathLike,
    reach: int,
    head: Optional[Head],
    places: int,
    track: Callable[[Iterable], Iterable] = iter,
) -> list[MeasuredModel]:
    """Each of them; the kernels of a head are searched in those that have kernels.

    Raises:
        UserError: models that do not read the same tokens in the texts, or that head in none.
    """
    models = [read.convbert for _, read in named]
    with_kernels = [each for each in models if each.model.shape.conv_type not in WITHOUT_KERNELS]
    searched = (with_kernels or models) if head else []
    if head:
        for convbert in searched:
            check_head(convbert, head)
    _check_same_tokens([read for _, read in named], text_path)
    return [
        MeasuredModel(
            name,
            read,
            measured_heads(
                read.convbert, read.texts, reach, head if read.convbert in searched else None,
                places, track,
            ),
        )
        for name, read in named
    ]  # fmt: skip


def _check_same_tokens(read: Sequence[ReadTexts], text_path: PathLike) -> None:
    first, *others = read
    for other in others:
        for place, text in enumerate(first.texts):
            here, there = first.words(place), other.words(place)
            if here == there:
                continue
            pairs = zip(here, there, strict=False)
            at = next((at for at, pair in enumerate(pairs) if pair[0] != pair[1]), None)
            difference = (
                f"{counted(len(there), 'token')}, not {len(here)}"
                if at is None
                else f"{shown(there[at])} as token {at}, not {shown(here[at])}"
            )
            raise UserError(
                f"{other.convbert.run.path}: reads line {text.line} of {text_path} otherwise than "
                f"{first.convbert.run.path} ({difference}): measure them apart, or models of one "
                "vocabulary"
            )


def model_names(checkpoints: Sequence[Path]) -> list[str]:
    """What tells checkpoints apart: the parts of their paths that differ.

    Raises:
        UserError: the same one twice.
    """
    real = [os.path.realpath(checkpoint) for checkpoint in checkpoints]
    twice = next((path for path in checkpoints if real.count(os.path.realpath(path)) > 1), None)
    if twice is not None:
        raise UserError(f"--path {twice}: given twice: name each model once")
    if len(real) == 1:
        return [Path(real[0]).parent.name or real[0]]
    common = os.path.commonpath([os.path.dirname(path) for path in real])
    names = [os.path.relpath(path, common) for path in real]
    folders = [os.path.dirname(name) for name in names]
    return folders if all(folders) and len(set(folders)) == len(folders) else names


def values_of_models(models: Sequence[MeasuredModel], text_path: PathLike) -> dict[str, Any]:
    """All numbers, plain: of one model beside its checkpoint, of several a list of such."""
    each = [
        {"checkpoint": str(model.read.convbert.run.path), "text": str(text_path), **model.found}
        for model in models
    ]
    if len(each) == 1:
        return each[0]
    named = zip(models, each, strict=True)
    return {"models": [{"name": model.name, **values} for model, values in named]}
