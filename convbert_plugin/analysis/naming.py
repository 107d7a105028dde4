"""Short names for runs whose labels are long: the fewest words that tell them apart, or letters."""

import itertools
import string
from collections import Counter
from pathlib import PurePath
from typing import Callable, Iterable, Iterator, Mapping, Sequence

from convbert_plugin.analysis.page import Entry
from convbert_plugin.analysis.theme import Styles
from convbert_plugin.analysis.words import printable
from convbert_plugin.files.records import CONVERTED

# Letters of a name.
LONGEST = 20
# Names of which a legend tells all.
MOST_IN_FULL = 4
# What stands before the path of a checkpoint.
PATH_WORDS = ("from ", f"{CONVERTED}: ")

Names = Mapping[str, str]
"""A short name for each label."""


def short_names(labels: Iterable[str]) -> dict[str, str]:
    """Name each label, whose facts ", " separates: by what tells it from the others.

    Where such names are too long, all are letters.
    """
    told = telling_words(labels)
    names = list(told.values())
    if len(set(names)) < len(names) or max(map(len, names), default=0) > LONGEST:
        names = list(itertools.islice(_letters(), len(told)))
    return dict(zip(told, names, strict=True))


def telling_words(labels: Iterable[str]) -> dict[str, str]:
    """The facts of each label that tell it from the others, in few words."""
    different = list(dict.fromkeys(labels))
    facts = [label.split(", ") for label in different]
    paths = [path for told in facts for fact in told if (path := _path(fact))]
    shorten = _shortener(list(dict.fromkeys(paths)))
    words = _telling([[shorten(fact) for fact in told] for told in facts])
    return dict(zip(different, map(printable, words), strict=True))


def legend_of(names: Names, styles: Styles) -> list[Entry]:
    """What each name stands for, and how it is drawn; nothing where all names say all.

    Of many the words are few.
    """
    if all(name == label for label, name in names.items()):
        return []
    told = telling_words(names) if is_in_few_words(names) else {label: label for label in names}
    return [
        Entry(styles[label], name, "" if name == told[label] else told[label])
        for label, name in names.items()
    ]


def is_in_few_words(names: Names) -> bool:
    """Whether a legend is too short to tell all that makes the runs."""
    return len(names) > MOST_IN_FULL


def _path(fact: str) -> str:
    return next((fact.removeprefix(words) for words in PATH_WORDS if fact.startswith(words)), "")


def _shortener(paths: Sequence[str]) -> Callable[[str], str]:
    """Gives what tells a path from the others: its parts that they do not begin or end with."""
    parts = [PurePath(path).parts for path in paths]
    first, last = _shared(parts), _shared([one[::-1] for one in parts])

    def shorten(fact: str) -> str:
        path = PurePath(_path(fact))
        kept = path.parts[first : len(path.parts) - last] or path.parts[-2:][:1]
        return "/".join(kept) if path.parts else fact

    return shorten


def _shared(sequences: Sequence[Sequence[str]]) -> int:
    """With how many equal parts they begin."""
    columns = zip(*sequences, strict=False)
    same = list(itertools.takewhile(lambda column: len(set(column)) == 1, columns))
    return len(same)


def _telling(told: Sequence[Sequence[str]]) -> list[str]:
    """The first fact of each that not all have, and where some share it what they differ in."""
    common = set(told[0]).intersection(*told[1:]) if len(told) > 1 else set()
    rest = [[fact for fact in one if fact not in common] or list(one) for one in told]
    firsts = [one[0] for one in rest]
    times = Counter(firsts)

    def name(first: str, one: Sequence[str]) -> str:
        alike = [set(other) for other, begin in zip(rest, firsts, strict=True) if begin == first]
        shared = set.intersection(*alike)
        return ", ".join([first, *(fact for fact in one[1:] if fact not in shared)])

    return [
        first if times[first] == 1 else name(first, one)
        for first, one in zip(firsts, rest, strict=True)
    ]


def _letters() -> Iterator[str]:
    for length in itertools.count(1):
        yield from map("".join, itertools.product(string.ascii_uppercase, repeat=length))
