"""Fine-tuning runs grouped by where they began and how, and summed up over seeds."""

import statistics
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Collection, Iterator, Mapping, NamedTuple, Optional, Sequence

from convbert_plugin.analysis.answer_files import AnswerFile, read_answers
from convbert_plugin.analysis.grouping import (
    differing,
    ends_in_words,
    grouped,
    subsets_of,
    value_words,
)
from convbert_plugin.analysis.runs import (
    RECORDED,
    Origin,
    Run,
    different_files,
    find_records,
    read_run,
)
from convbert_plugin.data.glue.glue_tasks import SECOND_VALID, TASKS
from convbert_plugin.data.splits import VALID
from convbert_plugin.errors import UserError
from convbert_plugin.files.pretraining_records import PRETRAINING_FILE
from convbert_plugin.files.records import RANDOM_WEIGHTS, RECORD_FILE

ENDED = "ended"
# Words for what runs differ in, where it is not the name of an option and its value.
FACT_WORDS = {"model": "{}", "head": "{} head", RECORDED: "{}", ENDED: "{}"}
# Words for sets beside the usual one.
SET_WORDS = {("mnli", SECOND_VALID): "mismatched"}


class Group(NamedTuple):
    """Runs that differ in their seed alone; ``label``: where they began, and how, in words.

    ``facts``: what the label tells beside where they began, by name.
    """

    label: str
    runs: list[Run]
    facts: Mapping[str, Any] = {}

    @property
    def task(self) -> str:
        return self.runs[0].task

    @property
    def title(self) -> str:
        return f"{self.task}, {self.label}"

    @property
    def subsets(self) -> list[str]:
        """The sets that its runs were scored on, the usual one first."""
        return subsets_of(entry for run in self.runs for entry in run.validations)

    def name(self, subset: str) -> str:
        """The task, and the set where it is not the usual one."""
        words = SET_WORDS.get((self.task, subset), subset)
        return self.task if subset == VALID else f"{self.task} ({words})"


class SeedScore(NamedTuple):
    """The score of the last validation of a run."""

    seed: int
    folder: str
    updates: int
    score: float


class Row(NamedTuple):
    """The scores of a group in one metric on one set, by seed.

    ``majority``: what the most frequent class scores there; None for scores instead of classes,
    and where the runs of the group do not agree on it.
    """

    group: Group
    subset: str
    metric: str
    scores: list[SeedScore]
    majority: Optional[float]

    @property
    def name(self) -> str:
        """The task, and the set where it is not the usual one."""
        return self.group.name(self.subset)

    @property
    def title(self) -> str:
        """The task, the set and the metric."""
        return f"{self.name}, {self.metric}"

    def percent(self, score: float) -> float:
        """A score as one of 0 to 100."""
        return self.group.runs[0].kind.percent * score

    @property
    def values(self) -> list[float]:
        return [score.score for score in self.scores]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def statistics(self) -> dict[str, Optional[float]]:
        """By name; std: the sample standard deviation, None of a single seed."""
        return {
            "median": self.median,
            "best": max(self.values),
            "mean": statistics.fmean(self.values),
            "std": statistics.stdev(self.values) if len(self.values) > 1 else None,
            "majority": self.majority,
        }


Panel = list[Row]
"""The rows of one task, set and metric: a group each."""


class GroupAnswers(NamedTuple):
    """What the runs of a group have answered on one set, by seed."""

    group: Group
    subset: str
    files: list[AnswerFile]


class Summary(NamedTuple):
    """All that a report tells: groups, runs that have no score yet, and what to know of them.

    ``answers``: of the groups whose runs keep them.
    """

    groups: list[Group]
    answers: list[GroupAnswers]
    unfinished: list[Run]
    notes: list[str]

    def panels(self) -> list[Panel]:
        """The rows to compare with each other, task by task."""
        rows = (row for group in self.groups for row in rows_of(group))
        return list(grouped(rows, lambda row: (row.group.task, row.subset, row.metric)).values())


def summarize(
    places: Sequence[Path],
    origin_of: Callable[[Run], Optional[Origin]] = lambda run: None,
    with_others: Collection[Path] = (),
) -> Summary:
    """Read and group every run in or below the folders ``places``.

    ``origin_of``: the pretraining that a run began from, where that is told of too;
    ``with_others``: the places that hold other runs.

    Raises:
        UserError: a folder that is missing; without others, no run at all, or none whose record
            can be read.
    """
    found = {place: find_records(place) for place in places}
    paths = different_files(found.values())
    if not paths and not with_others:
        raise UserError(
            f"{', '.join(map(str, places))}: no {RECORD_FILE} there or below: name folders of "
            f"runs of fine-tuning, or of pretraining, which leave a {PRETRAINING_FILE}"
        )
    read, unreadable = _read_runs(paths)
    runs = [run._replace(origin=origin_of(run)) for run in read]
    if not runs and not with_others:
        raise unreadable[0]
    groups = group_runs([run for run in runs if run.validations])
    answers, missing = _answers(groups)
    empty = [
        f"{place}: holds no {RECORD_FILE}"
        for place, records in found.items()
        if not records and place not in with_others
    ]
    return Summary(
        groups=groups,
        answers=answers,
        unfinished=[run for run in runs if not run.validations],
        notes=[
            *(f"not counted: {error}" for error in unreadable),
            *(f"answers not shown: {error}" for error in missing),
            *empty,
            *(note for group in groups for note in _notes(group)),
        ],
    )


def _read_runs(paths: Sequence[Path]) -> tuple[list[Run], list[UserError]]:
    """The runs, and what is wrong with records that cannot be read."""
    runs, errors = [], []
    for path in paths:
        try:
            runs.append(read_run(path))
        except UserError as error:
            errors.append(error)
    return runs, errors


def _answers(groups: Sequence[Group]) -> tuple[list[GroupAnswers], list[UserError]]:
    """What the groups have answered, and what is wrong with files that cannot be read."""
    answers, errors = [], []
    for group in groups:
        for subset in group.subsets:
            files = []
            for run in group.runs:
                if run.kind.has_answers and subset in run.ends:
                    try:
                        files.append(read_answers(run, subset))
                    except UserError as error:
                        errors.append(error)
            if files:
                answers.append(GroupAnswers(group, subset, files))
    return answers, errors


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Group runs that are equal but for their seed, in the order of the tasks.

    Labels say where the runs began, in what those of a task differ, and where they ended if that
    is too early, or not where others did that were made alike.
    """
    groups = grouped(runs, lambda run: (run.making, *run.reached))
    made_alike = Counter(making for making, *_ in groups)
    recorded = [run for run in runs if run.settings]
    shown = {
        *_differing(runs, Run.basics, lambda run: run.task),
        *_differing(recorded, lambda run: run.settings, lambda run: run.task),
        *_differing(
            recorded, Run.implied, lambda run: (run.task, run.start_words, run.model_words)
        ),
    }
    known = list(TASKS)

    def facts_of(run: Run) -> dict[str, Any]:
        facts = {**run.basics(), **run.settings, **run.implied()}
        told = {name: value for name, value in facts.items() if name in shown}
        is_told = run.is_short or made_alike[run.making] > 1
        return {**told, ENDED: run.end_words} if is_told else told

    def group_of(members: Sequence[Run]) -> Group:
        run, facts = members[0], facts_of(members[0])
        words = (_fact_words(name, value) for name, value in facts.items())
        label = ", ".join(filter(None, [run.start_words, *words]))
        return Group(label, sorted(members, key=lambda run: (*run.seeds, run.folder)), facts)

    def order(group: Group) -> tuple:
        is_random = group.runs[0].start["kind"] == RANDOM_WEIGHTS["kind"]
        # The known tasks first, in their order, then others by name.
        place = known.index(group.task) if group.task in known else len(known)
        origin = group.runs[0].origin
        pretraining = -1 if origin is None else origin.place
        return place, group.task, not is_random, pretraining, group.label

    return sorted(map(group_of, groups.values()), key=order)


def _differing(
    runs: Sequence[Run], facts: Callable[[Run], dict], alike: Callable[[Run], Any]
) -> Iterator[str]:
    """The facts in which runs that are ``alike`` differ."""
    for same in grouped(runs, alike).values():
        yield from differing([facts(run) for run in same])


def _fact_words(name: str, value: Any) -> str:
    return FACT_WORDS.get(name, f"{name} {{}}").format(value_words(value))


def rows_of(group: Group) -> list[Row]:
    """The scores of a group, set by set and metric by metric."""
    metrics = {metric: None for run in group.runs for metric in run.metrics}
    return [
        Row(group, subset, metric, scores, _majority(group, subset, metric))
        for subset in group.subsets
        for metric in metrics
        if (scores := list(_last_scores(group, subset, metric)))
    ]


def _last_scores(group: Group, subset: str, metric: str) -> Iterator[SeedScore]:
    for run in group.runs:
        if curve := run.curve(subset, metric):
            yield SeedScore(run.seed, run.folder, *curve[-1])


def _majorities(group: Group, subset: str, metric: str) -> set[Optional[float]]:
    return {run.majority.get(subset, {}).get(metric) for run in group.runs}


def _majority(group: Group, subset: str, metric: str) -> Optional[float]:
    values = _majorities(group, subset, metric)
    return values.pop() if len(values) == 1 else None


def _notes(group: Group) -> Iterator[str]:
    for (seed, *_), same in grouped(group.runs, lambda run: run.seeds).items():
        if len(same) > 1:
            folders = " and ".join(run.folder for run in same)
            yield (
                f"{group.title}: seed {seed} was run more than once ({folders}): each counts as a "
                "run of its own"
            )
    ends = {run.updates for run in group.runs}
    limit = group.runs[0].settings.get("max_update") or 0
    # Where nothing ends them early, their label says it.
    if (early_ends := group.runs[0].early_ends) and (len(ends) > 1 or min(ends) < limit):
        listed = ends_in_words((run.seed, run.updates) for run in group.runs)
        of_limit = f" of {limit:,} updates" if limit else ""
        settings = ", ".join(f"{name} {value:g}" for name, value in early_ends.items())
        yield (
            f"{group.title}: the last scores are of {listed}{of_limit}: by {settings} runs end "
            "early, but some may have been broken off"
        )
    if any(len(_majorities(group, row.subset, row.metric)) > 1 for row in rows_of(group)):
        yield (
            f"{group.title}: the runs were not scored on the same data, for their majority "
            "classes differ"
        )
