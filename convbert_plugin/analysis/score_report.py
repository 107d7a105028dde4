"""What a report tells of fine-tuning: sections of a page, a table for the terminal, the numbers."""

import itertools
from typing import Iterator

from convbert_plugin.analysis.answer_report import answer_sections, answer_values
from convbert_plugin.analysis.drawing import Styles
from convbert_plugin.analysis.grouping import grouped
from convbert_plugin.analysis.groups import Group, Row, Summary, rows_of
from convbert_plugin.analysis.page import Picture, Section, Table
from convbert_plugin.analysis.runs import Run
from convbert_plugin.analysis.score_pictures import draw_curves, draw_dots, score_words
from convbert_plugin.analysis.words import aligned
from convbert_plugin.files.records import CLASSIFICATION_HEAD, QUESTION_ANSWERING_HEAD

HEADER = (
    "task", "start", "metric", "median", "best", "mean", "std", "majority", "runs", "seeds"
)  # fmt: skip
# What may be long, and breaks anywhere.
PATHS = {"start", "folder"}
NUMBERS = {"median", "best", "mean", "std", "majority", "runs", "updates", "seed"}
RUNS_HEADER = ("folder", "task", "seed", "start", "updates", "scores")
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
                "start": group.runs[0].start,
                "model": group.runs[0].model,
                group.runs[0].head_name: group.runs[0].head,
                **_recorded(group.runs[0]),
                "scores": [_row_values(row) for row in rows_of(group)],
                **_answered(summary, group),
            }
            for group in summary.groups
        ],
        "unfinished": [
            {"folder": run.folder, "task": run.task, "seed": run.seed, "start": run.start}
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
    return draw_dots(summary.panels(), styles, "png")


def overview_sections(summary: Summary, styles: Styles) -> Iterator[Section]:
    """The scores of all tasks."""
    rows = [table_cells(row) for rows in summary.panels() for row in rows]
    yield Section(table=Table(HEADER, rows, NUMBERS, PATHS))


def run_sections(summary: Summary) -> Iterator[Section]:
    """The runs, and those that have no score yet."""
    unfinished = [
        f"{run.folder}: {run.task}, seed {run.seed}, {run.start_words}"
        for run in summary.unfinished
    ]
    yield Section("Runs", table=_run_table(summary))
    yield Section("Not validated yet, not counted", notes=unfinished)


def score_explanation(summary: Summary) -> str:
    """What the scores are."""
    runs = [*(run for group in summary.groups for run in group.runs), *summary.unfinished]
    named = {run.head_name for run in runs}
    return " ".join(words for name, words in EXPLANATIONS.items() if name in named)


def _run_table(summary: Summary) -> Table:
    rows = [
        [run.folder, run.task, str(run.seed), group.label, f"{run.updates:,}", _score_list(run)]
        for group in summary.groups
        for run in group.runs
    ]
    return Table(RUNS_HEADER, rows, NUMBERS, PATHS)


def _score_list(run: Run) -> str:
    # A group of one, of which each row has one score.
    return ", ".join(
        f"{row.name} {row.metric} {score_words(row, row.median)}"
        for row in rows_of(Group("", [run]))
    )


def task_sections(summary: Summary, styles: Styles) -> Iterator[Section]:
    """Pictures of each task, and what its runs answered, set by set."""
    panels = summary.panels()
    for task, of_task in itertools.groupby(panels, key=lambda rows: rows[0].group.task):
        same_task = list(of_task)
        dots, curves = (draw(same_task, styles, "svg") for draw in (draw_dots, draw_curves))
        yield Section(
            task,
            pictures=[
                Picture(dots, f"{task}: a dot for each seed"),
                Picture(curves, f"{task}: scores over the updates"),
            ],
        )
        answers = [one for one in summary.answers if one.group.task == task]
        for same_set in grouped(answers, lambda one: one.subset).values():
            yield from answer_sections(same_set, styles)
