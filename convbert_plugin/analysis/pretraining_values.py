"""The numbers of pretraining runs that a report holds beside its comparisons."""

from typing import Any

from convbert_plugin.analysis.comparisons import seed_values
from convbert_plugin.analysis.contents import Contents
from convbert_plugin.analysis.grouping import differences_of
from convbert_plugin.analysis.measures import measures_of
from convbert_plugin.analysis.pretraining.pretraining_groups import PretrainingGroup
from convbert_plugin.analysis.pretraining.pretraining_runs import PretrainingRun


def pretraining_values(contents: Contents) -> dict[str, Any]:
    """Every group with its runs and measures, and in what they differ."""
    groups = contents.pretraining
    return {
        "groups": [_group_values(contents, group) for group in groups],
        "differences": differences_of(
            {group.label: group.runs[0].facts() for group in groups}
        )._asdict(),
    }


def _group_values(contents: Contents, group: PretrainingGroup) -> dict[str, Any]:
    return {
        "label": group.label,
        "objective": group.objective,
        "start": group.runs[0].start,
        "model": group.model,
        "settings": group.settings,
        "data": group.data,
        "budget_minutes": group.runs[0].budget_minutes,
        "measures": {
            name: seed_values(measure.values)
            for name, measure in measures_of(contents, group).items()
        },
        "runs": [_run_values(run) for run in group.runs],
    }


def _run_values(run: PretrainingRun) -> dict[str, Any]:
    """Its ``seconds`` are what differs between runs that are equal."""
    return {
        "folder": run.folder,
        "seed": run.seed,
        "updates": run.updates,
        "tokens": run.tokens,
        "seconds": run.seconds,
        "ended": run.ended,
        "environment": run.environment,
        "last": {subset: run.last(subset) for subset in run.subsets},
    }
