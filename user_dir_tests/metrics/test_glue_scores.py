"""Against scikit-learn and scipy."""

import csv
import warnings

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sklearn

from convbert_plugin.metrics.glue_scores import (
    METRICS_OF_CLASSES,
    accuracy,
    confusion,
    f1,
    majority_scores,
    mcc,
    pearson,
    spearman,
)

pytestmark = pytest.mark.glue

# Sums of at most 1e5 numbers in float64.
TOLERANCE = 1e-9
LABEL_COLUMNS = {"CoLA": 1, "SST-2": 1, "MRPC": 0, "RTE": 3}


def assert_scores_of_classes(predicted, gold, classes):
    counts = confusion(torch.as_tensor(predicted), torch.as_tensor(gold), classes)
    assert counts.dtype == torch.float64
    assert np.array_equal(
        counts, sklearn.confusion_matrix(gold, predicted, labels=list(range(classes)))
    )
    assert abs(accuracy(counts) - sklearn.accuracy_score(gold, predicted)) <= TOLERANCE
    with warnings.catch_warnings():
        # Of a single label.
        warnings.simplefilter("ignore")
        assert abs(mcc(counts) - sklearn.matthews_corrcoef(gold, predicted)) <= TOLERANCE
    if classes == 2:
        expected = sklearn.f1_score(gold, predicted, zero_division=0)
        assert abs(f1(counts) - expected) <= TOLERANCE


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("count", [1, 2, 7, 5000])
def test_classes_at_random(classes, count):
    rng = np.random.default_rng(count)
    for agreement in (0.0, 0.3, 0.9, 1.0):
        gold = rng.integers(0, classes, count)
        others = rng.integers(0, classes, count)
        predicted = np.where(rng.random(count) < agreement, gold, others)
        assert_scores_of_classes(predicted, gold, classes)


@pytest.mark.parametrize(
    ("predicted", "gold"),
    [
        ([0, 0, 0], [0, 1, 1]),
        ([1, 1, 1], [0, 1, 1]),
        ([0, 1, 1], [0, 0, 0]),
        ([0, 0], [0, 0]),
        ([1, 1], [1, 1]),
        ([0, 0], [1, 1]),
        ([1], [0]),
        ([1], [1]),
        ([0, 1], [1, 0]),
    ],
)
def test_classes_where_a_score_is_not_defined(predicted, gold):
    assert_scores_of_classes(np.array(predicted), np.array(gold), 2)


def test_no_example_scores_zero():
    counts = confusion(torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long), 2)
    assert [float(metric(counts)) for metric in METRICS_OF_CLASSES.values()] == [0.0] * 3


def test_counts_of_parts_add_up():
    rng = np.random.default_rng(2)
    gold, predicted = torch.as_tensor(rng.integers(0, 3, (2, 100)))
    parts = [confusion(predicted[part], gold[part], 3) for part in (slice(9), slice(9, None))]
    assert torch.equal(sum(parts), confusion(predicted, gold, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [2, 3, 50, 5000])
def test_scores_at_random(dtype, count):
    rng = np.random.default_rng(count)
    gold = torch.as_tensor(rng.integers(0, 26, count) / 5)
    gold[0] = 6.0
    for noise in (0.0, 0.5, 100.0):
        scores = (gold + noise * torch.as_tensor(rng.normal(size=count))).to(dtype)
        assert_scores(scores, gold)
        assert_scores(-scores, gold)


def assert_scores(scores, gold):
    scores_64, gold_64 = scores.double().numpy(), gold.double().numpy()
    expected = np.corrcoef(scores_64, gold_64)[0, 1]
    assert abs(pearson(scores, gold) - stats.pearsonr(scores_64, gold_64).statistic) <= TOLERANCE
    assert abs(pearson(scores, gold) - expected) <= TOLERANCE
    expected = np.corrcoef(stats.rankdata(scores_64), stats.rankdata(gold_64))[0, 1]
    assert abs(spearman(scores, gold) - stats.spearmanr(scores_64, gold_64).statistic) <= TOLERANCE
    assert abs(spearman(scores, gold) - expected) <= TOLERANCE


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("metric", [pearson, spearman])
@pytest.mark.parametrize(
    ("scores", "gold"),
    [
        ([0.3] * 5, [0.1, 0.2, 0.3, 0.4, 0.5]),
        ([0.1, 0.2, 0.3], [0.5] * 3),
        ([0.0, 0.0], [0.0, 0.0]),
        ([0.4], [0.2]),
        ([], []),
        ([0.1, float("nan"), 0.3], [0.1, 0.2, 0.3]),
        ([0.1, float("inf"), 0.3], [0.1, 0.2, 0.3]),
    ],
)
def test_scores_where_a_correlation_is_not_defined(metric, scores, gold):
    assert metric(torch.tensor(scores), torch.tensor(gold)).item() == 0.0


def column(real_data, name, number):
    with open(real_data / "glue" / name / "dev.tsv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row[number] for row in rows[name != "CoLA" :]]


@pytest.mark.parametrize("name", LABEL_COLUMNS)
def test_the_labels_of_the_dev_sets(real_data, name):
    words = column(real_data, name, LABEL_COLUMNS[name])
    gold = np.array([sorted(set(words)).index(word) for word in words])
    rng = np.random.default_rng(4)
    for agreement in (0.0, 0.7):
        others = rng.integers(0, 2, len(gold))
        assert_scores_of_classes(np.where(rng.random(len(gold)) < agreement, gold, others), gold, 2)
    label_counts = np.bincount(gold)
    for majority in (0, 1):
        everywhere = np.full_like(gold, majority)
        assert majority_scores(label_counts.tolist(), majority, ("accuracy", "f1", "mcc")) == {
            "accuracy": pytest.approx(sklearn.accuracy_score(gold, everywhere), abs=TOLERANCE),
            "f1": pytest.approx(sklearn.f1_score(gold, everywhere), abs=TOLERANCE),
            "mcc": 0.0,
        }


def test_the_scores_of_the_dev_set(real_data):
    gold = torch.tensor([float(word) for word in column(real_data, "STS-B", 9)])
    rng = np.random.default_rng(4)
    assert_scores(gold + torch.as_tensor(rng.normal(size=len(gold))), gold)
    # Rounded, so that many ranks are shared.
    assert_scores(gold.round(), gold)
