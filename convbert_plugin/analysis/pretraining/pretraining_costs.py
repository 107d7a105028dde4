"""What pretraining has cost: updates, text, operations, time, memory, and on what hardware."""

import re
from typing import Any, Callable, Iterator, NamedTuple, Optional, Sequence

import numpy as np

from convbert_plugin.analysis.page import Section, Table
from convbert_plugin.analysis.pretraining.pretraining_groups import PretrainingGroup
from convbert_plugin.analysis.pretraining.pretraining_runs import (
    SECONDS,
    SLOTS,
    TOKENS,
    UPDATES,
    PretrainingRun,
)
from convbert_plugin.analysis.profiling.profiles import AUTHORS, CONVENTIONS
from convbert_plugin.analysis.profiling.recorded_runs import Cost, cost_of
from convbert_plugin.analysis.quantities import (
    Spread,
    duration,
    in_powers,
    in_thousands,
    memory_words,
    spread_of,
    three_digits,
)
from convbert_plugin.analysis.words import ABSENT
from convbert_plugin.errors import UserError
from convbert_plugin.files.records import RANDOM_WEIGHTS

# Of a processor's name, what only says which of its makers' parts it is.
FAMILY = re.compile(r" \([^)]*family[^)]*\)")
TITLE = "Cost"
FLOPS = "flops"
HEADER = (
    *("pretraining", "runs", "updates", "tokens", "FLOPs", "time", "tokens a second"),
    *("parameters", "trained", "memory, at most"),
)
HARDWARE = "hardware"
NUMBERS = set(HEADER) - {"pretraining"}
NOTES = (
    "Means over the runs, and their range where it shows. Tokens are those of the text, without "
    "pads; time is that of the training itself.",
    "FLOPs, parameters and memory are by formula (convbert profile). FLOPs are counted as the "
    "paper's are: each place of a batch, pads too, as one of a full example, forward and backward.",
    "Parameters are the encoder's, which is fine-tuned; trained are those of all networks. Memory "
    "is that of weights, gradients, optimizer and activations on each device, without what the "
    "libraries hold.",
)


class GroupCost(NamedTuple):
    """What the runs of a group cost by formula: ``cost``, or None and why in ``problem``."""

    cost: Optional[Cost]
    problem: str


def group_cost(group: PretrainingGroup) -> GroupCost:
    """By the options of its runs, which differ in their seed alone."""
    try:
        cost = cost_of(group.objective, group.model, group.settings, group.data)
    except UserError as error:
        return GroupCost(None, str(error))
    return GroupCost(cost, "")


def places(run: PretrainingRun, name: str, updates: Sequence[float]) -> Optional[np.ndarray]:
    """A count of the run (of PLACES) after so many updates, by what it recorded.

    None where it recorded none.
    """
    entries = [*run.validations, *run.points]
    known = {entry[UPDATES]: float(entry[name]) for entry in entries if name in entry}
    if not known:
        return None
    if name == SLOTS and TOKENS in run.points[-1]:
        # Validations say tokens alone, among which there are as many pads as before.
        share = run.points[-1][SLOTS] / run.points[-1][TOKENS]
        for entry in run.validations:
            known.setdefault(entry[UPDATES], share * entry[TOKENS])
    at = sorted(known)
    return np.interp(updates, [0, *at], [0.0, *(known[update] for update in at)])


def last_place(run: PretrainingRun, name: str) -> Optional[float]:
    """A count of the run at its end, None where it was not recorded."""
    if name == UPDATES:
        return float(run.updates) or None
    counts = places(run, name, [run.updates])
    return None if counts is None or counts[0] == 0 else float(counts[0])


def run_flops(run: PretrainingRun, cost: Optional[Cost], convention: str) -> Optional[float]:
    """Of the training as far as it has come."""
    slots = last_place(run, SLOTS)
    return None if cost is None or slots is None else cost.flops(slots, convention)


def cost_sections(groups: Sequence[PretrainingGroup]) -> Iterator[Section]:
    """A table, a row a group, and what could not be counted."""
    if not groups:
        return
    rows, header = [_cells(group) for group in groups], list(HEADER)
    used = ["; ".join(dict.fromkeys(hardware(run) for run in group.runs)) for group in groups]
    notes = list(NOTES)
    if len(set(used)) > 1:
        header.append(HARDWARE)
        rows = [[*cells, words] for cells, words in zip(rows, used, strict=True)]
    else:
        notes.append(f"Trained on: {used[0]}.")
    notes += [note for group in groups for note in _notes(group)]
    yield Section(TITLE, notes, Table(header, rows, NUMBERS))


def _cells(group: PretrainingGroup) -> list[str]:
    cost = group_cost(group).cost

    def spread(numbers: Sequence[Optional[float]], words: Callable[[float], str]) -> str:
        known = [number for number in numbers if number is not None]
        return spread_of(known).words(words) if known else ABSENT

    def counted(words: Callable[[Cost], str]) -> str:
        return words(cost) if cost else ABSENT

    return [
        group.label,
        str(len(group.runs)),
        spread([last_place(run, UPDATES) for run in group.runs], lambda count: f"{count:,.0f}"),
        spread([last_place(run, TOKENS) for run in group.runs], in_thousands),
        spread([run_flops(run, cost, AUTHORS) for run in group.runs], in_powers),
        spread([last_place(run, SECONDS) for run in group.runs], duration),
        spread([_speed(run) for run in group.runs], _per_second),
        counted(lambda cost: f"{cost.encoder:,}"),
        counted(lambda cost: f"{cost.parameters:,}"),
        counted(lambda cost: memory_words(cost.memory["peak"]) if cost.memory else ABSENT),
    ]


def _per_second(tokens: float) -> str:
    return in_thousands(tokens) if tokens >= 100 else three_digits(tokens)


def _speed(run: PretrainingRun) -> Optional[float]:
    """Tokens of text a second, over all of its training."""
    tokens, seconds = last_place(run, TOKENS), last_place(run, SECONDS)
    return tokens / seconds if tokens and seconds else None


def _notes(group: PretrainingGroup) -> Iterator[str]:
    cost, problem = group_cost(group)
    if cost is None:
        yield f"{group.label}: FLOPs, parameters and memory are not counted: {problem}"
    elif cost.memory_problem:
        yield f"{group.label}: memory is {cost.memory_problem}"
    if any(run.start["kind"] != RANDOM_WEIGHTS["kind"] for run in group.runs):
        yield f"{group.label}: what its runs began from is not counted"
    for run in group.runs:
        if run.counted_from:
            yield (
                f"{group.label}: of seed {run.seed}, tokens and FLOPs are those after update "
                f"{run.counted_from:,}, from which on they were recorded"
            )
    if unfinished := [run for run in group.runs if not run.is_finished]:
        seeds = ", ".join(str(run.seed) for run in unfinished)
        yield f"{group.label}: not at its end (seed {seeds}): counted as far as it has come"


def hardware(run: PretrainingRun) -> str:
    """What a run was trained on, in words."""
    environment = run.environment
    threads, workers = environment.get("threads"), environment.get("world_size") or 1
    device = environment.get("gpu")
    if not device:
        device = FAMILY.sub("", str(environment.get("processor") or ABSENT))
        device += f", {threads} {'thread' if threads == 1 else 'threads'}" if threads else ""
    return f"{workers} × {device}" if workers > 1 else device


def cost_values(groups: Sequence[PretrainingGroup]) -> dict[str, dict[str, Any]]:
    """The numbers of each group, by its label, in full precision; lists are by run, as seeds."""
    return {group.label: _values(group) for group in groups}


def _values(group: PretrainingGroup) -> dict[str, Any]:
    cost, problem = group_cost(group)
    runs = group.runs
    return {
        "seeds": [run.seed for run in runs],
        **{name: [last_place(run, name) for run in runs] for name in (UPDATES, TOKENS, SLOTS)},
        FLOPS: {
            convention: [run_flops(run, cost, convention) for run in runs]
            for convention in CONVENTIONS
        },
        "flops_of_slot": cost and cost.flops_of_slot,
        "parameters": cost and {"encoder": cost.encoder, "trained": cost.parameters},
        "memory": cost and (cost.memory or None),
        "not_counted": problem or (cost.memory_problem if cost else "") or None,
        "hardware": [hardware(run) for run in runs],
        SECONDS: [last_place(run, SECONDS) for run in runs],
        "wps": [_speed(run) for run in runs],
    }


def mean_flops(group: PretrainingGroup) -> Optional[Spread]:
    """Of its runs, in the authors' convention; None where they are not known."""
    cost = group_cost(group).cost
    known = [run_flops(run, cost, AUTHORS) for run in group.runs]
    counted = [flops for flops in known if flops is not None]
    return spread_of(counted) if counted else None
