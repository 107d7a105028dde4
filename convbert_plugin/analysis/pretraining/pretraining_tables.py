"""Tables of pretraining runs: their text, what they were made with, where they ran, the runs."""

import json
from typing import Any, Iterator, Sequence

from convbert_plugin.analysis.grouping import differences_of, differing, grouped, value_words
from convbert_plugin.analysis.page import Section, Table
from convbert_plugin.analysis.pretraining.pretraining_groups import SHOWN_LETTERS, PretrainingGroup
from convbert_plugin.analysis.pretraining.pretraining_runs import PretrainingRun
from convbert_plugin.analysis.quantities import duration
from convbert_plugin.analysis.words import ABSENT, in_full

TIME = "time"
"""The column of a table whose cells differ between runs that are equal."""
TEXT_HEADER = (
    "runs", "tokens of text", "used", "examples", "tokens seen", "passes", "vocabulary"
)  # fmt: skip
TEXT_NOTE = (
    "used: the share of the text's tokens that stands in an example; the rest is in pieces too "
    "short for one. passes: the tokens that the longest run saw, over those used."
)
RUNS_HEADER = ("runs", "seed", "updates", "tokens seen", TIME, "validated", "ended by", "folder")
SETTINGS_HEADER = ("setting", "value")


def text_sections(groups: Sequence[PretrainingGroup]) -> Iterator[Section]:
    """How much of the text the examples used, and how often it was seen."""
    rows = [[group.label, *_text_cells(group)] for group in groups]
    numbers = set(TEXT_HEADER) - {"runs"}
    yield Section("Text used", [TEXT_NOTE], Table(TEXT_HEADER, rows, numbers))


def _text_cells(group: PretrainingGroup) -> list[str]:
    data = group.data
    tokens, share = data.get("train_tokens"), data.get("used_share")
    seen = max(run.tokens for run in group.runs)
    used = tokens * share if tokens and share else 0
    return [
        in_full(tokens),
        ABSENT if share is None else f"{share:.1%}",
        in_full(data.get("train_examples")),
        in_full(seen),
        f"{seen / used:.1f}" if used else ABSENT,
        in_full(data.get("vocabulary_size")),
    ]


def difference_sections(groups: Sequence[PretrainingGroup]) -> Iterator[Section]:
    """In what the groups differ."""
    told = differences_of({group.label: group.runs[0].facts() for group in groups})
    if told.names:
        yield Section("What differs", table=Table(["runs", *told.names], list(told.rows())))


def setting_sections(groups: Sequence[PretrainingGroup]) -> Iterator[Section]:
    """What all of them were made with."""
    facts = [group.runs[0].facts() for group in groups]
    other = set(differing(facts))
    rows = [
        [name, value_words(value)]
        for told in facts[:1]
        for name, value in told.items()
        if name not in other
    ]
    words = "Settings of all pretraining runs" if len(facts) > 1 else "Settings of the pretraining"
    table = Table(SETTINGS_HEADER, rows, paths={"value"}, summary=f"{words} ({len(rows)})")
    yield Section("Configuration", table=table)


def environment_sections(runs: dict[str, Sequence[dict]]) -> Iterator[Section]:
    """Versions and hardware; ``runs``: where each of a kind ran."""
    found = [(kind, one) for kind, environments in runs.items() for one in environments if one]
    names = list(dict.fromkeys(name for _, one in found for name in one))
    alike = grouped(found, lambda pair: (pair[0], json.dumps(pair[1], sort_keys=True)))
    rows = [
        [kind, f"{len(same):,}", *(_told(name, same[0][1].get(name)) for name in names)]
        for (kind, _), same in alike.items()
    ]
    if rows:
        header = ["runs", "number", *(name.replace("_", " ") for name in names)]
        yield Section("Versions and hardware", table=Table(header, rows, {"number"}))


def _told(name: str, value: Any) -> str:
    if value is None:
        return ABSENT
    words = value_words(value)
    if name != "commit":
        return words
    commit, *changed = words.split("-")
    return "-".join([commit[:SHOWN_LETTERS], *changed])


def pretraining_run_sections(groups: Sequence[PretrainingGroup]) -> Iterator[Section]:
    """Every run."""
    rows = [[group.label, *_run_cells(run)] for group in groups for run in group.runs]
    numbers = {"seed", "updates", "tokens seen", TIME}
    summary = f"The {len(rows)} runs and their folders" if rows else ""
    table = Table(RUNS_HEADER, rows, numbers, {"folder"}, summary)
    yield Section("Pretraining runs", table=table)


def _run_cells(run: PretrainingRun) -> list[str]:
    return [
        str(run.seed),
        f"{run.updates:,}",
        f"{run.tokens:,}",
        duration(run.seconds),
        ", ".join(run.subsets) or "never",
        run.ended.replace("_", " ") if run.ended else "not ended",
        run.folder,
    ]
