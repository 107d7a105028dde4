"""The report of runs: a page for people, text for the terminal, numbers, and a picture."""

import json
from typing import Any, Iterator

from convbert_plugin.analysis.contents import Contents
from convbert_plugin.analysis.drawing import Styles, styles_of
from convbert_plugin.analysis.page import Section, html_page
from convbert_plugin.analysis.score_report import (
    dots_png,
    overview_sections,
    run_sections,
    score_explanation,
    score_lines,
    score_values,
    task_sections,
    unfinished_lines,
)
from convbert_plugin.analysis.words import printable

FINE_TUNING_TITLE, TITLE = "Fine-tuning report", "Report of runs"


def report_page(contents: Contents) -> str:
    """The page for people."""
    title = TITLE if contents.pretraining else FINE_TUNING_TITLE
    sections = list(sections_of(contents, styles_in(contents)))
    # The first has no title, and stands even where there is no score yet.
    shown = [sections[0], *(section for section in sections[1:] if not section.is_empty)]
    return html_page(title, score_explanation(contents.fine_tuning), shown)


def sections_of(contents: Contents, styles: Styles) -> Iterator[Section]:
    """The sections of the page in their order, the empty ones too."""
    scores = contents.fine_tuning
    yield from overview_sections(scores, styles)
    yield Section("Notes", notes=[*contents.notes, *scores.notes])
    yield from task_sections(scores, styles)
    yield from run_sections(scores)


def report_text(contents: Contents) -> str:
    """The tables, what was not counted, and notes, as plain text."""
    scores = contents.fine_tuning
    notes = [f"note: {note}" for note in (*contents.notes, *scores.notes)]
    rest = map(printable, [*unfinished_lines(scores), *notes])
    return "\n".join([*score_lines(scores), *rest]) + "\n"


def report_json(contents: Contents) -> str:
    """Every number, in full precision."""
    return json.dumps(values_of(contents), indent=1) + "\n"


def values_of(contents: Contents) -> dict[str, Any]:
    """What the JSON file holds: that of fine-tuning alone as it has always been."""
    values = score_values(contents.fine_tuning)
    return {**values, "notes": [*contents.notes, *values["notes"]]}


def report_png(contents: Contents) -> bytes:
    """The scores of every task in one picture."""
    return dots_png(contents.fine_tuning, styles_in(contents))


def styles_in(contents: Contents) -> Styles:
    """A colour and a line for each label, the same in every picture."""
    pretraining = [group.label for group in contents.pretraining]
    return styles_of([*pretraining, *(group.label for group in contents.fine_tuning.groups)])
