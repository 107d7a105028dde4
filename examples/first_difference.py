"""Whether two trainings logged the same numbers of each update, to the bit.

python first_difference.py NAME NAME UPDATES.json UPDATES.json: the files are of unrounded.py. Ends
with status 1 where a number differs, and names the first update with such.
"""

import json
import sys
from pathlib import Path
from typing import Mapping, Sequence

from convbert_plugin.errors import counted

Update = Mapping[str, float]

# How fast it went.
OF_THE_CLOCK = {"wps", "ups", "wall", "train_wall", "gb_free"}
SHOWN = 3


def names_in(updates: Sequence[Update]) -> list[str]:
    """What is logged of all updates alike, wherever they are computed."""
    return sorted(set[str]().union(*updates) - OF_THE_CLOCK)


def differences(one: Update, other: Update, names: Sequence[str]) -> dict[str, float]:
    """By how much numbers of an update differ, of the larger one; of NaN and itself by nothing."""
    pairs = {name: (one.get(name), other.get(name)) for name in names}
    return {
        name: abs(a - b) / max(abs(a), abs(b)) if a is not None and b is not None else float("nan")
        for name, (a, b) in pairs.items()
        if a != b and not (a != a and b != b)
    }


def compare(labels: Sequence[str], ones: Sequence[Update], others: Sequence[Update]) -> list[str]:
    """Lines that say what differs; none where nothing does."""
    if len(ones) != len(others):
        return [f"{len(ones):,} updates of {labels[0]}, {len(others):,} of {labels[1]}"]
    names = sorted({*names_in(ones)} & {*names_in(others)})
    found = [differences(*pair, names) for pair in zip(ones, others, strict=True)]
    first = next((number for number, each in enumerate(found) if each), None)
    if first is None:
        return []
    lines = [
        f"update {first + 1}: {name} is {ones[first].get(name)!r} at {labels[0]} and "
        f"{others[first].get(name)!r} at {labels[1]} (relative: {share:.1e})"
        for name, share in found[first].items()
    ]
    largest = max(share for each in found for share in each.values())
    differing = sum(map(bool, found))
    return [
        *lines,
        f"{differing:,} of {counted(len(ones), 'update')} differ, by up to {largest:.1e} relative",
    ]


def main() -> None:
    labels, files = sys.argv[1:3], sys.argv[3:]
    ones, others = (json.loads(Path(file).read_text()) for file in files)
    for label, updates, rest in ((labels[0], ones, others), (labels[1], others, ones)):
        if alone := sorted({*names_in(updates)} - {*names_in(rest)}):
            print(f"logged at {label} alone: {', '.join(alone)}")
    lines = compare(labels, ones, others)
    if lines:
        sys.exit("\n".join(lines))
    names = ", ".join(sorted({*names_in(ones)} & {*names_in(others)}))
    print(f"{counted(len(ones), 'update')} equal to the bit: {names}")


if __name__ == "__main__":
    main()
