"""Rounds in turn, and honest statistics of them."""

from collections import Counter
from itertools import pairwise, permutations

import numpy as np
import pytest

from convbert_plugin.analysis.bench.machine import Machine, at_best
from convbert_plugin.analysis.bench.running import Stopwatch
from convbert_plugin.analysis.bench.timing import (
    FEWEST_ROUNDS,
    Pace,
    interleaved,
    order_of_round,
    spread,
    times_as_fast,
)

pytestmark = pytest.mark.speed

LONG = 1.0


def recorded(names, pace):
    """The order of calls after the warm-up, and the seconds told of them."""
    calls = []
    runs = {name: (lambda name=name: calls.append(name)) for name in names}

    def clock(run, times):
        for _ in range(times):
            run()
        return LONG + len(calls)

    seconds = interleaved(runs, clock, pace)
    return calls[len(names) :], seconds


def test_every_round_has_all_variants_in_another_order():
    order, seconds = recorded("abc", Pace(rounds=4))
    assert "".join(order) == "abccbabcaacb"
    assert {name: len(each) for name, each in seconds.items()} == dict.fromkeys("abc", 4)
    # Each has the seconds of its own calls, by their places among all.
    places = {name: [place for place, each in enumerate(order) if each == name] for name in "abc"}
    first = LONG + 3 + 1
    assert seconds == {name: [first + place for place in of] for name, of in places.items()}


@pytest.mark.parametrize("names", ["ab", "abc", "abcd", "abcde", "abcdef", "abcdefgh"])
def test_each_variant_follows_every_other_twice(names):
    orders = [order_of_round(names, number) for number in range(2 * len(names))]
    assert {"".join(sorted(order)) for order in orders} == {names}
    follows = Counter(pair for order in orders for pair in pairwise(order))
    assert follows == dict.fromkeys(permutations(names, 2), 2)
    assert Counter(order[0] for order in orders) == dict.fromkeys(names, 2)


def test_short_calls_are_timed_many_at_once():
    calls = []

    def clock(run, times):
        calls.append(times)
        return 1e-3

    interleaved({"a": lambda: None}, clock, Pace(rounds=2, sample=0.02))
    assert calls == [1, 20, 20]


@pytest.mark.parametrize(
    ("pace", "rounds", "elapsed", "is_over"),
    [
        (Pace(rounds=2), 1, 1e9, False),
        (Pace(rounds=2), 2, 0.0, True),
        # However short the time, quartiles want some rounds.
        (Pace(seconds=1.0), FEWEST_ROUNDS - 1, 100.0, False),
        (Pace(seconds=1.0), FEWEST_ROUNDS, 100.0, True),
        # Another round would end too late.
        (Pace(seconds=10.0), 4, 8.1, True),
        (Pace(seconds=10.0), 4, 7.9, False),
    ],
)
def test_when_it_is_over(pace, rounds, elapsed, is_over):
    assert pace.is_over(rounds, elapsed) is is_over


def test_a_budget_is_shared_by_what_is_left(monkeypatch):
    monkeypatch.setattr("time.perf_counter", lambda: 40.0)
    otherwise = Pace(rounds=7, sample=0.5)
    assert Stopwatch(100.0, otherwise).pace(3) == Pace(seconds=20.0, sample=0.5)
    assert Stopwatch(10.0, otherwise).pace(3) == Pace(seconds=0.0, sample=0.5)
    assert Stopwatch(None, otherwise).pace(3) == otherwise
    assert [Stopwatch(end, otherwise).is_over for end in (None, 41.0, 39.0)] == [False, False, True]


def test_quartiles():
    numbers = np.random.default_rng(1).lognormal(size=17)
    assert spread(list(numbers)) == pytest.approx(np.percentile(numbers, [50, 25, 75]))
    assert spread([3.0]) == (3.0, 3.0, 3.0)


def test_a_machine_that_slows_down_changes_no_ratio():
    drift = np.array([1, 1, 1, 5, 5])
    ratio = times_as_fast(list(2.0 * drift), list(6.0 * drift))
    assert ratio == pytest.approx((3, 3, 3))
    # As would the quotient of means, or of medians of other rounds.
    assert times_as_fast([2.0, 10.0], [6.0, 6.0]).median == pytest.approx((3 + 0.6) / 2)


def test_a_machine_at_its_best():
    slowed = Machine("a processor", "cpu", 2, {}, {"fp32": 1.0, "bf16": 5.0}, 3.0, {})
    later = slowed._replace(gemm={"fp32": 2.0, "bf16": 4.0}, copy=2.0)
    assert at_best(slowed, later) == slowed._replace(gemm={"fp32": 2.0, "bf16": 5.0})
