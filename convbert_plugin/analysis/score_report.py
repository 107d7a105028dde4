"""What a report tells of fine-tuning: sections of a page, a table for the terminal, the numbers."""

from functools import partial
from typing import Iterator, Sequence

from convbert_plugin.analysis.answer_report import answer_sections, answer_values
from convbert_plugin.analysis.drawing import WIDE, pictures
from convbert_plugin.analysis.grouping import differences_of, grouped
from convbert_plugin.analysis.groups import Group, Row, Summary, rows_of
from convbert_plugin.analysis.naming import Names, is_in_few_words, legend_of, short_names
from convbert_plugin.analysis.page import Section, Table
from convbert_plugin.analysis.runs import Run
from convbert_plugin.analysis.score_pictures import (
    draw_curves,
    draw_dots,
    score_words,
    with_curves,
)
from convbert_plugin.analysis.theme import Styles
from convbert_plugin.analysis.words import ABSENT, aligned
from convbert_plugin.files.records import CLASSIFICATION_HEAD, QUESTION_ANSWERING_HEAD, START

HEADER = (
    "task", "start", "metric", "median", "best", "mean", "std", "majority", "runs", "seeds"
)  # fmt: skip
NUMBERS = {"median", "best", "mean", "std", "majority", "runs", "updates", "seed"}
# On a page, where a legend says what the names of runs stand for.
PAGE_HEADER = ("task", "runs", "median", "mean ± std", "best", "majority", "seeds")
PAGE_NUMBERS = {"median", "mean ± std", "best", "majority"}
# A table of more rows is folded away, for the picture tells most of it.
MOST_SHOWN, FOLDED = 12, "The scores in numbers"
RUNS_HEADER = ("task", "runs", "seed", "updates", "scores", "folder")
RUNS_NUMBERS = {"seed", "updates"}
# By what the runs' records call the head that answers.
EXPLANATIONS = {
    CLASSIFICATION_HEAD: (
        "Scores are those of the last validation of each run, times 100; std is their sample "
        "standard deviation over the runs; majority is what the most frequent class of the "
        "training set scores."
    ),
    QUESTION_ANSWERING_HEAD: (
        "Scores of SQuAD are those of the last validation of each run, 0 to 100 as the official "
        "evaluators give them; std is their sample standard deviation over the runs. exact_match "
        "and f1, of all questions, of those that have an answer and of those that have none, are "
        "at the threshold that the run had; best_exact_match and best_f1 at the one that is best "
        "for the questions scored."
    ),
}


def table_cells(row: Row) -> list[str]:
    """The cells of a row, as HEADER names them."""
    return [
        row.name,
        row.group.label,
        row.metric,
        *(score_words(row, score) for score in row.statistics.values()),
        str(len(row.scores)),
        ", ".join(str(score.seed) for score in row.scores),
    ]


def score_lines(summary: Summary) -> list[str]:
    """The table as plain text."""
    rows = [table_cells(row) for rows in summary.panels() for row in rows]
    return aligned(HEADER, rows, NUMBERS)


def unfinished_lines(summary: Summary) -> list[str]:
    """The runs that were not counted."""
    return [f"not validated yet, not counted: {run.folder}" for run in summary.unfinished]


def score_values(summary: Summary) -> dict:
    """Every statistic and every score, in full precision."""
    return {
        "groups": [
            {
                "task": group.task,
                "label": group.label,
                "start": group.runs[0].told_start,
                "model": group.runs[0].model,
                group.runs[0].head_name: group.runs[0].head,
                **_recorded(group.runs[0]),
                "scores": [_row_values(row) for row in rows_of(group)],
                **_answered(summary, group),
            }
            for group in summary.groups
        ],
        "unfinished": [
            {"folder": run.folder, "task": run.task, "seed": run.seed, "start": run.told_start}
            for run in summary.unfinished
        ],
        "notes": summary.notes,
    }


def _recorded(run: Run) -> dict:
    # Earlier versions did not write them down.
    return {"settings": run.settings, "data": run.data} if run.settings else {}


def _answered(summary: Summary, group: Group) -> dict:
    answers = [answer_values(one) for one in summary.answers if one.group is group]
    return {"answers": answers} if answers else {}


def _row_values(row: Row) -> dict:
    return {
        "name": row.name,
        "subset": row.subset,
        "metric": row.metric,
        **row.statistics,
        "runs": len(row.scores),
        "seeds": [score.seed for score in row.scores],
        "per_seed": [score._asdict() for score in row.scores],
    }


def dots_png(summary: Summary, styles: Styles) -> bytes:
    """The scores of every task in one picture."""
    return draw_dots(summary.panels(), styles, short_names(styles), WIDE, "png")


def overview_sections(summary: Summary, styles: Styles) -> Iterator[Section]:
    """The scores of all tasks, and what the names of their runs stand for."""
    panels = summary.panels()
    names = short_names(styles)
    drawn = pictures(
        partial(draw_dots, panels, styles, names),
        "Every task on one scale of 0 to 100: a dot for each seed, and their median",
    )
    cells = [_page_cells(row, names) for rows in panels for row in rows]
    header, filled = _filled(PAGE_HEADER, cells)
    folded = FOLDED if len(cells) > MOST_SHOWN else ""
    table = Table(header, filled, PAGE_NUMBERS, summary=folded, stubs=2)
    yield Section(legend=legend_of(names, styles), pictures=[drawn], table=table)


def _filled(header: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list, list]:
    """A table without the columns in which no row has anything."""
    kept = [place for place in range(len(header)) if any(row[place] != ABSENT for row in rows)]
    return [header[place] for place in kept], [[row[place] for place in kept] for row in rows]


def _page_cells(row: Row, names: Names) -> list[str]:
    words = {name: score_words(row, score) for name, score in row.statistics.items()}
    mean = words["mean"] if words["std"] == ABSENT else f"{words['mean']} ± {words['std']}"
    seeds = ", ".join(str(score.seed) for score in row.scores)
    scores = (words["median"], mean, words["best"], words["majority"])
    return [row.title, names[row.group.label], *scores, seeds]


def score_difference_sections(summary: Summary, styles: Styles) -> Iterator[Section]:
    """In what runs of the same task differ, where the legend does not tell it."""
    names = short_names(styles)
    told = differences_of(
        {
            names[group.label]: {START: group.runs[0].start_words, **group.facts}
            for group in summary.groups
        }
    )
    if set(told.names) - {START} or (told.names and is_in_few_words(names)):
        table = Table(["runs", *told.names], list(told.rows()), paths={START})
        yield Section("What differs", table=table)


def run_sections(summary: Summary, styles: Styles) -> Iterator[Section]:
    """The runs, and those that have no score yet."""
    unfinished = [
        f"{run.folder}: {run.task}, seed {run.seed}, {run.start_words}"
        for run in summary.unfinished
    ]
    yield Section("Runs", table=_run_table(summary, short_names(styles)))
    yield Section("Not validated yet, not counted", notes=unfinished)


def score_explanation(summary: Summary) -> str:
    """What the scores are."""
    runs = [*(run for group in summary.groups for run in group.runs), *summary.unfinished]
    named = {run.head_name for run in runs}
    return " ".join(words for name, words in EXPLANATIONS.items() if name in named)


def _run_table(summary: Summary, names: Names) -> Table:
    rows = [
        [
            *(run.task, names[group.label], str(run.seed)),
            *(f"{run.updates:,}", _score_list(run), run.folder),
        ]
        for group in summary.groups
        for run in group.runs
    ]
    summary_line = f"The {len(rows)} runs and their folders"
    return Table(RUNS_HEADER, rows, RUNS_NUMBERS, {"folder"}, summary_line, stubs=2)


def _score_list(run: Run) -> str:
    # A group of one, of which each row has one score; the task is told beside them.
    return ", ".join(
        f"{row.title.removeprefix(run.task).lstrip(', ')} {score_words(row, row.median)}"
        for row in rows_of(Group("", [run]))
    )


def task_sections(summary: Summary, styles: Styles) -> Iterator[Section]:
    """Curves of all tasks, and what the runs of each answered, set by set."""
    names = short_names(styles)
    panels = with_curves(summary.panels())
    if panels:
        draw = partial(draw_curves, panels, styles, names)
        drawn = pictures(draw, "Scores over the updates, a line for each run")
        yield Section("Scores over the updates", pictures=[drawn])
    by_task = grouped(summary.answers, lambda one: (one.group.task, one.subset))
    for same_set in by_task.values():
        yield from answer_sections(same_set, styles)
