"""Every number by which pretraining is compared, by the seed of the pretraining."""

import statistics
from typing import Iterable, Iterator, NamedTuple, Optional, Sequence

from convbert_plugin.analysis.contents import Contents
from convbert_plugin.analysis.grouping import grouped
from convbert_plugin.analysis.groups import Group, Row, rows_of
from convbert_plugin.analysis.pretraining.pretraining_groups import PretrainingGroup
from convbert_plugin.analysis.pretraining.pretraining_runs import PLACES
from convbert_plugin.analysis.runs import Run
from convbert_plugin.analysis.words import ABSENT
from convbert_plugin.data.glue.glue_tasks import TASKS
from convbert_plugin.data.splits import VALID
from convbert_plugin.files.pretraining_records import TIMES

# The average of the paper is of eight tasks, by these metrics and the first ones of the others.
NOT_AVERAGED = {"wnli", "ax"}
AVERAGED_METRICS = {"sts-b": "spearman"}
AVERAGED = [name for name in TASKS if name not in NOT_AVERAGED]
# Of pretraining, the metrics that stand in a table of all rows.
MAIN_METRICS = {"generator_loss", "masked_lm_loss", "discriminator_auc"}
# Of more tasks of GLUE, their average stands there alone.
MOST_MAIN_TASKS = 3
SCORE_DECIMALS, LOSS_DECIMALS = 1, 4


class Measure(NamedTuple):
    """A number of a group, ``values`` by seed: scores are of 100.

    ``is_main``: it stands in a table of all rows too.
    """

    name: str
    values: dict[int, float]
    decimals: int
    is_main: bool

    def words(self, value: Optional[float], is_difference: bool = False) -> str:
        """As the field writes it; a dash for None."""
        return number_words(value, self.decimals, is_difference)


def number_words(value: Optional[float], decimals: int, is_difference: bool = False) -> str:
    """A number with so many decimals, of a difference with its sign; a dash for None."""
    sign = "+" if is_difference else ""
    return ABSENT if value is None else f"{value:{sign}z.{decimals}f}"


def measures_of(contents: Contents, group: PretrainingGroup) -> dict[str, Measure]:
    """All of a group by their names: of its runs that have ended, and what was fine-tuned."""
    return {measure.name: measure for measure in _measures(contents, group)}


def _measures(contents: Contents, group: PretrainingGroup) -> Iterator[Measure]:
    yield from _pretraining_measures(group)
    tasks = averaged_tasks(contents, group)
    not_main = tasks if len(tasks) > MOST_MAIN_TASKS else ()
    for same in grouped(_counted(contents, group), lambda one: one.task).values():
        for one in same:
            beside = "" if one is same[0] else f" ({one.label})"
            for row in rows_of(one):
                measure = _score_measure(row, beside)
                yield measure._replace(is_main=measure.is_main and one.task not in not_main)
    if len(tasks) > 1:
        name = average_name(tasks)
        yield Measure(name, glue_average(contents, group, tasks), SCORE_DECIMALS, True)


def _pretraining_measures(group: PretrainingGroup) -> Iterator[Measure]:
    subsets = dict.fromkeys(subset for run in group.finished for subset in run.subsets)
    for subset in subsets:
        last = [(run.seed, run.last(subset)) for run in group.finished]
        for name in dict.fromkeys(name for _, entry in last for name in entry):
            if name not in ("subset", *PLACES, *TIMES):
                told = [(seed, entry[name]) for seed, entry in last if name in entry]
                is_main = subset == VALID and name in MAIN_METRICS
                words = name.replace("_", " ").replace(" auc", " AUC")
                beside = "" if subset == VALID else f" ({subset})"
                yield Measure(words + beside, by_seed(told), LOSS_DECIMALS, is_main)


def _counted(contents: Contents, group: PretrainingGroup) -> list[Group]:
    """What was fine-tuned from runs that have ended, each run as long as it was asked to."""
    ended = {run.folder for run in group.finished}
    groups = (
        one._replace(runs=[run for run in one.runs if _origin_folder(run) in ended])
        for one in contents.fine_tuned(group)
    )
    return [one for one in groups if one.runs and not one.runs[0].is_short]


def _origin_folder(run: Run) -> Optional[str]:
    return run.origin.folder if run.origin else None


def _score_measure(row: Row, beside: str) -> Measure:
    origins = {run.folder: run.origin for run in row.group.runs}
    told = [
        (origin.seed, row.percent(score.score))
        for score in row.scores
        if (origin := origins[score.folder])
    ]
    is_main = row.metric == averaged_metric(row.group) and row.subset == VALID and not beside
    return Measure(f"{row.name} {row.metric}{beside}", by_seed(told), SCORE_DECIMALS, is_main)


def averaged_metric(group: Group) -> str:
    """The metric of a task that stands for it."""
    return AVERAGED_METRICS.get(group.task, group.runs[0].metrics[0])


def by_seed(told: Iterable[tuple[int, float]]) -> dict[int, float]:
    """The mean of each seed: what was fine-tuned several times is one pretraining."""
    same = grouped(told, lambda pair: pair[0])
    return {seed: statistics.fmean(value for _, value in same[seed]) for seed in sorted(same)}


def averaged_tasks(contents: Contents, group: PretrainingGroup) -> list[str]:
    """The tasks of GLUE that were fine-tuned from a group, of those that the paper averages."""
    tasks = {one.task for one in _counted(contents, group)}
    return [name for name in AVERAGED if name in tasks]


def average_name(tasks: Sequence[str]) -> str:
    """What the average of some tasks is called."""
    is_all = list(tasks) == AVERAGED
    return f"GLUE average ({'of 8 tasks' if is_all else ', '.join(tasks)})"


def glue_average(
    contents: Contents, group: PretrainingGroup, tasks: Optional[Sequence[str]] = None
) -> dict[int, float]:
    """The mean of the tasks by seed, of 100, for the seeds that have them all.

    Without ``tasks`` those that were fine-tuned from the group.
    """
    tasks = averaged_tasks(contents, group) if tasks is None else tasks
    scores = [_task_scores(contents, group, task) for task in tasks]
    seeds = sorted(set.intersection(*map(set, scores))) if scores else []
    return {seed: statistics.fmean(one[seed] for one in scores) for seed in seeds}


def _task_scores(contents: Contents, group: PretrainingGroup, task: str) -> dict[int, float]:
    of_task = [one for one in _counted(contents, group) if one.task == task]
    for one in of_task[:1]:
        for row in rows_of(one):
            if row.subset == VALID and row.metric == averaged_metric(one):
                return _score_measure(row, "").values
    return {}
