"""How a bare WordPiece vocabulary is used: the flags that several subcommands share."""

import argparse
from functools import partial

from convbert_plugin.tokenization.tokenizer import load_tokenizer


def add_tokenizer_flags(parser: argparse.ArgumentParser) -> None:
    """Declare ``--cased``, ``--strip-accents`` and ``--keep-accents``."""
    parser.add_argument("--cased", action="store_true", help="keep the case (WordPiece)")
    accents = parser.add_mutually_exclusive_group()
    accents.add_argument(
        "--strip-accents",
        action="store_true",
        default=None,
        help="é becomes e (WordPiece; the default unless --cased)",
    )
    accents.add_argument(
        "--keep-accents",
        dest="strip_accents",
        action="store_false",
        help="é stays é (WordPiece; the default with --cased)",
    )


def tokenizer_loader(path: str, arguments: argparse.Namespace) -> partial:
    """A call that loads the tokenizer at ``path`` as the flags say, also in another process."""
    return partial(
        load_tokenizer, path, cased=arguments.cased, strip_accents=arguments.strip_accents
    )
