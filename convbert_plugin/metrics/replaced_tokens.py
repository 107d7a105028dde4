"""Scores of replaced-token detection, from counts that add up over batches and workers.

The entries of ``SCORES`` leave the result on the device, for logs that must not wait for it at
every update.
"""

import math
from typing import Optional

import torch
from torch import Tensor

from convbert_plugin.metrics import glue_scores
from convbert_plugin.metrics.glue_scores import ratio

BINS = 2048
"""Bins of a histogram, half of them for each sign of the logit."""

LINEAR_RANGE = 2.0
"""Logits about this far from 0 and nearer have bins about as narrow as they get: 0.009 to 0.012."""

LARGEST_LOGIT = 80.0
"""Logits from here on share the outermost bin of their sign."""

_BINS_OF_ONE_SIGN = BINS // 2
_BINS_PER_UNIT = _BINS_OF_ONE_SIGN / math.asinh(LARGEST_LOGIT / LINEAR_RANGE)


def _bin_of(logits: Tensor) -> Tensor:
    """Return the bin [N] of each logit [N]; the lower half holds the logits <= 0.

    The bins are uniform in asinh(logit / 2): narrow where logits crowd in early training, and wide
    but still many where they lie after it (0.04 at 8, 0.09 at 20).
    """
    # float32 also where autocast gives less: asinh of bfloat16 would move logits between bins.
    logits = logits if logits.dtype == torch.float64 else logits.float()
    distance = torch.asinh(logits.abs() / LINEAR_RANGE) * _BINS_PER_UNIT
    # Clamped before the conversion for infinities, and after it for NaN.
    distance = distance.clamp(max=_BINS_OF_ONE_SIGN - 1).long().clamp(0, _BINS_OF_ONE_SIGN - 1)
    return torch.where(logits > 0, _BINS_OF_ONE_SIGN + distance, _BINS_OF_ONE_SIGN - 1 - distance)


def logit_histogram(logits: Tensor, labels: Tensor, weights: Optional[Tensor] = None) -> Tensor:
    """Return the weights of the tokens by label and logit, float64 [2, BINS].

    ``logits`` [...], ``labels`` [...] (bool, or 0 and 1; 1 means replaced), ``weights`` [...]
    (a mask or numbers; 0 for padding; by default 1 everywhere). Histograms add up over batches
    and workers. The device is not waited for. A NaN counts among the logits <= 0.
    """
    with torch.no_grad():
        bins = _bin_of(logits.reshape(-1)) + BINS * labels.reshape(-1).long()
        weights = torch.ones_like(logits) if weights is None else weights
        # Not bincount: on a GPU it waits for the largest index.
        histogram = torch.zeros(2 * BINS, dtype=torch.float64, device=logits.device)
        histogram.index_add_(0, bins, weights.reshape(-1).double())
        return histogram.view(2, BINS)


def auc(histogram: Tensor) -> Tensor:
    """Return the area [] under the ROC curve of a ``logit_histogram`` [2, BINS].

    The probability that a replaced token has the higher logit of a random pair of a replaced and
    an original one; a pair in one bin counts half. 0.5 where one of the classes is missing.
    Within 0.005 of the exact value where the logits spread over two bins or more. The released
    code's AUC also counts every padding token, as an original with probability 0.
    """
    originals, replaced = histogram.double()
    originals_below = originals.cumsum(0) - originals / 2
    return ratio((replaced * originals_below).sum(), replaced.sum() * originals.sum(), 0.5)


def confusion_of(histogram: Tensor) -> Tensor:
    """Return the ``confusion`` [2, 2] of a ``logit_histogram`` [2, BINS] at probability > 0.5.

    Exact, since the middle of the histogram lies at logit 0. A logit of exactly 0 counts as
    "original", as in the released code (run_pretraining.py:177-202: ``round((sign + 1) / 2)``,
    where 0.5 rounds to 0).
    """
    return histogram.double().view(2, 2, _BINS_OF_ONE_SIGN).sum(-1)


def accuracy(histogram: Tensor) -> Tensor:
    """Return the share [] of tokens judged rightly; 0 without tokens."""
    return glue_scores.accuracy(confusion_of(histogram))


def precision(histogram: Tensor) -> Tensor:
    """Return the share [] of replaced tokens among those judged so; 0 if there are none."""
    counts = confusion_of(histogram)
    return ratio(counts[1, 1], counts[:, 1].sum())


def recall(histogram: Tensor) -> Tensor:
    """Return the share [] of the replaced tokens that were judged so; 0 if there are none."""
    counts = confusion_of(histogram)
    return ratio(counts[1, 1], counts[1].sum())


SCORES = {"auc": auc, "accuracy": accuracy, "precision": precision, "recall": recall}
