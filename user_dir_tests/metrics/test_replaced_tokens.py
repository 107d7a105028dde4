"""The replaced-token scores against scikit-learn on the logits themselves."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from convbert_plugin.metrics.replaced_tokens import (
    BINS,
    SCORES,
    auc,
    confusion_of,
    logit_histogram,
)

# What half credit for pairs in one bin may cost; see the width of the bins.
AUC_TOLERANCE = 0.005


def auc_from_histogram(histogram):
    return auc(histogram).item()


def scores_from_histogram(histogram):
    return {name: score(histogram).item() for name, score in SCORES.items()}


def _labels_and_noise(examples, positive_rate):
    generator = np.random.default_rng(7)
    return generator.random(examples) < positive_rate, generator.normal(size=examples)


# name: examples, rate of replaced tokens, logits from (label, standard normal noise)
DISTRIBUTIONS = {
    "random": (100_000, 0.15, lambda label, noise: noise),
    "informative": (100_000, 0.15, lambda label, noise: -2 + 3 * label + noise),
    "anti-informative": (100_000, 0.15, lambda label, noise: -2 * label + noise),
    "perfect": (100_000, 0.15, lambda label, noise: np.where(label, 5, -5) + 0.1 * noise),
    "constant": (100_000, 0.15, lambda label, noise: np.full_like(noise, -1.7)),
    "clustered": (1_000_000, 0.15, lambda label, noise: -2 + 0.05 * (label + noise)),
    "clustered far out": (100_000, 0.15, lambda label, noise: -5 + 0.05 * (label + noise)),
    "rare": (1_000_000, 0.001, lambda label, noise: -7 + 2 * label + noise),
    "wide": (100_000, 0.15, lambda label, noise: 20 * (label + noise)),
    "all above 10": (100_000, 0.15, lambda label, noise: 30 + 3 * (label + noise)),
    "saturated": (100_000, 0.15, lambda label, noise: 1e4 * np.sign(label + noise)),
    "infinite": (100_000, 0.15, lambda label, noise: np.inf * np.sign(label + noise)),
}


def _draw(name):
    examples, positive_rate, logits_of = DISTRIBUTIONS[name]
    labels, noise = _labels_and_noise(examples, positive_rate)
    return logits_of(labels, noise).astype(np.float32), labels


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_scores_are_scikit_learns(name):
    logits, labels = _draw(name)
    scores = scores_from_histogram(logit_histogram(torch.tensor(logits), torch.tensor(labels)))
    # scikit-learn takes no infinities; only the order counts.
    exact = sklearn_metrics.roc_auc_score(labels, np.clip(logits, -1e5, 1e5))
    assert scores["auc"] == pytest.approx(exact, abs=AUC_TOLERANCE)

    predictions = logits > 0
    assert scores["accuracy"] == sklearn_metrics.accuracy_score(labels, predictions)
    assert scores["precision"] == sklearn_metrics.precision_score(
        labels, predictions, zero_division=0
    )
    assert scores["recall"] == sklearn_metrics.recall_score(labels, predictions, zero_division=0)
    assert all(type(score) is float for score in scores.values())


def test_auc_of_hand_worked_ties():
    # Replaced: 1 and 2; originals: 1 and 0. Pairs: tie, above, above, above.
    logits = torch.tensor([1.0, 2.0, 1.0, 0.0])
    histogram = logit_histogram(logits, torch.tensor([1, 1, 0, 0]))
    assert auc_from_histogram(histogram) == (0.5 + 1 + 1 + 1) / 4


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_auc_of_one_class_is_a_half(labels):
    histogram = logit_histogram(torch.tensor([-1.0, 0.0, 3.0]), torch.tensor(labels))
    assert auc_from_histogram(histogram) == 0.5


def test_an_empty_histogram_has_scores():
    scores = scores_from_histogram(torch.zeros(2, BINS, dtype=torch.float64))
    assert scores == {"auc": 0.5, "accuracy": 0.0, "precision": 0.0, "recall": 0.0}


def test_histograms_add_up_over_batches_and_leave_out_padding():
    logits, labels = (torch.tensor(values[:10_001]) for values in _draw("informative"))
    whole = logit_histogram(logits, labels)
    first = logit_histogram(logits[:4_000], labels[:4_000])
    # The rest comes as a padded batch [2, 3100] of which 199 are padding with absurd logits.
    padded = torch.full((6_200,), 50.0)
    padded[:6_001] = logits[4_000:]
    padded_labels = torch.ones(6_200, dtype=torch.long)
    padded_labels[:6_001] = labels[4_000:].long()
    mask = torch.arange(6_200) < 6_001
    rest = logit_histogram(padded.view(2, -1), padded_labels.view(2, -1), mask.view(2, -1))
    assert torch.equal(first + rest, whole)
    assert whole.shape == (2, BINS)
    assert whole.dtype == torch.float64
    assert whole.sum(1).tolist() == [(~labels).sum().item(), labels.sum().item()]


def test_fractional_weights_are_scikit_learns_sample_weights():
    logits, labels = (values[:5_000] for values in _draw("informative"))
    weights = np.random.default_rng(1).random(5_000)
    histogram = logit_histogram(*map(torch.tensor, (logits, labels, weights)))
    expected = sklearn_metrics.roc_auc_score(labels, logits, sample_weight=weights)
    assert auc_from_histogram(histogram) == pytest.approx(expected, abs=AUC_TOLERANCE)
    expected = sklearn_metrics.accuracy_score(labels, logits > 0, sample_weight=weights)
    assert scores_from_histogram(histogram)["accuracy"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_threshold_is_exact(dtype):
    tiny = torch.finfo(dtype).smallest_normal
    logits = torch.tensor([-1e-3, -tiny, -0.0, 0.0, tiny, 1e-3], dtype=torch.float64).to(dtype)
    for label in (0, 1):
        counts = confusion_of(logit_histogram(logits, torch.full((6,), label)))
        assert counts.tolist() == ([[4, 2], [0, 0]], [[0, 0], [4, 2]])[label]


def test_a_logit_of_zero_is_original_as_for_probability_above_a_half():
    logits = torch.tensor([0.0, 0.0, 0.5, -0.5])
    labels = torch.tensor([1, 0, 1, 0])
    predictions = torch.sigmoid(logits) > 0.5
    counts = confusion_of(logit_histogram(logits, labels))
    assert counts.tolist() == sklearn_metrics.confusion_matrix(labels, predictions).tolist()


def test_numbers_that_are_none_stay_inside_the_histogram():
    logits = torch.tensor([math.nan, math.inf, -math.inf])
    histogram = logit_histogram(logits, torch.tensor([1, 1, 1]))
    assert histogram[0].sum() == 0
    assert histogram[1].sum() == 3
    assert histogram[1, 0] == 1
    assert histogram[1, -1] == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_not_rounded_further(dtype):
    logits = torch.linspace(-30, 30, 4_001).to(dtype)
    labels = torch.arange(4_001) % 2
    assert torch.equal(logit_histogram(logits, labels), logit_histogram(logits.double(), labels))


def test_scores_for_logs_stay_tensors():
    histogram = logit_histogram(torch.randn(8), torch.ones(8))
    for score in SCORES.values():
        assert score(histogram).shape == ()
        assert score(histogram).dtype == torch.float64


def test_counting_keeps_no_graph():
    logits = torch.randn(8, requires_grad=True)
    assert not logit_histogram(logits, torch.zeros(8)).requires_grad
