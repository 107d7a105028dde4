"""Measure speed and memory beside transformers, fairseq and what the machine can do at best.

All variants of a row run in turn in one process, on the same data and with the same weights; each
is seen to be equal before it is timed. Medians of the rounds, and quartiles. Without transformers,
its models are left out.

    convbert bench --quick                                # a toy, in a minute: does it all run?
    convbert bench --parts op,encoder --archs small       # two parts of one size
    convbert bench --parts step --budget 300 --json bench.json --picture bench.png
    convbert bench --device cuda --dtype bf16 --budget 150
"""

import argparse
from pathlib import Path
from typing import Callable

from convbert_plugin.cli import at_least
from convbert_plugin.cli.quiet import quiet
from convbert_plugin.errors import UserError
from convbert_plugin.files.whole_output import check_place

PARTS = ("op", "encoder", "step", "train", "length")
SIZES = ("small", "medium", "base")
DTYPES = ("fp32", "bf16", "fp16")
DEVICES = ("cpu", "cuda")
PICTURES = (".png", ".svg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``convbert bench``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--parts",
        type=_words_of(PARTS),
        default=PARTS,
        metavar="PART,...",
        help=f"what to measure, of {', '.join(PARTS)} (default: all)",
    )
    parser.add_argument(
        "--archs",
        type=_words_of(SIZES),
        default=("small", "base"),
        metavar="SIZE,...",
        help=f"which sizes, of {', '.join(SIZES)} (default: small,base)",
    )
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="(default: %(default)s)")
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="fp32",
        help="fp32; bf16 and fp16 under autocast, the op in them (default: %(default)s)",
    )
    parser.add_argument(
        "--batch",
        type=at_least(1),
        metavar="N",
        help="examples in a batch (default: 32, base 8; on a GPU the released 128, base 256)",
    )
    parser.add_argument(
        "--length", type=at_least(8), default=128, metavar="N", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--backends",
        type=lambda text: tuple(text.split(",")),
        default=(),
        metavar="NAME,...",
        help="of the convolution: each in the part op, the first in the models",
    )
    parser.add_argument(
        "--compile", action="store_true", help="besides, models that torch has compiled"
    )
    parser.add_argument(
        "--cuda-graphs", action="store_true", help="besides, steps as CUDA graphs (with both: both)"
    )
    parser.add_argument(
        "--dropout",
        type=float,
        metavar="RATE",
        help="of the step (default: one comparison with 0, one with 0.1)",
    )
    parser.add_argument("--no-peers", action="store_true", help="leave out transformers' models")
    parser.add_argument("--threads", type=at_least(1), metavar="N", help="of torch")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument(
        "--budget",
        type=at_least(1),
        metavar="SECONDS",
        help="for all of it, shared among the comparisons (each has three rounds at least)",
    )
    pace.add_argument(
        "--repeats", type=at_least(1), metavar="N", help="rounds a comparison (default: 5)"
    )
    parser.add_argument("--no-memory", action="store_true", help="do not measure memory")
    parser.add_argument("--json", metavar="FILE", help="write every number of every round")
    parser.add_argument(
        "--picture", type=_picture_path, metavar="FILE", help="draw it (.png or .svg)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="at toy size, to see that all of it runs"
    )


def _words_of(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """An argparse type: some of the known words, with commas between them."""

    def parse(text: str) -> tuple[str, ...]:
        words = tuple(text.split(","))
        unknown = [word for word in words if word not in known]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"{', '.join(unknown)}: choose from {', '.join(known)}"
            )
        return words

    return parse


def _modes(arguments: argparse.Namespace) -> tuple[str, ...]:
    from convbert_plugin.analysis.bench.plan import BOTH, COMPILED, GRAPHS

    asked = {COMPILED: arguments.compile, GRAPHS: arguments.cuda_graphs}
    return (*(mode for mode in asked if asked[mode]), *([BOTH] if all(asked.values()) else []))


def _picture_path(text: str) -> str:
    if Path(text).suffix not in PICTURES:
        raise argparse.ArgumentTypeError(f"{text}: its name ends in {' or '.join(PICTURES)}")
    return text


@quiet()
def run(arguments: argparse.Namespace) -> None:
    """Measure, print a table a comparison, and write what is asked for."""
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: there is no GPU here: use cpu")
    if arguments.cuda_graphs and arguments.device == "cpu":
        raise UserError("--cuda-graphs: they are for a GPU: add --device cuda, or leave them out")
    for path in filter(None, (arguments.json, arguments.picture)):
        check_place(path)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    from convbert_plugin.analysis.bench.running import Wishes, run_bench

    run_bench(
        Wishes(
            parts=arguments.parts,
            archs=tuple(f"convbert_{size}" for size in arguments.archs),
            device=arguments.device,
            dtype=arguments.dtype,
            batch=arguments.batch,
            length=arguments.length,
            backends=arguments.backends,
            modes=_modes(arguments),
            dropouts=(0.0, 0.1) if arguments.dropout is None else (arguments.dropout,),
            with_peers=not arguments.no_peers,
            budget=arguments.budget,
            repeats=arguments.repeats,
            with_memory=not arguments.no_memory,
            json_file=arguments.json,
            picture=arguments.picture,
            is_quick=arguments.quick,
        ),
        tell=lambda text: print(text, end="", flush=True),
    )
