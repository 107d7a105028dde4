"""Measure how local the attention of a model is in a text, and show what its heads look at.

TEXT has a text a line. By layer and head (both count from 0) it gets, as means over all tokens: the
share of attention within so many tokens to either side, the mean distance, and of kernels their
mean, centre of mass, entropy, and how much of it depends on the token; beside it what a uniform
pattern of the same lengths has. With --head, the places where that head's kernel is sharpest, and
where it is most unlike its mean, with their tokens.

OUT.html is one self-contained page of all this and of the attention maps and kernels of as many
texts as it has room for, to look through by layer, head and word; OUT.png (the maps of the first
text) and OUT.json (every number) stand beside it. OUT.json: the numbers alone. With several --path
the models stand side by side; they must read the same tokens in TEXT.
"""

import argparse
from pathlib import Path

from convbert_plugin.cli import at_least
from convbert_plugin.cli.prediction_flags import bar_of_batches, check_device
from convbert_plugin.cli.progress import bar_of_bytes
from convbert_plugin.cli.quiet import importing, quiet
from convbert_plugin.errors import counted
from convbert_plugin.files.text_files import check_is_file
from convbert_plugin.files.whole_output import check_place, whole_files
from convbert_plugin.formats.finding import checkpoint_at

PAGE, PICTURE, NUMBERS = ".html", ".png", ".json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``convbert attention``."""
    parser.add_argument("text", metavar="TEXT", help="a text a line, plain or compressed")
    parser.add_argument(
        "output", metavar="OUT", type=_output_path, help="OUT.html, a page; OUT.json, the numbers"
    )
    parser.add_argument(
        "--path",
        required=True,
        action="append",
        metavar="CHECKPOINT",
        help="a model, or the folder of a run; again for each other one",
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
    parser.add_argument(
        "--json", action="store_true", help="print every number as JSON, in place of the tables"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")


def _output_path(text: str) -> Path:
    path = Path(text)
    if path.suffix not in (PAGE, NUMBERS):
        raise argparse.ArgumentTypeError(f"{text}: its name ends in {PAGE} or {NUMBERS}")
    return path


def _layer_and_number(text: str) -> tuple[int, int]:
    layer, _, number = text.partition(".")
    if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in (layer, number)):
        raise argparse.ArgumentTypeError(f"{text}: give two numbers from 0 on, such as 0.1")
    return int(layer), int(number)


@quiet()
def run(arguments: argparse.Namespace) -> None:
    """Measure, print a table a model, and write the page, the picture and the numbers."""
    checkpoints = [checkpoint_at(path) for path in arguments.path]
    check_is_file(arguments.text)
    suffixes = [PAGE, PICTURE, NUMBERS] if arguments.output.suffix == PAGE else [NUMBERS]
    outputs = [arguments.output.with_suffix(suffix) for suffix in suffixes]
    for output in outputs:
        check_place(output)
    with importing():
        from convbert_plugin import ConvBertModel
        from convbert_plugin.analysis.heads.corpus_batches import corpus_texts
        from convbert_plugin.analysis.heads.kernel_search import Head
        from convbert_plugin.analysis.heads.measured_models import (
            ReadTexts,
            measured_models,
            model_names,
            values_of_models,
        )
        from convbert_plugin.analysis.heads.measuring_heads import heads_text
        from convbert_plugin.files.json_files import indented

    names = model_names(checkpoints)
    check_device(arguments.device)
    read = []
    for checkpoint in checkpoints:
        convbert = ConvBertModel.from_pretrained(checkpoint.parent, checkpoint.name)
        convbert.to(arguments.device)
        with bar_of_bytes([arguments.text], "read") as show:
            texts = corpus_texts(convbert, arguments.text, arguments.tokens_per_sample, show)
        read.append(ReadTexts(convbert, texts))
    models = measured_models(
        list(zip(names, read, strict=True)),
        arguments.text,
        arguments.reach,
        Head(*arguments.head) if arguments.head else None,
        arguments.places,
        bar_of_batches("attention"),
    )
    numbers = indented(values_of_models(models, arguments.text))
    contents = [numbers]
    if len(outputs) > 1:
        from convbert_plugin.analysis.heads.head_page import attention_page, maps_png

        contents = [attention_page(models, arguments.text).encode(), maps_png(models), *contents]
    with whole_files(outputs) as files:
        for file, content in zip(files, contents, strict=True):
            file.write(content)
    if arguments.json:
        print(numbers.decode(), end="")
        return
    for model in models:
        print(f"{model.name}:\n" * (len(models) > 1) + heads_text(model.found), end="")
    found = models[0].found
    print(
        f"{arguments.output}: {counted(found['texts'], 'text')}, "
        f"{counted(found['tokens'], 'token')}"
    )
