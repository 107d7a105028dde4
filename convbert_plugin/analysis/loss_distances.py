"""How far the losses of runs are apart that must be the same."""

from typing import Iterator, NamedTuple, Optional

from convbert_plugin.analysis.pretraining.pretraining_groups import PretrainingGroup
from convbert_plugin.analysis.pretraining.pretraining_runs import PretrainingRun
from convbert_plugin.analysis.row_sets import RowSet
from convbert_plugin.data.splits import VALID

LOSS = "loss"
TRAINING, VALIDATION = "training loss", "last validation loss"
FARTHEST = (TRAINING, VALIDATION)


class Distance(NamedTuple):
    """The largest absolute difference by each of FARTHEST; None where nothing is shared."""

    seeds: list[int]
    farthest: dict[str, Optional[float]]


def distances(rows: RowSet) -> dict[str, Distance]:
    """Those of each row from the reference row, over the seeds of both."""
    groups = dict(rows.with_runs)
    against = groups.pop(rows.reference, None)
    return {name: _distance(group, against) for name, group in groups.items()} if against else {}


def _distance(group: PretrainingGroup, against: PretrainingGroup) -> Distance:
    ours, theirs = ({run.seed: run for run in one.finished} for one in (group, against))
    seeds = sorted(ours.keys() & theirs.keys())
    pairs = [(ours[seed], theirs[seed]) for seed in seeds]
    training = [far for pair in pairs for far in _apart(*(dict(run.curve(LOSS)) for run in pair))]
    validation = [far for pair in pairs for far in _apart(*(_last(run) for run in pair))]
    farthest = {
        name: max(found, default=None)
        for name, found in zip(FARTHEST, (training, validation), strict=True)
    }
    return Distance(seeds, farthest)


def _last(run: PretrainingRun) -> dict[float, float]:
    return dict(run.curve(LOSS, subset=VALID)[-1:])


def _apart(ours: dict[float, float], theirs: dict[float, float]) -> Iterator[float]:
    for updates in ours.keys() & theirs.keys():
        yield abs(ours[updates] - theirs[updates])
