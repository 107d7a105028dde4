"""What predicting shares: a checkpoint that data was prepared for, and how far it reaches."""

from pathlib import Path
from typing import Callable

from convbert_plugin.data.length_batches import LengthBatchedDataset
from convbert_plugin.data.vocabulary import Vocabulary, check_same_vocabulary
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.formats.fairseq_checkpoint import FairseqCheckpoint, read_checkpoint
from convbert_plugin.formats.finding import checkpoint_at
from convbert_plugin.models.loading import untrained_positions
from convbert_plugin.tokenization.tokenizer_files import DICTIONARY_FILE


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


def tell_of_positions(
    path: Path, dataset: LengthBatchedDataset, usable: int, tell: Callable[[str], None]
) -> None:
    """Tell it where examples reach positions that were never trained."""
    if (longest := int(dataset.sizes.max())) > usable:
        tell(untrained_positions(path, longest, usable))
