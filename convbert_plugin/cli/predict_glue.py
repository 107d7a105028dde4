"""Predict the test sets of a GLUE task, in the files that the official site takes.

DATA is a folder made by convbert prepare-glue. OUT gets CoLA.tsv, SST-2.tsv, MRPC.tsv, STS-B.tsv,
QQP.tsv, MNLI-m.tsv and MNLI-mm.tsv, QNLI.tsv, RTE.tsv, WNLI.tsv or AX.tsv (which a model of MNLI
answers), or the file of your own task: "index" and "prediction", a row for each example.
"""

import argparse

from convbert_plugin.cli.prediction_flags import (
    add_prediction_flags,
    bar_of_batches,
    check_device,
    folder_for_output,
    tell,
)
from convbert_plugin.cli.quiet import importing, quiet
from convbert_plugin.data.glue.glue_description import read_description
from convbert_plugin.errors import UserError, counted
from convbert_plugin.formats.finding import checkpoint_at


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``convbert predict-glue``."""
    add_prediction_flags(parser, "prepared data with a test set", "the folder of the submission")


@quiet()
def run(arguments: argparse.Namespace) -> None:
    """Predict every test set; the files appear only when all are done."""
    output = folder_for_output(arguments.output)
    checkpoint = checkpoint_at(arguments.path)
    task, splits = read_description(arguments.data)

    with importing():
        from convbert_plugin.analysis.predictions.glue_predictions import (
            load_fine_tuned,
            predict,
            prediction_words,
            scores_of,
            write_submission,
        )

    check_device(arguments.device)
    files = {split: file for split, file in task.submissions.items() if split in splits}
    if not files:
        raise UserError(
            f"{arguments.data}: has no test set: prepare it from a folder that holds "
            f"{' and '.join(task.sources[split].file for split in task.submissions)}"
        )
    fine_tuned = load_fine_tuned(checkpoint, arguments.data, tell)
    words, scores = {}, {}
    for split, file in files.items():
        track = bar_of_batches(file)
        logits = predict(fine_tuned, split, arguments.batch_size, arguments.device, track)
        words[file] = prediction_words(logits, fine_tuned.prepared.answers)
        scores[file] = scores_of(logits, fine_tuned, split)
    for file, predictions in words.items():
        write_submission(output / file, predictions)
        told = (f"{name} {score:.4f}" for name, score in scores[file].items())
        print(f"{output / file}:", ", ".join([counted(len(predictions), "prediction"), *told]))
