"""Batches of examples of like length, none of them left out."""

from typing import Any, Iterable, Optional, Sequence

import numpy as np
from fairseq.data import FairseqDataset

from convbert_plugin.data.binarized import IndexedLines
from convbert_plugin.data.indexed_reading import JoinedLines, LineFile
from convbert_plugin.errors import UserError


class LengthBatchedDataset(FairseqDataset):
    """What data sets of examples with known ``sizes`` [n] share: how they are put into batches."""

    sizes: np.ndarray

    def lines_read(self) -> Iterable[IndexedLines]:
        """What the examples are made of."""
        raise NotImplementedError

    def check_unchanged(self) -> None:
        """Raise UserError where a file that is read was written to since it was opened."""
        for lines in self.lines_read():
            if isinstance(lines, (LineFile, JoinedLines)):
                lines.check_unchanged()

    def __len__(self) -> int:
        return len(self.sizes)

    def num_tokens(self, index: int) -> int:
        return int(self.sizes[index])

    def size(self, index: int) -> int:
        return self.num_tokens(index)

    def num_tokens_vec(self, indices: np.ndarray) -> np.ndarray:
        return self.sizes[indices]

    def ordered_indices(self) -> np.ndarray:
        """Examples by length, in random order within a length."""
        shuffled = np.random.permutation(len(self))
        return shuffled[np.argsort(self.sizes[shuffled], kind="stable")]

    def filter_indices_by_size(
        self, indices: np.ndarray, max_sizes: Any
    ) -> tuple[np.ndarray, list[int]]:
        """All of them: fairseq would leave out what is longer than --max-tokens."""
        return indices, []

    def batch_by_size(
        self, indices: np.ndarray, max_tokens: Optional[int] = None, **limits: Any
    ) -> Sequence[np.ndarray]:
        """Batches as fairseq makes them, full ones and one rest.

        ``required_batch_size_multiple`` is passed over: up to that many examples less one would be
        left out.

        Raises:
            UserError: an example that is longer than ``max_tokens``.
        """
        longest = self.num_tokens_vec(indices).max()
        if max_tokens is not None and longest > max_tokens:
            raise UserError(
                f"--max-tokens {max_tokens}: the longest example has {longest} tokens: raise it, "
                "or lower --tokens-per-sample"
            )
        limits |= {"max_tokens": max_tokens, "required_batch_size_multiple": 1}
        return super().batch_by_size(indices, **limits)

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        """Batches are put together anew, from the epoch's seed: so a resumed run makes the same."""
        return False
