"""Sum up pretraining and fine-tuning runs over their seeds, as a page, a picture and numbers.

Each RUN is the folder of a run, or a folder that holds runs at any depth: they are told by the
pretraining.json and scores.json that they keep. Runs that were made alike but for the seed make a
row; where examples/ablations left a grid.json, rows have its names and order. What was fine-tuned
from the runs of a row belongs to it.

Rows are compared seed by seed with the first one, or the one that grid.json names: the mean
difference, its 95% interval, and p of a paired t-test (scipy.stats.ttest_rel), also adjusted by
Holm's method. Runs on different data may stand in one report, which says so; pretraining that has
not ended is listed and not compared.

OUT.html is one self-contained page; OUT.png (the scores of all tasks, or the rows of pretraining
alone) and OUT.json (every number) stand beside it.
"""

import argparse
from contextlib import ExitStack
from pathlib import Path

from convbert_plugin.files.records import RECORD_FILE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``convbert report``."""
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", type=Path, help="a run, or a folder of runs"
    )
    parser.add_argument("output", metavar="OUT.html", type=_page_path, help="the page to write")


def _page_path(text: str) -> Path:
    path = Path(text)
    if path.suffix != ".html":
        raise argparse.ArgumentTypeError(f"{text}: the page comes last, and its name ends in .html")
    if path.with_suffix(".json").name == RECORD_FILE:
        raise argparse.ArgumentTypeError(
            f"{text}: {RECORD_FILE} beside it would be taken for that of a run: rename it"
        )
    return path


def run(arguments: argparse.Namespace) -> None:
    """Write the page, the picture and the numbers, all of them or none, and print the table."""
    from convbert_plugin.analysis.contents import read_contents
    from convbert_plugin.analysis.report_files import (
        report_json,
        report_page,
        report_png,
        report_text,
    )
    from convbert_plugin.files.whole_output import whole_file

    contents = read_contents(arguments.runs)
    files = {
        ".png": report_png(contents),
        ".json": report_json(contents).encode(),
        ".html": report_page(contents).encode(),
    }
    with ExitStack() as stack:
        for suffix, content in files.items():
            file = stack.enter_context(whole_file(arguments.output.with_suffix(suffix)))
            file.write(content)
    print(report_text(contents), end="")
