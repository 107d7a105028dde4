"""The report of fine-tuning runs: a page for people, a table for the terminal, and the numbers."""

import base64
import itertools
import json
from html import escape
from typing import Iterable, Iterator, Sequence

from convbert_plugin.analysis.drawing import (
    draw_curves,
    draw_dots,
    printable,
    score_words,
    styles_of,
)
from convbert_plugin.analysis.runs import Group, Panel, Row, Run, Summary, rows_of

TITLE = "Fine-tuning report"
HEADER = (
    "task", "start", "metric", "median", "best", "mean", "std", "majority", "runs", "seeds"
)  # fmt: skip
# What may be long, and breaks anywhere.
PATHS = {"start", "folder"}
NUMBERS = {"median", "best", "mean", "std", "majority", "runs", "updates", "seed"}
RUNS_HEADER = ("folder", "task", "seed", "start", "updates", "scores")
UNFINISHED_HEADER = ("folder", "task", "seed", "start")
EXPLANATION = (
    "Scores are those of the last validation of each run, times 100; std is their sample standard "
    "deviation over the runs; majority is what the most frequent class of the training set scores."
)

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; background: #fff; margin: 2rem auto;
       max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; }
th, td { padding: .3rem .7rem; text-align: left; vertical-align: top;
         border-bottom: 1px solid #e2e2e2; }
th { border-bottom: 2px solid #888; white-space: nowrap; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.path { min-width: 14rem; overflow-wrap: anywhere; }
img { display: block; width: 100%; max-width: 60rem; height: auto; margin: 1rem 0; }
li { overflow-wrap: anywhere; }
"""
# The page needs nothing from elsewhere, and browsers can hold it to that.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def table_cells(row: Row) -> list[str]:
    """The cells of a row, as HEADER names them."""
    statistics = (row.median, row.best, row.mean, row.deviation, row.majority)
    return [
        row.name,
        row.group.label,
        row.metric,
        *map(score_words, statistics),
        str(len(row.scores)),
        ", ".join(str(score.seed) for score in row.scores),
    ]


def text_table(summary: Summary) -> str:
    """The table, what was not counted, and notes, as plain text."""
    rows = [list(HEADER), *(table_cells(row) for rows in summary.panels() for row in rows)]
    rows = [list(map(printable, cells)) for cells in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if name in NUMBERS else cell.ljust(width)
            for cell, width, name in zip(cells, widths, HEADER, strict=True)
        ).rstrip()
        for cells in rows
    ]
    unfinished = [f"not validated yet, not counted: {run.folder}" for run in summary.unfinished]
    notes = [f"note: {note}" for note in summary.notes]
    return "\n".join([*lines, *map(printable, [*unfinished, *notes])]) + "\n"


def json_text(summary: Summary) -> str:
    """Every statistic and every score, in full precision."""
    values = {
        "groups": [
            {
                "task": group.task,
                "label": group.label,
                "start": group.runs[0].start,
                "model": group.runs[0].model,
                "classification_head": group.runs[0].head,
                "scores": [_row_values(row) for row in rows_of(group)],
            }
            for group in summary.groups
        ],
        "unfinished": [
            {"folder": run.folder, "task": run.task, "seed": run.seed, "start": run.start}
            for run in summary.unfinished
        ],
        "notes": summary.notes,
    }
    return json.dumps(values, indent=1) + "\n"


def _row_values(row: Row) -> dict:
    return {
        "name": row.name,
        "subset": row.subset,
        "metric": row.metric,
        "median": row.median,
        "best": row.best,
        "mean": row.mean,
        "std": row.deviation,
        "majority": row.majority,
        "runs": len(row.scores),
        "seeds": [score.seed for score in row.scores],
        "per_seed": [score._asdict() for score in row.scores],
    }


def dots_png(summary: Summary) -> bytes:
    """The scores of every task in one picture."""
    return draw_dots(summary.panels(), styles_of(summary.groups), "png")


def html_page(summary: Summary) -> str:
    """One page that needs no other file; all that comes from files is escaped."""
    panels = summary.panels()
    rows = [table_cells(row) for rows in panels for row in rows]
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{TITLE}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
            f"<h1>{TITLE}</h1>\n<p>{EXPLANATION}</p>",
            *_table(HEADER, rows),
            *_list("Notes", summary.notes),
            *_pictures(panels, styles_of(summary.groups)),
            *_section("Runs", RUNS_HEADER, _run_cells(summary)),
            *_section(
                "Not validated yet, not counted",
                UNFINISHED_HEADER,
                [
                    [run.folder, run.task, str(run.seed), run.start_words]
                    for run in summary.unfinished
                ],
            ),
            "</body>\n</html>\n",
        ]
    )


def _run_cells(summary: Summary) -> list[list[str]]:
    return [
        [run.folder, run.task, str(run.seed), group.label, f"{_updates(run):,}", _score_list(run)]
        for group in summary.groups
        for run in group.runs
    ]


def _updates(run: Run) -> int:
    return run.validations[-1]["updates"]


def _score_list(run: Run) -> str:
    # A group of one, of which each row has one score.
    return ", ".join(
        f"{row.name} {row.metric} {score_words(row.median)}" for row in rows_of(Group("", [run]))
    )


def _pictures(panels: Sequence[Panel], styles: dict) -> Iterator[str]:
    for task, of_task in itertools.groupby(panels, key=lambda rows: rows[0].group.task):
        same_task = list(of_task)
        yield f"<h2>{_shown(task)}</h2>"
        yield _image(draw_dots(same_task, styles, "svg"), f"{task}: a dot for each seed")
        yield _image(draw_curves(same_task, styles, "svg"), f"{task}: scores over the updates")


def _image(svg: bytes, description: str) -> str:
    data = base64.b64encode(svg).decode()
    return f'<img alt="{_shown(description)}" src="data:image/svg+xml;base64,{data}">'


def _section(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if rows:
        yield f"<h2>{title}</h2>"
        yield from _table(header, rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    kinds = list(map(_kind, header))
    yield '<div class="wide"><table>'
    for tag, cells in (("th", header), *(("td", cells) for cells in rows)):
        filled = zip(kinds, cells, strict=True)
        yield f"<tr>{''.join(f'<{tag}{kind}>{_shown(cell)}</{tag}>' for kind, cell in filled)}</tr>"
    yield "</table></div>"


def _kind(column: str) -> str:
    kinds = {' class="number"': NUMBERS, ' class="path"': PATHS}
    return next((kind for kind, columns in kinds.items() if column in columns), "")


def _list(title: str, texts: Sequence[str]) -> Iterator[str]:
    if texts:
        yield f"<h2>{title}</h2>\n<ul>"
        yield from (f"<li>{_shown(text)}</li>" for text in texts)
        yield "</ul>"


def _shown(text: str) -> str:
    return escape(printable(text))
