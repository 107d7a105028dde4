"""The report of runs: a page for people, text for the terminal, numbers, and a picture."""

import json
from typing import Any, Iterator, Mapping

from convbert_plugin.analysis.comparison_pictures import draw_rows
from convbert_plugin.analysis.comparison_report import (
    comparison_lines,
    comparison_sections,
    comparison_values,
)
from convbert_plugin.analysis.contents import Contents
from convbert_plugin.analysis.drawing import WIDE
from convbert_plugin.analysis.fine_tuning_comparisons import (
    panel_comparison_sections,
    panel_comparison_values,
)
from convbert_plugin.analysis.page import Entry, Section, html_page
from convbert_plugin.analysis.pretraining.curve_pictures import MOST_ROWS
from convbert_plugin.analysis.pretraining.pretraining_costs import cost_sections, cost_values
from convbert_plugin.analysis.pretraining.pretraining_curves import curve_sections
from convbert_plugin.analysis.pretraining.pretraining_tables import (
    difference_sections,
    environment_sections,
    pretraining_run_sections,
    setting_sections,
    text_sections,
)
from convbert_plugin.analysis.pretraining_values import pretraining_values
from convbert_plugin.analysis.published.published_report import (
    published_sections,
    published_values,
)
from convbert_plugin.analysis.row_sets import (
    ALONE_TITLE,
    OTHERS_TITLE,
    main_measures,
    row_sets,
)
from convbert_plugin.analysis.score_report import (
    dots_png,
    overview_sections,
    run_sections,
    score_difference_sections,
    score_explanation,
    score_lines,
    score_values,
    task_sections,
    unfinished_lines,
)
from convbert_plugin.analysis.short_labels import with_short_labels
from convbert_plugin.analysis.theme import Styles, styles_of
from convbert_plugin.analysis.words import printable

FINE_TUNING_TITLE, TITLE = "Fine-tuning report", "Report of runs"
SCORES_TITLE = "Fine-tuning scores"
EXPLANATION = (
    "Pretraining runs and what was fine-tuned from them. A row is runs that differ in their seed "
    "alone; their losses are those of the last validation."
)


def report_page(contents: Contents) -> str:
    """The page for people."""
    contents, told = with_short_labels(contents)
    styles = styles_in(contents)
    sections = [_with_legend(each, told, styles) for each in sections_of(contents, styles)]
    scores = score_explanation(contents.fine_tuning)
    if not contents.pretraining:
        # The first has no title, and stands even where there is no score yet.
        shown = [sections[0], *(section for section in sections[1:] if not section.is_empty)]
        return html_page(FINE_TUNING_TITLE, scores, shown)
    shown = [section for section in sections if not section.is_empty]
    return html_page(TITLE, f"{EXPLANATION} {scores}".rstrip(), shown)


def _with_legend(section: Section, told: Mapping[str, str], styles: Styles) -> Section:
    """What short labels stand for, where what has them is compared."""
    if section.title not in (OTHERS_TITLE, ALONE_TITLE):
        return section
    return section._replace(legend=[Entry(styles[name], name, told[name]) for name in told])


def sections_of(contents: Contents, styles: Styles) -> Iterator[Section]:
    """The sections of the page in their order, the empty ones too."""
    scores, groups = contents.fine_tuning, contents.pretraining
    notes = Section("Notes", notes=[*contents.notes, *scores.notes])
    if not groups:
        yield from overview_sections(scores, styles)
        yield from panel_comparison_sections(scores, styles)
        yield from task_sections(scores, styles)
        yield from score_difference_sections(scores, styles)
        yield from run_sections(scores, styles)
        yield notes
        return
    for rows in row_sets(contents):
        yield from comparison_sections(rows, styles)
    yield from _curves(contents, styles)
    if scores.groups:
        overview, *others = overview_sections(scores, styles)
        yield from (overview._replace(title=SCORES_TITLE), *others)
    yield from task_sections(scores, styles)
    yield from published_sections(contents, styles)
    yield from cost_sections(groups)
    yield from text_sections(groups)
    yield from difference_sections(groups)
    yield from setting_sections(groups)
    yield from environment_sections(
        {
            "pretraining": [run.environment for group in groups for run in group.runs],
            "fine-tuning": [run.environment for group in scores.groups for run in group.runs],
        }
    )
    yield from pretraining_run_sections(groups)
    yield from run_sections(scores, styles)
    yield notes


def _curves(contents: Contents, styles: Styles) -> Iterator[Section]:
    """Of all rows together, or of each comparison where these are too many to be told apart."""
    if len(contents.pretraining) <= MOST_ROWS:
        yield from curve_sections(contents.pretraining, styles)
        return
    for rows in row_sets(contents):
        yield from curve_sections([group for _, group in rows.with_runs], styles, rows.title)


def report_text(contents: Contents) -> str:
    """The tables, what was not counted, and notes, as plain text."""
    contents, told = with_short_labels(contents)
    scores = contents.fine_tuning
    blocks = [comparison_lines(rows) for rows in row_sets(contents)]
    if told:
        blocks.append([printable(f"{name}: {label}") for name, label in told.items()])
    if scores.groups or not blocks:
        blocks.append(score_lines(scores))
    notes = [f"note: {note}" for note in (*contents.notes, *scores.notes)]
    rest = [printable(line) for line in (*unfinished_lines(scores), *notes)]
    blocks[-1] += rest
    return "\n\n".join("\n".join(lines) for lines in blocks) + "\n"


def report_json(contents: Contents) -> str:
    """Every number, in full precision."""
    return json.dumps(values_of(contents), indent=1) + "\n"


def values_of(contents: Contents) -> dict[str, Any]:
    """What the JSON file holds: that of fine-tuning alone as it has always been."""
    values = score_values(contents.fine_tuning)
    values["notes"] = [*contents.notes, *values["notes"]]
    if contents.pretraining:
        values["pretraining"] = pretraining_values(contents)
        values["comparisons"] = [comparison_values(rows) for rows in row_sets(contents)]
        values["cost"] = cost_values(contents.pretraining)
        values["beside_published"] = published_values(contents)
    elif compared := panel_comparison_values(contents.fine_tuning):
        values["comparisons"] = compared
    return values


def report_png(contents: Contents) -> bytes:
    """The scores of every task in one picture, or what was compared of pretraining alone."""
    contents, _ = with_short_labels(contents)
    styles = styles_in(contents)
    sets = [rows for rows in row_sets(contents) if main_measures(rows)]
    if contents.fine_tuning.groups or not sets:
        return dots_png(contents.fine_tuning, styles)
    return draw_rows(sets[0], styles, WIDE, "png")


def styles_in(contents: Contents) -> Styles:
    """A colour and a line for each label, the same in every picture."""
    pretraining = [group.label for group in contents.pretraining]
    return styles_of([*pretraining, *(group.label for group in contents.fine_tuning.groups)])
