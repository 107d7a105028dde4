"""Count what models have, compute and keep: parameters, FLOPs and memory, side by side.

By formulas: nothing is built, so that any size answers at once. A model is an architecture, or one
with changes of its own; options beside --arch are for all of them. They are those of fairseq-train;
what is not given is the architecture's and that of its released pretraining.

    convbert profile --arch convbert_base
    convbert profile --arch convbert_small convbert_small:conv-type=none,head-ratio=1
    convbert profile --arch convbert_base electra_base --tokens-per-sample 128 --json > profile.json
"""

import argparse
import json
from typing import Any, Callable

from convbert_plugin.analysis.profiling.subjects import OPTIONS, Option


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``convbert profile``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--arch",
        nargs="+",
        action="extend",
        required=True,
        metavar="NAME[:OPTION=VALUE,...]",
        help="the models, a column each",
    )
    parser.add_argument(
        "--json", action="store_true", help="print every number as JSON, in place of the tables"
    )
    for name, option in OPTIONS.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=_argument_type(option),
            metavar="VALUE",
            help=option.help,
        )


def _argument_type(option: Option) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return option.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"it takes {error}, not {text}") from None

    return parse


def run(arguments: argparse.Namespace) -> None:
    """Print the tables, or the JSON."""
    from convbert_plugin.analysis.profiling.profile_table import profiles_text
    from convbert_plugin.analysis.profiling.profiles import CONVENTIONS, MEMORY, profile_of
    from convbert_plugin.analysis.profiling.subjects import subject_of

    given = {name: getattr(arguments, name) for name in OPTIONS}
    options = {name: value for name, value in given.items() if value is not None}
    profiles = [profile_of(subject_of(words, options)) for words in arguments.arch]
    if arguments.json:
        content = {"conventions": {**CONVENTIONS, "memory": MEMORY}, "profiles": profiles}
        print(json.dumps(content, indent=2))
    else:
        print(profiles_text(profiles), end="")
