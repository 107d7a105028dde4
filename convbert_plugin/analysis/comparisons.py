"""Rows of numbers by seed, each compared with one of them: paired, as seeds are shared."""

import math
import statistics
from typing import Any, Mapping, NamedTuple, Optional, Sequence

TEST = "two-sided paired t-test over the seeds (scipy.stats.ttest_rel)"
# Both of the interval and of what counts as told apart.
LEVEL = 0.05
# Of the numbers: what their differences vary by less than is rounding.
ROUNDING = 1e-12


class Comparison(NamedTuple):
    """A row less the reference row, over the ``seeds`` that both have.

    ``interval``: that of the mean difference, at 95%; ``p``: by TEST; ``holm``: the same, adjusted
    by Holm for the comparisons of one table. None of one seed, and where all differ alike.
    """

    seeds: list[int]
    difference: Optional[float]
    interval: Optional[tuple[float, float]] = None
    p: Optional[float] = None
    holm: Optional[float] = None


def mean_of(values: Mapping[int, float]) -> Optional[float]:
    """Of numbers by seed; None where there are none."""
    return statistics.fmean(values.values()) if values else None


def deviation_of(values: Mapping[int, float]) -> Optional[float]:
    """That of the sample, None of a single seed."""
    return statistics.stdev(values.values()) if len(values) > 1 else None


def seed_values(values: Mapping[int, float]) -> dict[str, Any]:
    """What a JSON file holds of numbers by seed, in full precision."""
    return {
        "mean": mean_of(values),
        "std": deviation_of(values),
        "by_seed": {str(seed): value for seed, value in values.items()},
    }


class ComparedRow(NamedTuple):
    """The numbers of a row by seed; ``comparison``: None of the reference row itself."""

    label: str
    values: dict[int, float]
    comparison: Optional[Comparison]

    @property
    def mean(self) -> Optional[float]:
        return mean_of(self.values)

    @property
    def deviation(self) -> Optional[float]:
        return deviation_of(self.values)


def compare(rows: Mapping[str, Mapping[int, float]], reference: str) -> list[ComparedRow]:
    """Compare each row with the one that ``reference`` names; numbers stand by their seeds."""
    against = rows[reference]
    pairs = {label: paired(values, against) for label, values in rows.items() if label != reference}
    adjusted = dict(zip(pairs, holm([pair.p for pair in pairs.values()]), strict=True))
    return [
        ComparedRow(
            label,
            dict(sorted(values.items())),
            pairs[label]._replace(holm=adjusted[label]) if label in pairs else None,
        )
        for label, values in rows.items()
    ]


def paired(values: Mapping[int, float], against: Mapping[int, float]) -> Comparison:
    """Compare two rows, without an adjustment."""
    seeds = sorted(values.keys() & against.keys())
    if not seeds:
        return Comparison(seeds, None)
    differences = [values[seed] - against[seed] for seed in seeds]
    difference = statistics.fmean(differences)
    deviation = statistics.stdev(differences) if len(seeds) > 1 else 0.0
    size = max(abs(row[seed]) for row in (values, against) for seed in seeds)
    if deviation <= ROUNDING * size:
        return Comparison(seeds, difference)
    # It takes a moment to be imported, which reports without comparisons save.
    from scipy.special import stdtr, stdtrit

    freedom = len(seeds) - 1
    error = deviation / math.sqrt(len(seeds))
    reach = float(stdtrit(freedom, 1 - LEVEL / 2)) * error
    p = 2 * float(stdtr(freedom, -abs(difference / error)))
    return Comparison(seeds, difference, (difference - reach, difference + reach), p)


def holm(values: Sequence[Optional[float]]) -> list[Optional[float]]:
    """p-values, adjusted so that the chance of any false finding among them is bounded.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    known = sorted((p, place) for place, p in enumerate(values) if p is not None)
    adjusted: list[Optional[float]] = [None] * len(values)
    highest = 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        adjusted[place] = highest
    return adjusted
