"""What groups of runs have in common, and what they differ in."""

import json
from typing import Any, Callable, Iterable, Iterator, Mapping, NamedTuple, Sequence, TypeVar

from convbert_plugin.analysis.words import ABSENT
from convbert_plugin.data.splits import VALID

Value = TypeVar("Value")


def grouped(values: Iterable[Value], key: Callable[[Value], Any]) -> dict[Any, list[Value]]:
    """The values by their keys, in the order in which these come first."""
    groups: dict[Any, list[Value]] = {}
    for value in values:
        groups.setdefault(key(value), []).append(value)
    return groups


def differing(facts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of what is not the same in all, in the order in which they come first."""
    names = dict.fromkeys(name for told in facts for name in told)
    return [
        name
        for name in names
        if len({json.dumps(told.get(name), sort_keys=True) for told in facts}) > 1
    ]


def ends_in_words(ends: Iterable[tuple[int, int]]) -> str:
    """The seeds that ended after the same updates together; ``ends``: pairs of the two."""
    reached = grouped(ends, lambda end: end[1])
    return "; ".join(
        f"seed {', '.join(str(seed) for seed, _ in reached[updates])} after {updates:,}"
        for updates in sorted(reached)
    )


def subsets_of(validations: Iterable[Mapping[str, Any]]) -> list[str]:
    """The sets of some validations, the usual one first."""
    names = {entry["subset"] for entry in validations}
    return sorted(names, key=lambda name: (name != VALID, name))


def value_words(value: Any) -> str:
    """A setting for people to read; a list of one as what it holds."""
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    return value if isinstance(value, str) else json.dumps(value)


class Differences(NamedTuple):
    """In what groups of runs differ: ``values[group][name]``, None where it is not recorded."""

    names: list[str]
    labels: list[str]
    values: list[list[Any]]

    def rows(self) -> Iterator[list[str]]:
        """The cells of a table, a group each."""
        for label, values in zip(self.labels, self.values, strict=True):
            yield [label, *(ABSENT if value is None else value_words(value) for value in values)]


def differences_of(facts: Mapping[str, Mapping[str, Any]]) -> Differences:
    """In what the groups differ whose facts stand by their labels."""
    names = differing(list(facts.values()))
    values = [[told.get(name) for name in names] for told in facts.values()]
    return Differences(names, list(facts), values)
