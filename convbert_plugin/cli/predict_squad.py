"""Answer the questions of SQuAD, or your own of this form, in the files its evaluators take.

DATA is a folder made by convbert prepare-squad, of which the test set is taken, or else the
validation set; or a .json file of SQuAD itself, which may be packed and need not hold answers. OUT
gets predictions.json (an answer to each question, "" where there is none), nbest.json (the best
answers with their probabilities and characters) and null_odds.json (how much speaks for there being
none). Where the right answers are known, the official scores are printed.
"""

import argparse
import math
import sys

from convbert_plugin.cli.prediction_flags import (
    add_prediction_flags,
    bar_of_batches,
    check_device,
    folder_for_output,
    tell,
)
from convbert_plugin.cli.progress import bar_of_bytes
from convbert_plugin.cli.quiet import importing, quiet
from convbert_plugin.errors import counted
from convbert_plugin.files.text_files import number
from convbert_plugin.formats.finding import checkpoint_at


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``convbert predict-squad``."""
    add_prediction_flags(parser, "prepared data, or a SQuAD .json", "the folder of the answers")
    parser.add_argument(
        "--split", metavar="NAME", help="of prepared data (default: test, or valid without one)"
    )
    parser.add_argument(
        "--null-threshold",
        type=_threshold,
        metavar="X",
        help="a question has no answer where its null odds are above it; inf: every one has "
        "(default: that of the training, or -2.75 of the released head and 0 of the other)",
    )
    parser.add_argument(
        "--skip-broken",
        action="store_true",
        help="pass over questions and paragraphs of a .json that are broken",
    )


@quiet()
def run(arguments: argparse.Namespace) -> None:
    """Answer one split; the files appear only when all is done."""
    output = folder_for_output(arguments.output)
    checkpoint = checkpoint_at(arguments.path)

    with importing():
        from convbert_plugin.analysis.predictions.squad_predictions import (
            PREDICTIONS,
            answer_split,
            load_answering,
            no_bar,
            prepared_data,
            split_to_answer,
            texts_given,
            threshold_for,
            write_answers,
        )

    check_device(arguments.device)
    name, bar = arguments.data, bar_of_bytes if sys.stderr.isatty() else no_bar
    with prepared_data(name, checkpoint, arguments.skip_broken, tell, bar) as data:
        answering = load_answering(checkpoint, data, tell)
        split = split_to_answer(answering.prepared, name, arguments.split)
        threshold = threshold_for(answering, split, name, arguments.null_threshold)
        sizes = arguments.batch_size, arguments.device
        answered = answer_split(answering, split, threshold, *sizes, bar_of_batches(split))
        write_answers(output, answered)
    told = counted(len(answered.answers), "question")
    if threshold < math.inf:
        blanks = texts_given(answered).count("")
        told += f", {blanks:,} without an answer (null odds above {threshold:g})"
    print(f"{output / PREDICTIONS}: {told}")
    if answering.prepared.splits[split].has_gold:
        for score, value in answered.scores().items():
            print(f"{score} {value!r}")


def _threshold(text: str) -> float:
    value = number(text)
    if math.isnan(value):
        raise argparse.ArgumentTypeError("nan: give a number, or inf to answer every question")
    return value


# argparse names the type when it refuses a value.
_threshold.__name__ = "number"
