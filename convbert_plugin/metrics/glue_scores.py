"""The official scores of GLUE, over a whole set.

Those of classes are made of counts, which add up over batches and workers; those of scores need
every score. None of them is NaN where it is not defined (a single class, scores that are all the
same): it is 0 there, as scikit-learn has it, so that a best checkpoint can be told.
"""

import math
from typing import Iterable, Sequence

import torch
from torch import Tensor


def confusion(predicted: Tensor, gold: Tensor, classes: int) -> Tensor:
    """Return how many examples of each class were judged each way, float64 [gold, predicted].

    ``predicted`` [n] and ``gold`` [n]: classes from 0. The device is not waited for.
    """
    counts = torch.zeros(classes * classes, dtype=torch.float64, device=gold.device)
    ones = torch.ones_like(gold, dtype=torch.float64)
    return counts.index_add_(0, gold * classes + predicted, ones).view(classes, classes)


def accuracy(counts: Tensor) -> Tensor:
    """Return the share [] of examples judged rightly, of a ``confusion`` [C, C]."""
    return ratio(counts.diagonal().sum(), counts.sum())


def f1(counts: Tensor) -> Tensor:
    """Return the F1 score [] of the second of two classes, of a ``confusion`` [2, 2]."""
    true_positives = counts[1, 1]
    return ratio(2 * true_positives, counts[1].sum() + counts[:, 1].sum())


def mcc(counts: Tensor) -> Tensor:
    """Return Matthews' correlation coefficient [] of a ``confusion`` [C, C].

    Source: Gorodkin 2004, which for two classes is Matthews 1975.
    """
    total = counts.sum()
    gold, predicted = counts.sum(1), counts.sum(0)
    covariance = counts.diagonal().sum() * total - gold @ predicted
    variances = (total**2 - gold @ gold) * (total**2 - predicted @ predicted)
    return ratio(covariance, variances.sqrt())


def pearson(scores: Tensor, gold: Tensor) -> Tensor:
    """Return Pearson's correlation [] of scores [n]."""
    return _correlation("pearsonr", scores, gold)


def spearman(scores: Tensor, gold: Tensor) -> Tensor:
    """Return Spearman's rank correlation [] of scores [n]."""
    return _correlation("spearmanr", scores, gold)


def _correlation(function: str, scores: Tensor, gold: Tensor) -> Tensor:
    from scipy import stats

    scores, gold = scores.double().cpu(), gold.double().cpu()
    if _is_constant(scores) or _is_constant(gold) or not bool(scores.isfinite().all()):
        return torch.zeros((), dtype=torch.float64)
    value = float(getattr(stats, function)(scores.numpy(), gold.numpy()).statistic)
    return torch.tensor(0.0 if math.isnan(value) else value, dtype=torch.float64)


def _is_constant(values: Tensor) -> bool:
    return len(values) < 2 or bool((values == values[0]).all())


def ratio(numerator: Tensor, denominator: Tensor, otherwise: float = 0.0) -> Tensor:
    """Return a quotient [], and ``otherwise`` where the denominator is 0."""
    return torch.where(denominator > 0, numerator / denominator, otherwise)


METRICS_OF_CLASSES = {"accuracy": accuracy, "f1": f1, "mcc": mcc}
METRICS_OF_SCORES = {"pearson": pearson, "spearman": spearman}


def majority_scores(
    label_counts: Sequence[int], majority: int, names: Iterable[str]
) -> dict[str, float]:
    """The metrics of judging every example to be of the class ``majority``."""
    counts = torch.zeros(len(label_counts), len(label_counts), dtype=torch.float64)
    counts[:, majority] = torch.as_tensor(label_counts, dtype=torch.float64)
    return {name: METRICS_OF_CLASSES[name](counts).item() for name in names}
