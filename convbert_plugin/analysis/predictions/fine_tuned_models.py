"""What predicting shares: a checkpoint that data was prepared for, and its model over batches."""

from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Sequence

import numpy as np
import torch

from convbert_plugin.data.length_batches import LengthBatchedDataset
from convbert_plugin.data.vocabulary import Vocabulary, check_same_vocabulary
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.formats.fairseq_checkpoint import FairseqCheckpoint, read_checkpoint
from convbert_plugin.formats.finding import checkpoint_at
from convbert_plugin.models.convbert import ConvBertModel
from convbert_plugin.models.loading import untrained_positions
from convbert_plugin.tokenization.tokenizer_files import DICTIONARY_FILE

Track = Callable[[Sequence], Iterable]
"""Goes through a sequence, and shows how far it is."""


def untracked(batches: Sequence) -> Iterable:
    """Show nothing."""
    return batches


def checkpoint_for(
    checkpoint_path: PathLike, data: PathLike, vocabulary: Vocabulary
) -> tuple[Path, FairseqCheckpoint]:
    """Read the checkpoint at a path, or in a folder, for data prepared with a vocabulary.

    Raises:
        UserError: it is missing, damaged or of another vocabulary.
    """
    path = checkpoint_at(checkpoint_path)
    checkpoint, beside = read_checkpoint(path), path.with_name(DICTIONARY_FILE)
    # An earlier version kept the tokenizer only there.
    told = Vocabulary.load(beside).description() if beside.is_file() else {}
    check_same_vocabulary(
        vocabulary,
        {**told, **checkpoint.kept},
        f"{data}: was prepared with another vocabulary than {path}: prepare it again with "
        f"--tokenizer {path.parent}",
    )
    return path, checkpoint


def outputs_of(
    model: ConvBertModel,
    dataset: LengthBatchedDataset,
    batch_size: int,
    device: str = "cpu",
    track: Track = untracked,
) -> Iterator[tuple[dict, Any]]:
    """Each batch of a set, the shortest examples first, and what the model makes of it."""
    model = model.to(device)
    order = np.argsort(dataset.sizes, kind="stable")
    for numbers in track(dataset.batch_by_size(order, max_sentences=batch_size)):
        batch = dataset.collater([dataset[int(number)] for number in numbers])
        inputs = {
            name: value.to(device) if torch.is_tensor(value) else value
            for name, value in batch["net_input"].items()
        }
        with torch.no_grad():
            yield batch, model(**inputs)


def tell_of_positions(
    path: Path, dataset: LengthBatchedDataset, usable: int, tell: Callable[[str], None]
) -> None:
    """Tell it where examples reach positions that were never trained."""
    if (longest := int(dataset.sizes.max())) > usable:
        tell(untrained_positions(path, longest, usable))
