"""A corpus through a model: what its heads look at, in numbers and as a table."""

from typing import Any, Callable, Iterable, Optional, Sequence

from convbert_plugin.analysis.heads.corpus_batches import CorpusText, corpus_batches
from convbert_plugin.analysis.heads.head_totals import HeadTotals
from convbert_plugin.analysis.heads.kernel_search import Head, KernelSearch
from convbert_plugin.analysis.words import aligned
from convbert_plugin.errors import UserError
from convbert_plugin.models.hub_interface import ConvBertHubInterface

# Convolutions that have no kernel at every position.
WITHOUT_KERNELS = ("none", "conv")


def measured_heads(
    convbert: ConvBertHubInterface,
    texts: Sequence[CorpusText],
    reach: int,
    head: Optional[Head],
    places: int,
    track: Callable[[Iterable], Iterable] = iter,
) -> dict[str, Any]:
    """The measures of all heads, and the search through the kernels of one if that is named.

    Raises:
        UserError: a head that the model has not, or of which it has no kernels.
    """
    if head is not None:
        check_head(convbert, head)
    totals, search = HeadTotals(reach), KernelSearch(head) if head else None
    for batch in track(list(corpus_batches(convbert, texts))):
        maps = convbert.extract_attention(batch.tokens)
        totals.add(maps, (len(text.tokens) for text in batch.texts))
        if search is not None and maps.kernels is not None:
            search.add(batch, maps.kernels)
    found = totals.result()
    if search is not None:
        found["search"] = search.result(convbert.vocabulary, places)
    return found


def check_head(convbert: ConvBertHubInterface, head: Head) -> None:
    """Raise UserError where the model has no such head, or no kernels of it."""
    shape = convbert.model.shape
    heads = shape.mixed_heads.number
    if shape.conv_type in WITHOUT_KERNELS:
        raise UserError(
            f"--head {head.layer}.{head.number}: {convbert.run.path} has no kernels of its own at "
            f"every position (its --conv-type is {shape.conv_type}): leave it out"
        )
    if head.layer >= shape.layers or head.number >= heads:
        raise UserError(
            f"--head {head.layer}.{head.number}: {convbert.run.path} has layers 0 to "
            f"{shape.layers - 1} and heads 0 to {heads - 1}"
        )


def layer_table(found: dict[str, Any]) -> list[list[str]]:
    """A header, a row a layer, and one of the uniform pattern.

    Means over the heads of a layer, with the least and the most local one.
    """
    attention, kernels, uniform = found["attention"], found["kernels"], found["uniform"]
    reach = found["reach"]
    rows = [["layer", f"within ±{reach}", "of the heads", "mean distance"]]
    if kernels:
        rows[0] += ["kernels' entropy", "centre", "told by the token"]
    for layer, shares in enumerate(attention["local_share"]):
        row = [
            str(layer),
            f"{_mean(shares):.1%}",
            f"{min(shares):.1%} to {max(shares):.1%}",
            f"{_mean(attention['mean_distance'][layer]):.2f}",
        ]
        if kernels:
            names = ("entropy", "centre", "token_information")
            row += [f"{_mean(kernels[name][layer]):z.3f}" for name in names]
        rows.append(row)
    last = ["uniform", f"{uniform['local_share']:.1%}", "", f"{uniform['mean_distance']:.2f}"]
    return [*rows, last + [""] * (len(rows[0]) - len(last))]


def heads_text(found: dict[str, Any]) -> str:
    """The table for a terminal."""
    header, *rows = layer_table(found)
    return "".join(f"{line}\n" for line in aligned(header, rows, header))


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)
