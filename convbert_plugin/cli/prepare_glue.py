"""Prepare the files of a GLUE task, or your own, for --task glue.

SRC holds the official files (train.tsv, dev.tsv, test.tsv; of MNLI both sets; AX: diagnostic.tsv),
or your own train, dev (or valid, or validation) and test, as .tsv or .csv with a header or as
.jsonl: then name their columns with --text and --label, and say the words of the classes in their
order (--labels) or the range of the scores (--score-range). All may be packed (.gz, .xz, .bz2).
What is missing of them is left out; a test set may have labels or not. OUT is a new folder.
"""

import argparse
import csv
import math
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Iterator

from convbert_plugin.cli.tokenizer_flags import add_tokenizer_flags, tokenizer_loader
from convbert_plugin.data.glue.glue_rows import JSON_SUFFIX
from convbert_plugin.data.glue.glue_tasks import (
    CLASSIFICATION_METRICS,
    REGRESSION_METRICS,
    TASKS,
    GlueTask,
    official_task,
    own_task,
)
from convbert_plugin.data.splits import TEST, TRAIN, VALID_NAMES
from convbert_plugin.errors import UserError, counted
from convbert_plugin.files.tables import CSV, DELIMITERS, NONE
from convbert_plugin.files.text_files import files_named, number

if TYPE_CHECKING:
    from convbert_plugin.data.glue.glue_preparing import Prepared

SUFFIXES = (*DELIMITERS, JSON_SUFFIX)
OWN_NAMES = (TRAIN, *VALID_NAMES, TEST)
# The released batch, by which the length of an epoch is told.
BATCH_SIZE = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``convbert prepare-glue``."""
    parser.add_argument("source", metavar="SRC", help="the folder of the task's files")
    parser.add_argument("output", metavar="OUT", help="the folder to write")
    parser.add_argument(
        "--glue-task",
        required=True,
        metavar="NAME",
        help=f"{', '.join(TASKS)}; or a name of your own",
    )
    parser.add_argument(
        "--tokenizer",
        required=True,
        metavar="FOLDER",
        help="the folder of the checkpoint to fine-tune (or a vocab.txt)",
    )
    add_tokenizer_flags(parser)
    parser.add_argument(
        "--quoting",
        choices=(CSV, NONE),
        help="read tables by the rules of csv, or quotation marks as they stand (default: official "
        "files as they stand, your own as they were written)",
    )
    own = parser.add_argument_group("your own task")
    own.add_argument("--text", metavar="COLUMN", help="the column of the (first) text")
    own.add_argument("--text-pair", metavar="COLUMN", help="the column of the second text")
    own.add_argument("--label", metavar="COLUMN", help="the column of the label (default: label)")
    own.add_argument(
        "--labels",
        metavar="A,B,...",
        type=_words,
        help="the words of the classes, in order; one with a comma as in '\"yes, surely\",no'",
    )
    own.add_argument(
        "--score-range",
        nargs=2,
        type=number,
        metavar=("LOWEST", "HIGHEST"),
        help="the label is a score between these",
    )
    own.add_argument(
        "--metrics",
        metavar="A,B",
        type=_words,
        help=f"of {', '.join(CLASSIFICATION_METRICS)} (default: accuracy), or of scores "
        f"{', '.join(REGRESSION_METRICS)} (default: both)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Prepare one task; OUT appears only when all of it is written."""
    source = Path(arguments.source)
    if not source.is_dir():
        raise UserError(f"{source}: no such folder")
    task = _task(arguments, source)

    from tqdm import tqdm

    from convbert_plugin.data.glue.glue_preparing import prepare
    from convbert_plugin.files.whole_output import whole_folder

    tokenizer = tokenizer_loader(arguments.tokenizer, arguments)()
    track = partial(tqdm, disable=not sys.stderr.isatty(), unit=" examples", leave=False)
    with whole_folder(arguments.output) as folder:
        prepared = prepare(
            task,
            source,
            folder,
            tokenizer,
            lambda examples, words: track(examples, desc=words),
            arguments.quoting,
        )
    print("\n".join(_summary(prepared)))
    for warning in prepared.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _summary(prepared: "Prepared") -> Iterator[str]:
    task, splits = prepared.description
    for split, summary in splits.items():
        counts = zip(task.labels, summary.label_counts, strict=False)
        classes = ", ".join(f"{word} {count:,}" for word, count in counts)
        rows = f"{split}: {counted(summary.rows, 'row')} of {summary.file}"
        yield f"{rows} ({classes})" if classes else rows
    yield from prepared.notes
    if TRAIN in splits:
        # The last of them perhaps of fewer examples.
        updates = math.ceil(splits[TRAIN].rows / BATCH_SIZE)
        yield f"an epoch is {counted(updates, 'update')} of {BATCH_SIZE} examples"


def _task(arguments: argparse.Namespace, source: Path) -> GlueTask:
    own = ("text", "text_pair", "label", "labels", "score_range", "metrics")
    given = [name for name in own if getattr(arguments, name) is not None]
    if not given:
        return official_task(arguments.glue_task)
    if arguments.text is None:
        raise UserError(f"--{given[0].replace('_', '-')}: a task of your own needs --text as well")
    return own_task(
        arguments.glue_task,
        _suffix(source),
        tuple(text for text in (arguments.text, arguments.text_pair) if text is not None),
        arguments.label or "label",
        arguments.labels or (),
        arguments.score_range and tuple(arguments.score_range),
        arguments.metrics or (),
    )


def _words(text: str) -> tuple[str, ...]:
    try:
        (words,) = csv.reader([text or '""'], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError):
        raise argparse.ArgumentTypeError(
            f"{text!r}: separate words with commas, and put one that holds a comma between "
            "quotation marks"
        ) from None
    return tuple(word.strip() for word in words)


def _suffix(source: Path) -> str:
    found = [
        suffix
        for suffix in SUFFIXES
        if any(files_named(source, f"{name}{suffix}") for name in OWN_NAMES)
    ]
    if len(found) != 1:
        what = (
            f"both {' and '.join(found)}"
            if found
            else f"no train, dev or test ({', '.join(SUFFIXES)})"
        )
        raise UserError(
            f"{source}: holds {what}: name a folder with train, dev and test of one kind"
        )
    return found[0]
