"""Documents to masked batches, example by example, at load time."""

from typing import List, NamedTuple, Tuple

import numpy as np
import torch

from convbert_plugin.data.binarized import IndexedLines
from convbert_plugin.data.collation import PRETRAINING, collate
from convbert_plugin.data.length_batches import LengthBatchedDataset
from convbert_plugin.data.pairs import frame
from convbert_plugin.data.pretraining.blocks import full_blocks, whole_line_blocks
from convbert_plugin.data.pretraining.masking import MASKING_RECIPES, mask_tokens, masked_count
from convbert_plugin.data.pretraining.segments import SPECIALS_OF_TWO_SEGMENTS, split_into_segments
from convbert_plugin.data.vocabulary import Vocabulary


class PretrainingOptions(NamedTuple):
    """How examples are built; lengths count [CLS] and [SEP]."""

    max_length: int
    mask_prob: float
    objective: str
    mask_with_replacement: bool
    full_blocks: bool
    pad_to_max_length: bool
    seed: int


class PretrainingDataset(LengthBatchedDataset):
    """[CLS] A [SEP] (B [SEP]) from binarized lines, masked anew in every epoch.

    Segments, masks and the numbers that choose the replacements are a function of (seed, epoch,
    index) alone: the same for any number of workers, any batch size and after a resume.

    Args:
        lines: indexed lines [n + 1] that end in the separator; an empty one ends a document.
        sizes: their lengths.
        vocabulary: names the special tokens.
    """

    def __init__(
        self,
        lines: IndexedLines,
        sizes: np.ndarray,
        vocabulary: Vocabulary,
        options: PretrainingOptions,
    ):
        super().__init__()
        self.lines = lines
        self.vocabulary = vocabulary
        self.options = options
        if options.full_blocks:
            self.blocks, specials = full_blocks(sizes, options.max_length), 2
        else:
            self.blocks = whole_line_blocks(sizes, options.max_length, options.seed)
            specials = SPECIALS_OF_TWO_SEGMENTS
        # At most one token more than an example turns out to have.
        self.sizes = np.minimum(self.blocks.tokens + specials, options.max_length)
        self.text_tokens = int((self.sizes - specials).sum())
        self.recipe = MASKING_RECIPES[options.objective]
        special = np.zeros(len(vocabulary), dtype=bool)
        special[list(vocabulary.special_ids())] = True
        self.is_special = special
        self.replaceable_ids = np.flatnonzero(~special)
        self.epoch = 1

    def lines_read(self) -> List[IndexedLines]:
        return [self.lines]

    def __getitem__(self, index: int) -> dict:
        """One example: its id, tokens, masked tokens, segments, masked positions and uniforms."""
        options = self.options
        rng = np.random.default_rng((options.seed, self.epoch, index))
        first, second = self._segments(index, rng)
        texts = [first, second] if len(second) else [first]
        tokens, segments = frame(texts, self.vocabulary.bos(), self.vocabulary.eos())
        masking = mask_tokens(
            tokens,
            np.flatnonzero(~self.is_special[tokens]),
            masked_count(len(tokens), options.mask_prob, options.max_length),
            self.recipe,
            self.vocabulary.mask(),
            self.replaceable_ids,
            options.mask_with_replacement,
            rng,
        )
        # In float64, because fairseq halves the float32 tensors of a batch under --fp16; drawn in
        # float32, because one that rounds to 1 there would draw the last token of the vocabulary.
        uniforms = rng.random(len(masking.positions), dtype=np.float32).astype(np.float64)
        return {
            "id": index,
            "tokens": torch.from_numpy(masking.tokens),
            "segments": torch.from_numpy(segments),
            "positions": torch.from_numpy(masking.positions),
            "targets": torch.from_numpy(tokens[masking.positions]),
            "uniforms": torch.from_numpy(uniforms),
        }

    def collater(self, examples: List[dict]) -> dict:
        """A batch [B, T] padded on the right, its masked positions counted through the batch."""
        if not examples:
            return {}
        pad_to = self.options.max_length if self.options.pad_to_max_length else None
        batch = collate(examples, self.vocabulary.pad(), PRETRAINING, pad_to)
        width = batch["net_input"]["src_tokens"].size(1)
        targets = torch.cat([example["targets"] for example in examples])
        batch["net_input"] |= {
            "masked_positions": torch.cat(
                [row * width + example["positions"] for row, example in enumerate(examples)]
            ),
            "masked_targets": targets,
            "uniforms": torch.cat([example["uniforms"] for example in examples]),
        }
        slots = batch["net_input"]["src_tokens"].numel()
        return {**batch, "target": targets, "slots": slots}

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def _segments(self, index: int, rng: np.random.Generator) -> Tuple[np.ndarray, np.ndarray]:
        lines = self._block_lines(index)
        if self.options.full_blocks:
            return np.concatenate(lines), np.zeros(0, dtype=np.int64)
        target = int(self.blocks.target[index])
        return split_into_segments(lines, target, self.options.max_length, rng)

    def _block_lines(self, index: int) -> List[np.ndarray]:
        line = int(self.blocks.first_line[index])
        skipped = int(self.blocks.skipped[index])
        remaining = int(self.blocks.tokens[index])
        lines = []
        while remaining > 0:
            tokens = self.lines[line].numpy()[skipped:-1][:remaining]
            lines.append(tokens.astype(np.int64, copy=False))
            remaining -= len(tokens)
            skipped = 0
            line += 1
        return lines
