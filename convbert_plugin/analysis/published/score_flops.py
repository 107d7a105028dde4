"""Scores against the operations of pretraining: own runs beside what was published."""

import statistics
from typing import Iterator, Mapping, NamedTuple, Optional, Sequence

from convbert_plugin.analysis.contents import Contents
from convbert_plugin.analysis.measures import (
    AVERAGED,
    average_name,
    averaged_tasks,
    glue_average,
    measures_of,
)
from convbert_plugin.analysis.pretraining.pretraining_costs import group_cost, mean_flops
from convbert_plugin.analysis.pretraining.pretraining_groups import PretrainingGroup
from convbert_plugin.analysis.published.published_results import (
    DEV,
    FROM_PAPER,
    TEST,
    Model,
    Published,
)
from convbert_plugin.analysis.quantities import Spread, spread_of

SQUAD = "squad"
# Of SQuAD, the metric that is drawn, and one that only runs have that may leave a question open.
SQUAD_METRIC, OF_IMPOSSIBLE = "f1", "best_f1"
VERSIONS = ("1.1", "2.0")
# What a point is: by these it is drawn.
OWN, PUBLISHED, DISTILLED = "own", "published", "distilled"


class ScorePoint(NamedTuple):
    """A model's score (0 to 100) on ``set``, and what its pretraining took.

    ``series``: of own runs their label, else the model's name however long it was trained.
    ``at_least``: its FLOPs may be more. ``is_rerun``: measured by others than the model's authors.
    """

    label: str
    series: str
    kind: str
    set: str
    flops: Optional[Spread]
    score: Spread
    parameters: Optional[int]
    at_least: bool = False
    is_rerun: bool = False
    source: str = ""
    scores: Mapping[str, float] = {}

    @property
    def is_drawn(self) -> bool:
        """Not where another row says the same of the same model."""
        return self.flops is not None and not (self.is_rerun and self.set == TEST)


class ScorePanel(NamedTuple):
    """What is scored, and the points: own ones first. ``notes``: what is left out, and why."""

    title: str
    tasks: list[str]
    points: list[ScorePoint]
    notes: list[str]

    @property
    def own(self) -> list[ScorePoint]:
        return [point for point in self.points if point.kind == OWN]


def score_panels(contents: Contents, published: Published) -> list[ScorePanel]:
    """One of the average over the tasks that own runs have, and one for each SQuAD that they have.

    Only of what was fine-tuned from pretraining that was recorded.
    """
    panels = [_glue_panel(contents, published)]
    panels += [_squad_panel(contents, published, version) for version in VERSIONS]
    return [panel for panel in panels if panel.own]


def shared_tasks(tasks: Mapping[str, Sequence[str]]) -> list[str]:
    """The tasks over which rows are averaged: those that the most rows have, and of these all.

    ``tasks``: of each row. Those of another row are taken where as many rows have more of them.
    """
    held = [set(names) for names in tasks.values() if names]
    if not held:
        return []
    choices = [*held, set.intersection(*held)]

    def worth(choice: set[str]) -> tuple[int, int]:
        return sum(choice <= names for names in held), len(choice)

    best = max((choice for choice in choices if choice), key=worth)
    return [name for name in AVERAGED if name in best]


def _glue_panel(contents: Contents, published: Published) -> ScorePanel:
    groups = contents.pretraining
    by_row = {group.label: averaged_tasks(contents, group) for group in groups}
    tasks = shared_tasks(by_row)
    points: list[ScorePoint] = []
    notes: list[str] = []
    for group in groups:
        if set(tasks) <= set(by_row[group.label]):
            values = glue_average(contents, group, tasks) if tasks else {}
            points += _own_point(group, values, _task_means(contents, group, tasks))
        elif by_row[group.label]:
            missing = ", ".join(sorted(set(tasks) - set(by_row[group.label])))
            notes.append(f"{group.label}: not in the average, for it has no score of {missing}")
    notes += [
        f"{point.label}: not drawn, for its FLOPs are not known"
        for point in points
        if not point.is_drawn
    ]
    name = (
        average_name(tasks) if len(tasks) > 1 else " ".join([*tasks, *_metrics(published, tasks)])
    )
    return ScorePanel(name, tasks, [*points, *published_glue(published, tasks)], notes)


def _metrics(published: Published, tasks: Sequence[str]) -> list[str]:
    return [published.metrics[task] for task in tasks]


def _task_means(
    contents: Contents, group: PretrainingGroup, tasks: Sequence[str]
) -> dict[str, float]:
    by_task = {task: glue_average(contents, group, [task]) for task in tasks}
    return {task: statistics.fmean(values.values()) for task, values in by_task.items() if values}


def _own_point(
    group: PretrainingGroup, values: Mapping[int, float], scores: Mapping[str, float]
) -> Iterator[ScorePoint]:
    """``values``: by seed, of which alone the FLOPs are told."""
    if values:
        cost = group_cost(group).cost
        scored = group._replace(runs=[run for run in group.finished if run.seed in values])
        yield ScorePoint(
            group.label, group.label, OWN, DEV, mean_flops(scored), spread_of([*values.values()]),
            cost and cost.encoder, scores=scores,
        )  # fmt: skip


def published_glue(published: Published, tasks: Sequence[str]) -> Iterator[ScorePoint]:
    for row in published.scores:
        if tasks:
            mean = statistics.fmean(row.scores[task] for task in tasks)
            is_rerun = row.source != FROM_PAPER and row.set == TEST
            point = _published_point(published.model(row.model), row.set, mean, row.source)
            chosen = {task: row.scores[task] for task in tasks}
            yield point._replace(scores=chosen, is_rerun=is_rerun)


def _published_point(model: Model, of_set: str, score: float, source: str) -> ScorePoint:
    return ScorePoint(
        model.name,
        model.family,
        DISTILLED if model.distilled else PUBLISHED,
        of_set,
        None if model.flops is None else spread_of([model.flops]),
        spread_of([score]),
        model.parameters,
        model.at_least,
        source=source,
    )


def _squad_panel(contents: Contents, published: Published, version: str) -> ScorePanel:
    """Of F1, on the development set, which is published for all."""
    points: list[ScorePoint] = []
    for group in contents.pretraining:
        measures = measures_of(contents, group)
        measure = measures.get(f"{SQUAD} {SQUAD_METRIC}")
        has_impossible = f"{SQUAD} {OF_IMPOSSIBLE}" in measures
        if measure and has_impossible == (version == VERSIONS[1]):
            points += _own_point(group, measure.values, {})
    for row in published.answers:
        if row.version == version:
            model = published.model(row.model)
            point = _published_point(model, row.set, row.f1, row.source)
            points.append(
                point._replace(is_rerun=SQUAD_METRIC in row.rerun or row.source != FROM_PAPER)
            )
    return ScorePanel(f"SQuAD {version}, F1", [SQUAD], points, [])
