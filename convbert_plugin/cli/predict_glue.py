"""Predict the test sets of a GLUE task, in the files that the official site takes.

DATA is a folder made by convbert prepare-glue. OUT gets CoLA.tsv, SST-2.tsv, MRPC.tsv, STS-B.tsv,
QQP.tsv, MNLI-m.tsv and MNLI-mm.tsv, QNLI.tsv, RTE.tsv, WNLI.tsv or AX.tsv (which a model of MNLI
answers), or the file of your own task: "index" and "prediction", a row for each example.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from convbert_plugin.cli import at_least
from convbert_plugin.cli.quiet import importing, quiet
from convbert_plugin.data.glue.glue_description import read_description
from convbert_plugin.errors import UserError, counted
from convbert_plugin.formats.finding import checkpoint_at


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``convbert predict-glue``."""
    parser.add_argument("data", metavar="DATA", help="prepared data with a test set")
    parser.add_argument("output", metavar="OUT", help="the folder of the submission")
    parser.add_argument(
        "--path", required=True, metavar="CHECKPOINT", help="a fine-tuned model, or its folder"
    )
    parser.add_argument("--batch-size", type=at_least(1), default=64, help="(default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")


@quiet()
def run(arguments: argparse.Namespace) -> None:
    """Predict every test set; the files appear only when all are done."""
    output = Path(arguments.output)
    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: a file, where OUT has to be a folder: choose another name")
    checkpoint = checkpoint_at(arguments.path)
    task, splits = read_description(arguments.data)

    with importing():
        import torch
        from tqdm import tqdm

        from convbert_plugin.analysis.predictions.glue_predictions import (
            load_fine_tuned,
            predict,
            prediction_words,
            scores_of,
            write_submission,
        )

    if arguments.device != "cpu" and not torch.cuda.is_available():
        raise UserError(f"--device {arguments.device}: there is no GPU here: use cpu")
    files = {split: file for split, file in task.submissions.items() if split in splits}
    if not files:
        raise UserError(
            f"{arguments.data}: has no test set: prepare it from a folder that holds "
            f"{' and '.join(task.sources[split].file for split in task.submissions)}"
        )
    tell = partial(print, file=sys.stderr)
    fine_tuned = load_fine_tuned(checkpoint, arguments.data, tell)
    words, scores = {}, {}
    for split, file in files.items():
        bar = partial(tqdm, desc=file, unit=" batches", disable=not sys.stderr.isatty())
        logits = predict(fine_tuned, split, arguments.batch_size, arguments.device, bar)
        words[file] = prediction_words(logits, fine_tuned.prepared.answers)
        scores[file] = scores_of(logits, fine_tuned, split)
    for file, predictions in words.items():
        write_submission(output / file, predictions)
        told = (f"{name} {score:.4f}" for name, score in scores[file].items())
        print(f"{output / file}:", ", ".join([counted(len(predictions), "prediction"), *told]))
