"""Measure how local the attention of a model is in a text, and what its span kernels look at.

TEXT has a text a line. OUT.json gets, by layer and head (both count from 0), means over all tokens:
the share of attention within so many tokens to either side, the mean distance, and of kernels their
mean, centre of mass, entropy, and how much of it depends on the token; beside it what a uniform
pattern of the same lengths has. With --head, the places where that head's kernel is sharpest, and
where it is most unlike its mean, with their tokens.
"""

import argparse
from pathlib import Path

from convbert_plugin.cli import at_least
from convbert_plugin.cli.prediction_flags import bar_of_batches, check_device
from convbert_plugin.cli.progress import bar_of_bytes
from convbert_plugin.cli.quiet import importing, quiet
from convbert_plugin.errors import counted
from convbert_plugin.files.text_files import check_is_file
from convbert_plugin.formats.finding import checkpoint_at


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``convbert attention``."""
    parser.add_argument("text", metavar="TEXT", help="a text a line, plain or compressed")
    parser.add_argument("output", metavar="OUT.json", type=_output_path, help="all numbers")
    parser.add_argument(
        "--path", required=True, metavar="CHECKPOINT", help="a model, or the folder of a run"
    )
    parser.add_argument(
        "--reach", type=at_least(0), default=4, metavar="N", help="tokens (default: %(default)s)"
    )
    parser.add_argument(
        "--head",
        type=_layer_and_number,
        metavar="LAYER.HEAD",
        help="whose kernels to search: 0.1",
    )
    parser.add_argument(
        "--places", type=at_least(1), default=10, metavar="N", help="to find (default: %(default)s)"
    )
    parser.add_argument(
        "--tokens-per-sample", type=at_least(3), metavar="N", help="cut longer texts to so many"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")


def _output_path(text: str) -> Path:
    if not text.endswith(".json"):
        raise argparse.ArgumentTypeError(f"{text}: its name ends in .json")
    return Path(text)


def _layer_and_number(text: str) -> tuple[int, int]:
    layer, _, number = text.partition(".")
    if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in (layer, number)):
        raise argparse.ArgumentTypeError(f"{text}: give two numbers from 0 on, such as 0.1")
    return int(layer), int(number)


@quiet()
def run(arguments: argparse.Namespace) -> None:
    """Measure, print a table, and write the numbers."""
    checkpoint = checkpoint_at(arguments.path)
    check_is_file(arguments.text)
    with importing():
        from convbert_plugin import ConvBertModel
        from convbert_plugin.analysis.heads.corpus_batches import corpus_texts
        from convbert_plugin.analysis.heads.kernel_search import Head
        from convbert_plugin.analysis.heads.measuring_heads import heads_text, measured_heads
        from convbert_plugin.files.json_files import write_json

    check_device(arguments.device)
    convbert = ConvBertModel.from_pretrained(checkpoint.parent, checkpoint.name)
    convbert.to(arguments.device)
    with bar_of_bytes([arguments.text], "read") as show:
        texts = corpus_texts(convbert, arguments.text, arguments.tokens_per_sample, show)
    found = measured_heads(
        convbert,
        texts,
        arguments.reach,
        Head(*arguments.head) if arguments.head else None,
        arguments.places,
        bar_of_batches("attention"),
    )
    write_json(arguments.output, {"checkpoint": str(checkpoint), "text": arguments.text, **found})
    print(heads_text(found), end="")
    print(
        f"{arguments.output}: {counted(found['texts'], 'text')}, "
        f"{counted(found['tokens'], 'token')}"
    )
