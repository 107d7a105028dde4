"""What the commands share that predict with a fine-tuned model."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterable

from convbert_plugin.cli import at_least
from convbert_plugin.errors import UserError
from convbert_plugin.files.whole_output import check_place


def add_prediction_flags(parser: argparse.ArgumentParser, data: str, output: str) -> None:
    """Declare DATA and OUT, of which ``data`` and ``output`` say what they are, and the model's."""
    parser.add_argument("data", metavar="DATA", help=data)
    parser.add_argument("output", metavar="OUT", help=output)
    parser.add_argument(
        "--path", required=True, metavar="CHECKPOINT", help="a fine-tuned model, or its folder"
    )
    parser.add_argument("--batch-size", type=at_least(1), default=64, help="(default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")


def folder_for_output(path: str) -> Path:
    """The folder that OUT names. Raises UserError where it is something else, or cannot be."""
    output = Path(path)
    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: a file, where OUT has to be a folder: choose another name")
    check_place(output)
    return output


def check_device(name: str) -> None:
    """Raise UserError where there is no such device."""
    import torch

    if name != "cpu" and not torch.cuda.is_available():
        raise UserError(f"--device {name}: there is no GPU here: use cpu")


def bar_of_batches(name: str) -> Callable[[Iterable], Any]:
    """What goes through batches with a progress bar of that name, in a terminal."""
    from tqdm import tqdm

    return partial(tqdm, desc=name, unit=" batches", disable=not sys.stderr.isatty())


def tell(line: str) -> None:
    """Tell a user something beside the results."""
    print(line, file=sys.stderr)
