"""What a model makes of a data set."""

from typing import Any, Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from fairseq.models import BaseFairseqModel

from convbert_plugin.data.length_batches import LengthBatchedDataset

Track = Callable[[Sequence], Iterable]
"""Goes through a sequence, and shows how far it is."""


def untracked(batches: Sequence) -> Iterable:
    """Show nothing."""
    return batches


def outputs_of(
    model: BaseFairseqModel,
    dataset: LengthBatchedDataset,
    batch_size: int,
    track: Track = untracked,
) -> Iterator[tuple[dict, Any]]:
    """Each batch of a set, the shortest examples first, and what the model makes of it."""
    device = next(model.parameters()).device
    order = np.argsort(dataset.sizes, kind="stable")
    for numbers in track(dataset.batch_by_size(order, max_sentences=batch_size)):
        batch = dataset.collater([dataset[int(number)] for number in numbers])
        inputs = {
            name: value.to(device) if torch.is_tensor(value) else value
            for name, value in batch["net_input"].items()
        }
        with torch.no_grad():
            yield batch, model(**inputs)
