"""The same contents with short labels for pretraining runs that no grid names."""

from typing import Mapping, NamedTuple

from convbert_plugin.analysis.contents import Contents
from convbert_plugin.analysis.groups import Group
from convbert_plugin.analysis.naming import short_names
from convbert_plugin.analysis.runs import Run


class ShortLabels(NamedTuple):
    """``contents``: in which labels are short; ``told``: what those stand for that were not."""

    contents: Contents
    told: Mapping[str, str]


def with_short_labels(contents: Contents) -> ShortLabels:
    """Shorten the labels of what stands in no grid, and of what was fine-tuned from it."""
    in_grids = contents.labels_in_grids
    names = short_names(
        group.label for group in contents.pretraining if group.label not in in_grids
    )
    changed = {label: name for label, name in names.items() if name != label}
    if in_grids & set(names.values()):
        return ShortLabels(contents, {})
    tuned = contents.fine_tuning
    return ShortLabels(
        contents._replace(
            pretraining=[
                group._replace(label=changed.get(group.label, group.label))
                for group in contents.pretraining
            ],
            fine_tuning=tuned._replace(
                groups=[_renamed(group, changed) for group in tuned.groups],
                answers=[
                    answers._replace(group=_renamed(answers.group, changed))
                    for answers in tuned.answers
                ],
                unfinished=[_from(run, changed) for run in tuned.unfinished],
            ),
        ),
        {name: label for label, name in changed.items()},
    )


def _renamed(group: Group, changed: Mapping[str, str]) -> Group:
    origin = group.runs[0].origin
    if origin is None or origin.label not in changed:
        return group
    # Where it began is told first.
    label = changed[origin.label] + group.label.removeprefix(origin.label)
    return group._replace(label=label, runs=[_from(run, changed) for run in group.runs])


def _from(run: Run, changed: Mapping[str, str]) -> Run:
    origin = run.origin
    if origin is None or origin.label not in changed:
        return run
    return run._replace(origin=origin._replace(label=changed[origin.label]))
