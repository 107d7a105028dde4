"""Bring published weights in, take models out, and change the length or the vocabulary of a model.

SRC is, for hf: a folder that transformers wrote (ConvBERT or Electra); for tf: a checkpoint of the
released TensorFlow code (its prefix, its .index file or its folder); for fairseq: a folder or a
checkpoint of this plugin. DST is a new folder. Nothing is downloaded, and nothing that stands in
the files is run.
"""

import argparse
import logging
import sys
from typing import Optional

from convbert_plugin.cli import at_least
from convbert_plugin.cli.tokenizer_flags import add_tokenizer_flags, tokenizer_loader
from convbert_plugin.errors import UserError

SOURCES = ("hf", "tf", "fairseq")
DESTINATIONS = ("hf", "fairseq")
NETWORKS = ("discriminator", "generator")
# Reading, changing, writing.
STEPS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``convbert convert``."""
    parser.add_argument("source", metavar="SRC", help="what to convert")
    parser.add_argument("destination", metavar="DST", help="the folder to write")
    parser.add_argument("--from", dest="origin", choices=SOURCES, required=True)
    parser.add_argument("--to", dest="target", choices=DESTINATIONS, required=True)
    parser.add_argument(
        "--tokenizer",
        metavar="VOCAB_OR_FOLDER",
        help="the vocabulary that the model was trained with, where SRC lacks it",
    )
    parser.add_argument(
        "--pads-visible",
        action="store_true",
        help="let pads enter the convolution, as released, where else they are masked",
    )
    parser.add_argument(
        "--head",
        metavar="NAME",
        help="the classification head: its name here, or which of several goes to hf",
    )
    parser.add_argument(
        "--network",
        choices=NETWORKS,
        default=NETWORKS[0],
        help="which of the two networks of a pretraining goes to hf (default: %(default)s)",
    )
    parser.add_argument(
        "--max-positions",
        type=at_least(1),
        metavar="N",
        help="cut the position table, or repeat its trained rows up to N",
    )
    parser.add_argument(
        "--trained-length",
        type=at_least(1),
        metavar="N",
        help="the length of the examples in training, where the model does not say it",
    )
    parser.add_argument(
        "--vocab",
        metavar="VOCAB_OR_FOLDER",
        help="map the model to this WordPiece vocabulary; shared pieces keep their rows",
    )
    add_tokenizer_flags(parser)


def run(arguments: argparse.Namespace) -> None:
    """Convert; DST appears only when all of it is written."""
    if arguments.target != "hf" and arguments.network != NETWORKS[0]:
        raise UserError("--network generator goes with --to hf: here both networks stay together")
    from tqdm import tqdm

    with tqdm(total=STEPS, disable=not sys.stderr.isatty(), unit="step") as bar:
        bar.set_description("convert: starting")
        # fairseq tells of optional packages while it is imported.
        logging.disable(logging.INFO)
        from convbert_plugin.conversion.convert import Conversion, convert

        def show(step: str) -> None:
            bar.update()
            bar.set_description(f"convert: {step}")

        lines = convert(
            arguments.source,
            arguments.destination,
            arguments.origin,
            arguments.target,
            Conversion(
                tokenizer=_tokenizer(arguments.tokenizer, arguments),
                head=arguments.head,
                network=arguments.network,
                pads_visible=arguments.pads_visible,
                max_positions=arguments.max_positions,
                trained_positions=arguments.trained_length,
                vocabulary=_tokenizer(arguments.vocab, arguments),
            ),
            show,
        )
    print("\n".join(lines))


def _tokenizer(path: Optional[str], arguments: argparse.Namespace):
    return None if path is None else tokenizer_loader(path, arguments)()
