"""Large numbers and spans of time in words for people: three digits are enough."""

from typing import Callable, NamedTuple, Sequence

SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
# From how many seconds on a unit is used, and how many it has.
TIMES = ((2 * 86400, 86400, "d"), (2 * 3600, 3600, "h"), (120, 60, "min"), (0, 1, "s"))
COUNTS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k"))
MEBIBYTE, GIBIBYTE = 1 << 20, 1 << 30
# Where numbers differ by less of the largest, they are one number.
ALIKE = 0.005


def power_of_ten(exponent: int) -> str:
    return f"10{str(exponent).translate(SUPERSCRIPTS)}"


def in_powers(number: float) -> str:
    """With a power of ten: 1.26 × 10¹⁸."""
    if number == 0:
        return "0"
    digits, exponent = f"{number:.2e}".split("e")
    return f"{digits} × {power_of_ten(int(exponent))}"


def in_thousands(number: float) -> str:
    """A count: 9,999 in full, and beyond that 12.3 k, 1.26 M and so on."""
    for (least, unit), size in zip(COUNTS, (1e12, 1e9, 1e6, 1e3), strict=True):
        if number >= least:
            return f"{three_digits(number / size)} {unit}"
    return f"{number:,.0f}"


def duration(seconds: float) -> str:
    """In the unit in which it is at least 2, up to days."""
    size, unit = time_unit(seconds)
    return f"{three_digits(seconds / size)} {unit}"


def time_unit(seconds: float) -> tuple[float, str]:
    """How many seconds the unit has in which that many are told, and its sign."""
    return next((size, unit) for least, size, unit in TIMES if seconds >= least)


def memory_words(number: float) -> str:
    if number >= GIBIBYTE:
        return f"{three_digits(number / GIBIBYTE)} GiB"
    return f"{three_digits(number / MEBIBYTE)} MiB"


def three_digits(number: float) -> str:
    """No more than three, and no fewer than stand before the point."""
    if abs(number) >= 99.95:
        return f"{number:,.0f}"
    return f"{number:.1f}" if abs(number) >= 9.995 else f"{number:.2f}"


class Spread(NamedTuple):
    """The mean of numbers, and the range they lie in."""

    mean: float
    low: float
    high: float

    def words(self, words: Callable[[float], str]) -> str:
        """The mean, and the range where it shows."""
        told = words(self.mean)
        if self.high - self.low <= ALIKE * abs(self.high):
            return told
        return f"{told} ({words(self.low)} – {words(self.high)})"


def spread_of(numbers: Sequence[float]) -> Spread:
    """Of at least one number."""
    return Spread(sum(numbers) / len(numbers), min(numbers), max(numbers))
