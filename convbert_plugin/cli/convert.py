"""Bring published weights in, take models out, and change the length or the vocabulary of a model.

SRC is, for hf: a folder that transformers wrote (ConvBERT or Electra); for tf: a checkpoint of the
released TensorFlow code (its prefix, its .index file or its folder); for fairseq: a folder or a
checkpoint of this plugin. DST is a new folder. Nothing is downloaded, and nothing that stands in
the files is run.
"""

import argparse
import os
import sys
from typing import Optional

from convbert_plugin.cli import at_least
from convbert_plugin.cli.quiet import importing, quiet
from convbert_plugin.cli.tokenizer_flags import add_tokenizer_flags, tokenizer_loader
from convbert_plugin.errors import UserError
from convbert_plugin.files.whole_output import check_place
from convbert_plugin.formats.finding import INDEX
from convbert_plugin.tokenization.tokenizer import Tokenizer

SOURCES = ("hf", "tf", "fairseq")
DESTINATIONS = ("hf", "fairseq")
NETWORKS = ("discriminator", "generator")
# Reading, changing, writing.
STEPS = 3
# The position table of base has 3 GB then.
MOST_POSITIONS = 1 << 20


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
        type=_head_name,
        metavar="NAME",
        help="the classification head: its name here (from hf to fairseq), or which of several "
        "goes to hf (from fairseq)",
    )
    parser.add_argument(
        "--network",
        choices=NETWORKS,
        default=NETWORKS[0],
        help="which of the two networks of a pretraining goes to hf (default: %(default)s)",
    )
    parser.add_argument(
        "--max-positions",
        type=at_least(1, MOST_POSITIONS),
        metavar="N",
        help="cut the position table, or repeat its trained rows, to N rows "
        f"(at most {MOST_POSITIONS:,})",
    )
    parser.add_argument(
        "--trained-length",
        type=at_least(1),
        metavar="N",
        help="the length of the examples in training, where the model does not say it (default: "
        "assume that all positions were trained)",
    )
    parser.add_argument(
        "--vocab",
        metavar="VOCAB_OR_FOLDER",
        help="map the model to this WordPiece vocabulary; shared pieces keep their rows",
    )
    add_tokenizer_flags(parser)
    parser.set_defaults(refuse=parser.error)


def _head_name(text: str) -> str:
    from torch.nn import ModuleDict

    if not text or "." in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no plain word: choose one without dots")
    if hasattr(ModuleDict(), text):
        raise argparse.ArgumentTypeError(f"torch has taken this word, {text}: choose another")
    return text


def run(arguments: argparse.Namespace) -> None:
    """Convert; DST appears only when all of it is written."""
    _refuse_contradictions(arguments)
    _check_is_there(arguments.source)
    check_place(arguments.destination)
    from tqdm import tqdm

    with tqdm(total=STEPS, disable=not sys.stderr.isatty(), unit="step") as bar, quiet():
        bar.set_description("convert: starting")
        with importing():
            from convbert_plugin.conversion.libraries import Conversion, convert

        def show(step: str) -> None:
            bar.set_description(f"convert: {step}")
            bar.update()

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


def _check_is_there(source: str) -> None:
    """Before what reads it is imported, which takes seconds."""
    # A checkpoint of TensorFlow has a prefix for its name.
    if not (os.path.lexists(source) or os.path.lexists(f"{source}{INDEX}")):
        raise UserError(
            f"{source}: no such file or folder, and no TensorFlow checkpoint of this prefix"
        )


def _refuse_contradictions(arguments: argparse.Namespace) -> None:
    """End with status 2 where arguments exclude each other whatever the files hold."""
    refuse = arguments.refuse
    is_generator = arguments.network == NETWORKS[1]
    if is_generator and arguments.target != "hf":
        refuse("--network generator goes with --to hf: else both networks stay together")
    if arguments.head is not None:
        if is_generator:
            refuse("--head goes with the discriminator: the generator has no classification head")
        if {arguments.origin, arguments.target} != {"hf", "fairseq"}:
            refuse("--head goes with --from hf --to fairseq or the other way round: drop it")
    has_flags = arguments.cased or arguments.strip_accents is not None
    vocabularies = [path for path in (arguments.tokenizer, arguments.vocab) if path is not None]
    if has_flags and not vocabularies:
        refuse(
            "--cased, --strip-accents and --keep-accents say how the vocabulary of --tokenizer or "
            "--vocab is used: give one, or drop them"
        )
    if has_flags and len(vocabularies) > 1:
        refuse(
            "--cased, --strip-accents and --keep-accents would say it of both --tokenizer and "
            "--vocab: drop them, and give a folder with tokenizer_config.json instead"
        )


def _tokenizer(path: Optional[str], arguments: argparse.Namespace) -> Optional[Tokenizer]:
    return None if path is None else tokenizer_loader(path, arguments)()
