"""Prepared GLUE rows to batches."""

from typing import List, NamedTuple, Sequence

import numpy as np
import torch

from convbert_plugin.data.binarized import IndexedLines
from convbert_plugin.data.collation import collate
from convbert_plugin.data.glue.glue_files import PreparedRows
from convbert_plugin.data.length_batches import LengthBatchedDataset
from convbert_plugin.data.pairs import join
from convbert_plugin.data.vocabulary import Vocabulary


class GlueOptions(NamedTuple):
    """How examples are built; lengths count [CLS] and [SEP].

    ``double_unordered``: every pair stands there a second time, its texts exchanged. ``output``:
    the scope of the head that answers.
    """

    max_length: int
    double_unordered: bool
    pad_to_max_length: bool
    output: str


class GlueDataset(LengthBatchedDataset):
    """[CLS] A [SEP] (B [SEP]) with a class or a score, in batches of like length."""

    def __init__(self, rows: PreparedRows, vocabulary: Vocabulary, options: GlueOptions):
        super().__init__()
        self.rows = rows
        self.vocabulary = vocabulary
        self.options = options
        self.row_count = len(rows.texts[0])
        lengths = np.stack([np.asarray(lines.sizes) - 1 for lines in rows.texts])
        specials = 1 + len(lengths)
        self.full_lengths = np.tile(
            lengths.sum(axis=0) + specials, 2 if options.double_unordered else 1
        )
        self.sizes = np.minimum(self.full_lengths, options.max_length)

    def lines_read(self) -> Sequence[IndexedLines]:
        return self.rows.texts

    def __getitem__(self, index: int) -> dict:
        """One example: its id, tokens, segments and target, where there is one."""
        row = index % self.row_count
        texts = [lines[row].numpy()[:-1] for lines in self.rows.texts]
        if index >= self.row_count:
            texts.reverse()
        joined = join(texts, self.vocabulary.bos(), self.vocabulary.eos(), self.options.max_length)
        targets = self.rows.targets
        return {
            "id": index,
            "tokens": torch.from_numpy(joined.tokens),
            "segments": torch.from_numpy(joined.segments),
            "target": None if targets is None else targets[row],
        }

    def collater(self, examples: List[dict]) -> dict:
        """A batch [B, T] padded on the right; ``rows`` says how many examples the split has."""
        if not examples:
            return {}
        options = self.options
        pad_to = options.max_length if options.pad_to_max_length else None
        batch = collate(examples, self.vocabulary.pad(), options.output, pad_to)
        batch["rows"] = len(self)
        if self.rows.targets is not None:
            # Scores stay in float64: fairseq halves the float32 tensors of a batch under --fp16.
            batch["target"] = torch.from_numpy(
                np.array([example["target"] for example in examples])
            )
        return batch
