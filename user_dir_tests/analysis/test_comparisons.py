"""Paired comparisons against scipy's, the statistics module, and values worked by hand."""

import statistics

import numpy as np
import pytest
from scipy.stats import ttest_rel

from convbert_plugin.analysis.comparison_words import p_words, words_of
from convbert_plugin.analysis.comparisons import Comparison, compare, holm, paired
from convbert_plugin.analysis.measures import Measure
from convbert_plugin.analysis.row_sets import MeasureTable

pytestmark = pytest.mark.experiments


@pytest.mark.parametrize("seeds", [2, 3, 7, 20])
def test_p_and_interval_are_scipys(seeds):
    ours, theirs = np.random.default_rng(seeds).normal(70, 2, (2, seeds))
    one = paired(dict(enumerate(ours.tolist())), dict(enumerate(theirs.tolist())))
    oracle = ttest_rel(ours, theirs)
    interval = oracle.confidence_interval(0.95)
    assert one.p == pytest.approx(oracle.pvalue, rel=1e-12)
    assert one.interval == pytest.approx((interval.low, interval.high), rel=1e-12)
    assert one.difference == pytest.approx((ours - theirs).mean(), rel=1e-12)


def test_only_seeds_that_both_have_are_compared():
    ours, theirs = {1: 3.0, 2: 5.0, 4: 9.0, 7: 100.0}, {4: 4.0, 2: 1.0, 1: 2.0, 3: -100.0}
    one = paired(ours, theirs)
    assert one.seeds == [1, 2, 4]
    assert one.p == pytest.approx(ttest_rel([3, 5, 9], [2, 1, 4]).pvalue, rel=1e-12)


def test_a_comparison_worked_by_hand():
    # Differences 1, 2, 3: mean 2, deviation 1, t = 2 √3 of two degrees of freedom, whose
    # distribution has the closed form 1/2 + t / (2 √(2 + t²)).
    one = paired({1: 1.0, 2: 2.0, 3: 3.0}, {1: 0.0, 2: 0.0, 3: 0.0})
    t = 2 * 3**0.5
    assert one.p == pytest.approx(1 - t / (2 + t * t) ** 0.5, rel=1e-12)
    # The quantile of 0.975: 0.95 √2 / √(1 - 0.95²).
    reach = 0.95 * 2**0.5 / (1 - 0.95**2) ** 0.5 / 3**0.5
    assert one.interval == pytest.approx((2 - reach, 2 + reach), rel=1e-9)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ({1: 3.0}, {1: 1.0}, Comparison([1], 2.0)),
        ({1: 3.0}, {2: 1.0}, Comparison([], None)),
        ({}, {1: 1.0}, Comparison([], None)),
        # Equal values, and differences that vary by rounding alone.
        ({1: 0.0, 2: 0.0}, {1: 0.0, 2: 0.0}, Comparison([1, 2], 0.0)),
        ({1: 0.3, 2: 0.6}, {1: 0.1, 2: 0.4}, Comparison([1, 2], pytest.approx(0.2))),
    ],
)
def test_nothing_is_tested_where_nothing_varies(ours, theirs, expected):
    assert paired(ours, theirs) == expected


def slow_holm(values):
    """Each p times those that are not smaller, the largest so far, at most 1."""
    adjusted = []
    for value in values:
        smaller = [p for p in values if p <= value]
        steps = [p * sum(other >= p for other in values) for p in smaller]
        adjusted.append(min(1.0, max(steps)))
    return adjusted


@pytest.mark.parametrize(
    ("values", "adjusted"),
    [
        # Sorted: 0.005 · 4, 0.01 · 3, 0.03 · 2, and 0.04 is no less than the one before.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.6, 0.7], [1.0, 1.0]),
        ([0.02, None, 0.04], [0.04, None, 0.04]),
        ([], []),
    ],
)
def test_holms_adjustment_worked_by_hand(values, adjusted):
    assert holm(values) == [None if p is None else pytest.approx(p) for p in adjusted]


def test_holms_adjustment_is_that_of_its_definition():
    values = np.random.default_rng(3).random(9).tolist()
    assert holm([p / 9 for p in values]) == pytest.approx(slow_holm([p / 9 for p in values]))


def test_rows_have_the_statistics_modules_mean_and_deviation():
    rows = {"first": {3: 1.5, 1: 2.0}, "second": {1: 4.0}, "third": {}}
    first, second, third = compare(rows, "first")
    assert (first.mean, first.deviation) == (statistics.mean([1.5, 2]), statistics.stdev([1.5, 2]))
    assert (list(first.values), first.comparison) == ([1, 3], None)
    assert (second.mean, second.deviation) == (4.0, None)
    assert (third.mean, third.deviation) == (None, None)
    assert second.comparison == Comparison([1], 2.0)


def test_p_values_are_adjusted_for_the_rows_of_a_table():
    generator = np.random.default_rng(5)
    rows = {name: dict(enumerate(generator.normal(size=4).tolist())) for name in "abcd"}
    rows["alone"] = {0: 1.0}
    compared = [row.comparison for row in compare(rows, "b") if row.comparison]
    expected = [ttest_rel([*rows[name].values()], [*rows["b"].values()]).pvalue for name in "acd"]
    assert [one.p for one in compared[:3]] == pytest.approx(expected, rel=1e-12)
    assert [one.holm for one in compared[:3]] == pytest.approx(slow_holm(expected), rel=1e-12)
    assert compared[3].holm is None


def table(**rows):
    measure = Measure("rte accuracy", {}, 1, True)
    return MeasureTable(measure, "base", compare({"base": {1: 0, 2: 0, 3: 0}, **rows}, "base"))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        # t = 2 √3 · 100 and p = 1.4e-5 twice.
        (
            {"a": {1: 1.99, 2: 2, 3: 2.01}, "b": {1: -2.01, 2: -2, 3: -1.99}},
            "a (+2.0, p < 0.001), b (-2.0, p < 0.001) differ from base (adjusted by Holm)",
        ),
        # t = 2 √3 / 0.8 and p = 0.049, for two 0.098: the other is nowhere near.
        (
            {"a": {1: 1.2, 2: 2, 3: 2.8}, "b": {1: -1, 2: 1, 3: 0.5}},
            "a (+2.0, p = 0.049) differs from base only if each is looked at alone; "
            "b not told apart from base by 3 seeds",
        ),
        (
            {"a": {1: 1, 2: 2, 3: 3}, "b": {1: 1, 2: 2}},
            "b not told apart from base by 2 seeds; a not told apart from base by 3 seeds",
        ),
        ({"a": {1: 5}}, "one seed tells nothing apart"),
        (
            {"a": {1: 5}, "b": {1: 1, 2: 2}},
            "b not told apart from base by 2 seeds; a and base: one seed tells nothing apart",
        ),
        ({"a": {9: 5}}, "a and base share no seed"),
        ({"a": {1: 1, 2: 1}}, "a and base: 2 seeds differ alike, so there is no test"),
    ],
)
def test_words_say_what_the_spread_allows(rows, words):
    assert words_of(table(**rows)) == f"rte accuracy: {words}."


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (None, "–"),
        (0.0001, "< 0.001"),
        (0.00123, "0.0012"),
        (0.0416, "0.042"),
        (0.5, "0.5"),
        (1, "1"),
    ],
)
def test_p_values_have_two_digits(p, words):
    assert p_words(p) == words
