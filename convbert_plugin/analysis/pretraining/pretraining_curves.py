"""How pretraining went: losses and AUC over updates, text, operations and time."""

from typing import Callable, Iterator, NamedTuple, Optional, Sequence

import numpy as np

from convbert_plugin.analysis.drawing import pictures
from convbert_plugin.analysis.page import Entry, Section, Table
from convbert_plugin.analysis.pretraining.curve_pictures import (
    BEHIND,
    Curve,
    CurvePanel,
    CurvePoint,
    draw_pretraining,
    shown_rows,
)
from convbert_plugin.analysis.pretraining.pretraining_costs import (
    FLOPS,
    GroupCost,
    group_cost,
    places,
)
from convbert_plugin.analysis.pretraining.pretraining_groups import PretrainingGroup
from convbert_plugin.analysis.pretraining.pretraining_runs import (
    SECONDS,
    SLOTS,
    TOKENS,
    UPDATES,
    PretrainingRun,
)
from convbert_plugin.analysis.profiling.profiles import AUTHORS
from convbert_plugin.analysis.quantities import spread_of
from convbert_plugin.analysis.theme import Styles
from convbert_plugin.analysis.words import ABSENT
from convbert_plugin.data.splits import VALID

TITLE = "Curves of pretraining"
METRICS = {
    "generator_loss": "generator loss",
    "discriminator_loss": "discriminator loss",
    "discriminator_auc": "discriminator AUC",
    "masked_lm_loss": "masked-LM loss",
}
"""What is drawn, of those that runs have."""
AXES = (UPDATES, TOKENS, FLOPS, SECONDS)
# Of a curve: where runs recorded more, means of neighbours are drawn.
MOST_POINTS = 80
NOTE = (
    "Lines are numbers of the training, dropout on: the mean over the runs, and a band from the "
    "lowest to the highest. Hollow marks are those of held-out text. Losses are in nats a token."
)
HEADER = ("pretraining", "runs", *METRICS.values())


class RunCurve(NamedTuple):
    """A number of one run after so many updates."""

    run: PretrainingRun
    updates: np.ndarray
    values: np.ndarray

    def between(self, updates: np.ndarray) -> np.ndarray:
        """Its values there, in a line from point to point, and NaN beyond its ends."""
        return np.interp(updates, self.updates, self.values, left=np.nan, right=np.nan)

    def exactly(self, updates: np.ndarray) -> np.ndarray:
        """Its values there, NaN where there are none."""
        known = dict(zip(self.updates.tolist(), self.values.tolist(), strict=True))
        return np.array([known.get(update, np.nan) for update in updates.tolist()])

    def thinned(self) -> "RunCurve":
        """Means of so many neighbours that no more points are left than are drawn."""
        together = -(-len(self.updates) // MOST_POINTS)
        begins = np.arange(0, len(self.updates), together)
        counts = np.diff(np.append(begins, len(self.updates)))
        updates, values = (
            np.add.reduceat(numbers, begins) / counts for numbers in (self.updates, self.values)
        )
        return RunCurve(self.run, updates, values)


def curve_sections(
    groups: Sequence[PretrainingGroup], styles: Styles, beside: str = ""
) -> Iterator[Section]:
    """A picture of all curves and the last held-out numbers; a line where there are none.

    ``beside``: what stands in the title too.
    """
    if not groups:
        return
    title = f"{TITLE}, {beside}" if beside else TITLE
    panels = curve_panels(groups)
    notes = [note for group in groups for note in _notes(group)]
    if not panels:
        yield Section(title, notes)
        return
    names = ", ".join(dict.fromkeys(panel.metric for panel in panels))

    def draw(width: float, image_format: str) -> bytes:
        return draw_pretraining(panels, styles, width, image_format)

    picture = pictures(draw, f"Pretraining: {names} over updates, tokens, FLOPs and time")
    yield Section(
        title, notes, _table(groups), [picture], lead=NOTE, legend=_legend(panels, styles)
    )


def curve_panels(groups: Sequence[PretrainingGroup]) -> list[CurvePanel]:
    """A panel for each number over each axis, where there is a curve."""
    costs = {group.label: group_cost(group) for group in groups}
    panels = []
    for metric, name in METRICS.items():
        for over in AXES:
            curves = [_curve(group, metric, over, costs[group.label]) for group in groups]
            shown = [curve for curve in curves if curve.line or curve.held_out]
            if shown:
                panels.append(CurvePanel(name, over, shown))
    return panels


def _curve(group: PretrainingGroup, metric: str, over: str, cost: GroupCost) -> Curve:
    training = [curve.thinned() for curve in run_curves(group, metric, None)]
    held_out = run_curves(group, metric, VALID)
    return Curve(
        group.label,
        mean_curve(training, over, cost, RunCurve.between),
        mean_curve(held_out, over, cost, RunCurve.exactly),
    )


def run_curves(group: PretrainingGroup, metric: str, subset: Optional[str]) -> list[RunCurve]:
    """A number of each run of a group that has it: of a set, else of the training."""
    found = []
    for run in group.runs:
        if entries := run.curve(metric, subset=subset):
            updates, values = np.array(entries, dtype=float).T
            found.append(RunCurve(run, updates, values))
    return found


def mean_curve(
    curves: Sequence[RunCurve],
    over: str,
    cost: GroupCost,
    value: Callable[[RunCurve, np.ndarray], np.ndarray],
) -> list[CurvePoint]:
    """Mean and range over runs, each as far as it has come, and where on the axis ``over``.

    ``value``: of a curve at updates. None are there where no run says how far it was on the axis.
    """
    if not curves:
        return []
    every = np.unique(np.concatenate([curve.updates for curve in curves]))
    # Runs that recorded at updates of their own have many together.
    chosen = np.unique(np.linspace(0, len(every) - 1, MOST_POINTS).round().astype(int))
    updates = every[chosen]
    known = [
        (position, value(curve, updates))
        for curve in curves
        if (position := _position(curve.run, over, cost, updates)) is not None
    ]
    points = []
    for number in range(len(updates)):
        there = [
            (float(position[number]), float(heights[number]))
            for position, heights in known
            if np.isfinite(heights[number])
        ]
        if there:
            at, values = zip(*there, strict=True)
            points.append(CurvePoint(float(np.mean(at)), spread_of(values)))
    return points


def _position(
    run: PretrainingRun, over: str, cost: GroupCost, updates: np.ndarray
) -> Optional[np.ndarray]:
    """Where on an axis a run was after so many updates, None where that is not known."""
    if over == UPDATES:
        return updates
    at = updates.tolist()
    if over != FLOPS:
        return places(run, over, at)
    slots = places(run, SLOTS, at)
    return None if slots is None or cost.cost is None else cost.cost.flops_of_slot[AUTHORS] * slots


def _legend(panels: Sequence[CurvePanel], styles: Styles) -> list[Entry]:
    labels = dict.fromkeys(curve.label for panel in panels for curve in panel.curves)
    shown = shown_rows(panels)
    entries = [Entry(styles[label], label, "") for label in shown]
    if others := len(labels) - len(shown):
        words = "the first, the best and the worst at the end stand out"
        entries.append(Entry(BEHIND, f"{others} others", words))
    return entries


def _table(groups: Sequence[PretrainingGroup]) -> Table:
    rows = [
        [group.label, str(len(_scored(group))), *(_last(group, metric) for metric in METRICS)]
        for group in groups
    ]
    # What no group has is left out.
    kept = [
        place
        for place, name in enumerate(HEADER)
        if name in HEADER[:2] or any(row[place] != ABSENT for row in rows)
    ]
    header = [HEADER[place] for place in kept]
    cells = [[row[place] for place in kept] for row in rows]
    return Table(header, cells, set(header[1:]), {HEADER[0]}, "The last of held-out text")


def _scored(group: PretrainingGroup) -> list[PretrainingRun]:
    """Those with a score of held-out text: that have ended, or as far as they are if none has."""
    return [run for run in group.finished or group.runs if run.last()]


def _last(group: PretrainingGroup, metric: str) -> str:
    values = [run.last()[metric] for run in _scored(group) if metric in run.last()]
    return spread_of(values).words(lambda value: f"{value:.3f}") if values else ABSENT


def _notes(group: PretrainingGroup) -> Iterator[str]:
    silent = [run for run in group.runs if not (run.points or run.validations)]
    if silent:
        seeds = ", ".join(str(run.seed) for run in silent)
        yield f"{group.label}: no curve of seed {seeds}: its record holds no numbers yet"
    elif problem := group_cost(group).problem:
        yield f"{group.label}: not over FLOPs, which are not counted: {problem}"
