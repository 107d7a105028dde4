"""Prepare files of SQuAD 1.1 or 2.0, or your own of this form, for --task squad.

SRC: .json files, which may be packed (.gz, .xz, .bz2), or a folder of them. A word in its name
tells the split of each: train, dev (or valid, or validation) or test; one file alone whose name
tells none is a test set. Answers may be missing, as in a test set. Contexts may have any length:
they are cut into windows when a model reads them. OUT is a new folder.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator

from convbert_plugin.cli import at_least
from convbert_plugin.cli.tokenizer_flags import add_tokenizer_flags, tokenizer_loader
from convbert_plugin.cli.workers import MOST_WORKERS, default_workers, in_order
from convbert_plugin.errors import counted, listed
from convbert_plugin.files.text_files import check_is_file

if TYPE_CHECKING:
    from convbert_plugin.data.squad.squad_description import PreparedSplit
    from convbert_plugin.data.squad.squad_encoding import ParagraphEncoder
    from convbert_plugin.data.squad.squad_preparing import SplitSummary
    from convbert_plugin.tokenization.tokenizer_interface import Tokenizer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``convbert prepare-squad``."""
    parser.add_argument("sources", metavar="SRC", nargs="+", help="the files, or their folder")
    parser.add_argument("output", metavar="OUT", help="the folder to write")
    parser.add_argument(
        "--tokenizer",
        required=True,
        metavar="FOLDER",
        help="the folder of the checkpoint to fine-tune (or a vocab.txt)",
    )
    add_tokenizer_flags(parser)
    parser.add_argument(
        "--skip-broken",
        action="store_true",
        help="pass over questions and paragraphs that are broken, such as those of an answer that "
        "does not stand where it should, and count them",
    )
    parser.add_argument(
        "--workers",
        type=at_least(1, MOST_WORKERS),
        default=default_workers(),
        help="processes (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Prepare all splits; OUT appears only when all of it is written."""
    from convbert_plugin.cli.progress import bar_of_bytes
    from convbert_plugin.data.squad.squad_encoding import ParagraphEncoder
    from convbert_plugin.data.squad.squad_preparing import files_of_splits, prepare
    from convbert_plugin.files.whole_output import whole_folder

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    files = files_of_splits([*map(Path, arguments.sources)])
    for path in files.values():
        check_is_file(path)
    load = tokenizer_loader(arguments.tokenizer, arguments)
    tokenizer = load()
    encode_all = partial(
        in_order,
        ParagraphEncoder(tokenizer),
        partial(_load_encoder, load),
        workers=arguments.workers,
    )
    with (
        whole_folder(arguments.output) as folder,
        bar_of_bytes([*files.values()], "prepare") as report_position,
    ):
        prepared = prepare(
            files, folder, tokenizer, arguments.skip_broken, encode_all, report_position
        )
    splits, summaries = prepared.description.splits, prepared.summaries
    for name, split in splits.items():
        print("\n".join(_lines(name, split, summaries[name], Path(arguments.output))))
    for name, summary in summaries.items():
        if summary.warning:
            print(f"warning: {splits[name].file}: {summary.warning}", file=sys.stderr)


def _lines(
    name: str, split: "PreparedSplit", summary: "SplitSummary", output: Path
) -> Iterator[str]:
    from convbert_plugin.data.squad.squad_description import CHANGED_ANSWERS
    from convbert_plugin.formats.reading import Reading

    yield (
        f"{name}: {counted(split.questions, 'question')} on "
        f"{counted(split.paragraphs, 'paragraph')} of {split.file} "
        + (
            f"({split.answered:,} answered, {split.impossible:,} impossible)"
            if split.has_gold
            else "(without answers)"
        )
    )
    reading = Reading()
    yield (
        f"{name}: {counted(summary.windows, 'window')} of {reading.length} tokens, "
        f"{reading.doc_stride} apart"
    )
    if summary.changed:
        yield (
            f"{name}: of {counted(len(summary.changed), 'answer')} the tokens give back something "
            f"else, see {output / name / CHANGED_ANSWERS}: {listed(summary.changed)}"
        )
    if summary.skipped:
        yield f"{name}: passed over {len(summary.skipped):,}, the first: {summary.skipped[0]}"


def _load_encoder(load: "Callable[[], Tokenizer]") -> "ParagraphEncoder":
    from convbert_plugin.data.squad.squad_encoding import ParagraphEncoder

    return ParagraphEncoder(load())
