"""Axes that leave out where nothing is, and tell it."""

import math
from typing import Iterator, NamedTuple, Sequence

from matplotlib.ticker import MaxNLocator

from convbert_plugin.analysis.quantities import power_of_ten

# Of an axis of powers of ten, in decades: from which on an empty stretch is left out, what is added
# at the ends of the others, and the least of one.
EMPTY, ADDED, LEAST = 1.2, 0.22, 0.6
# Of one of scores: a stretch is left out that is empty and such a share of all; the same in points.
EMPTY_SHARE, EMPTY_SCORES, ADDED_SCORES, LEAST_SCORES = 0.4, 10.0, 1.2, 4.0
# The least share of an axis that a stretch gets.
LEAST_SHARE = 0.3
# Between powers of ten that stand alone.
DIGITS = (1, 2, 5, 10, 20, 50)


class Stretch(NamedTuple):
    """A part of an axis: from one number to another, at these shares of its length."""

    low: float
    high: float
    begin: float
    end: float


class BrokenAxis(NamedTuple):
    """Stretches in their order, a break between two."""

    stretches: list[Stretch]

    def share(self, number: float) -> float:
        """Where a number is, 0 to 1."""
        stretch = min(self.stretches, key=lambda one: max(one.low - number, number - one.high))
        along = (number - stretch.low) / (stretch.high - stretch.low)
        return stretch.begin + along * (stretch.end - stretch.begin)


def broken_axis(
    numbers: Sequence[float], empty: float, added: float, least: float, gap: float
) -> BrokenAxis:
    """The axis for some numbers, without stretches of more than ``empty`` between two of them.

    ``added``: to a stretch at both ends; ``least``: what a stretch reaches over; ``gap``: the share
    of a break.
    """
    ordered = sorted(numbers)
    parts = [[ordered[0]]]
    for number in ordered[1:]:
        if number - parts[-1][-1] > empty:
            parts.append([])
        parts[-1].append(number)
    ends = []
    for part in parts:
        around = max(added, (least - (part[-1] - part[0])) / 2)
        ends.append((part[0] - around, part[-1] + around))
    spans = [high - low for low, high in ends]
    shares = [max(min(LEAST_SHARE, 1 / len(ends)), span / sum(spans)) for span in spans]
    free = 1 - gap * (len(ends) - 1)
    stretches, begin = [], 0.0
    for (low, high), share in zip(ends, shares, strict=True):
        end = begin + free * share / sum(shares)
        stretches.append(Stretch(low, high, begin, end))
        begin = end + gap
    return BrokenAxis(stretches)


def flops_axis(numbers: Sequence[float], gap: float) -> BrokenAxis:
    """Of the logarithms of numbers."""
    return broken_axis([math.log10(number) for number in numbers], EMPTY, ADDED, LEAST, gap)


def score_axis(numbers: Sequence[float], gap: float) -> BrokenAxis:
    """Of scores from 0 to 100."""
    empty = max(EMPTY_SHARE * (max(numbers) - min(numbers)), EMPTY_SCORES)
    return broken_axis(numbers, empty, ADDED_SCORES, LEAST_SCORES, gap)


def flops_ticks(axis: BrokenAxis) -> Iterator[tuple[Stretch, float, str]]:
    """Stretch, share and words: powers of ten, and where these are few, what is between them."""
    for stretch in axis.stretches:
        low, high = math.ceil(stretch.low), math.floor(stretch.high)
        if high > low:
            for power in range(low, high + 1):
                yield stretch, axis.share(power), power_of_ten(power)
            continue
        first = math.floor(stretch.low)
        for digit in DIGITS:
            at = first + math.log10(digit)
            if stretch.low <= at <= stretch.high:
                begin, zeros = str(digit)[0], len(str(digit)) - 1
                words = power_of_ten(first + zeros)
                yield stretch, axis.share(at), words if begin == "1" else f"{begin} × {words}"


def score_ticks(axis: BrokenAxis) -> Iterator[tuple[float, str]]:
    """Share and words."""
    for stretch in axis.stretches:
        most = max(2, round(6 * (stretch.end - stretch.begin)))
        locator = MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10])
        for tick in locator.tick_values(stretch.low, stretch.high):
            if stretch.low <= tick <= stretch.high:
                yield axis.share(float(tick)), f"{tick:g}"
