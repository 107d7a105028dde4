"""The published numbers, read from the one file that holds them, each with its source."""

import functools
import math
from pathlib import Path
from statistics import fmean
from typing import Iterator, NamedTuple, Optional, get_type_hints

from convbert_plugin.errors import UserError
from convbert_plugin.files.json_files import read_json_object, typed

RESULTS_FILE = Path(__file__).with_name("results.json")
FORMAT = 1
TEST, DEV = "test", "dev"
FROM_PAPER = "paper"


class Source(NamedTuple):
    """Where numbers were published, and how they were read there."""

    title: str
    address: str
    read: str


class Model(NamedTuple):
    """A model, and what its pretraining took.

    ``family``: its name however long it was trained; ``longer``: than the first of these;
    ``distilled``: from a larger model, whose FLOPs are in ``flops``, which are ``at_least`` so
    many then. ``flops``, ``parameters``: as printed; ``counted_flops``: by the formulas of the
    same convention; None where there is no such number.
    """

    name: str
    family: str
    distilled: bool
    longer: bool
    parameters: Optional[int]
    flops: Optional[float]
    at_least: bool
    counted_flops: Optional[float]
    note: str


class GlueScores(NamedTuple):
    """Scores of tasks (0 to 100) on ``set``, and their mean as printed, or None."""

    model: str
    source: str
    set: str
    scores: dict[str, float]
    average: Optional[float]


class SquadScores(NamedTuple):
    """Scores on SQuAD (0 to 100); ``rerun``: those that the source's authors measured again."""

    model: str
    source: str
    set: str
    version: str
    exact_match: float
    f1: float
    rerun: tuple[str, ...]


class LeaderboardScores(NamedTuple):
    """The official score of GLUE, and what it is made of: by task and metric."""

    model: str
    source: str
    score: float
    scores: dict[str, float]


class Published(NamedTuple):
    """All of it. ``metrics``: in what each task of GLUE is scored."""

    sources: dict[str, Source]
    metrics: dict[str, str]
    models: tuple[Model, ...]
    scores: tuple[GlueScores, ...]
    answers: tuple[SquadScores, ...]
    leaderboard: tuple[LeaderboardScores, ...]

    def model(self, name: str) -> Model:
        return next(model for model in self.models if model.name == name)


@functools.cache
def read_published(path: Path = RESULTS_FILE) -> Published:
    """Read and check the file. Raises UserError: it is damaged."""
    try:
        content = read_json_object(path)
        if content.pop("format") != FORMAT:
            raise ValueError
        kinds = get_type_hints(Published)
        if content.keys() != kinds.keys():
            raise ValueError
        published = Published(**{name: typed(kinds[name], content[name]) for name in kinds})
        _check(published)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise UserError(f"{path}: damaged: install the plugin again") from None
    return published


def _check(published: Published) -> None:
    names = [model.name for model in published.models]
    rows = [
        *((row.model, row.source) for row in published.scores),
        *((row.model, row.source) for row in published.answers),
        *((row.model, row.source) for row in published.leaderboard),
    ]
    known_models = len(set(names)) == len(names) and {model for model, _ in rows} <= set(names)
    known_sources = {source for _, source in rows} <= published.sources.keys()
    known_tasks = all(row.scores.keys() == published.metrics.keys() for row in published.scores)
    in_range = all(0 <= score <= 100 for score in _all_scores(published))
    positive = all(
        number is None or (number > 0 and math.isfinite(number))
        for model in published.models
        for number in (model.parameters, model.flops, model.counted_flops)
    )
    if not (known_models and known_sources and known_tasks and in_range and positive):
        raise ValueError
    for row in published.scores:
        # Printed with one decimal, or two.
        if row.average is not None and abs(fmean(row.scores.values()) - row.average) > 0.051:
            raise ValueError


def _all_scores(published: Published) -> Iterator[float]:
    for row in published.scores:
        yield from row.scores.values()
    for answer in published.answers:
        yield from (answer.exact_match, answer.f1)
    for entry in published.leaderboard:
        yield from (entry.score, *entry.scores.values())
