"""Turn text into pieces, one line a line, as fairseq-preprocess takes them.

An empty line stays empty: it ends a document. The tokenizer's files and dict.txt are written
beside OUT: `fairseq-preprocess --only-source --srcdict FOLDER/dict.txt` carries them on.
"""

import argparse
import itertools
import os
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Callable

from convbert_plugin.cli import at_least
from convbert_plugin.cli.progress import blocks_with_progress
from convbert_plugin.cli.tokenizer_flags import add_tokenizer_flags, tokenizer_loader
from convbert_plugin.cli.workers import MOST_WORKERS, default_workers, in_order
from convbert_plugin.errors import UserError, counted
from convbert_plugin.files.text_files import Block
from convbert_plugin.files.whole_output import whole_file
from convbert_plugin.tokenization.tokenizer_files import DICTIONARY_FILE, TOKENIZER_FILES
from convbert_plugin.tokenization.tokenizer_interface import Tokenizer
from convbert_plugin.tokenization.unknown_pieces import PieceCounts, count_pieces, total_of

Encoded = tuple[str, Counter, PieceCounts]
"""The pieces of one block, one line a line, and how many lines and so on they are."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``convbert encode``."""
    parser.add_argument("input", metavar="IN", help="text: plain, .gz, .xz or .bz2")
    parser.add_argument("output", metavar="OUT", help="the file of pieces")
    parser.add_argument(
        "--tokenizer",
        required=True,
        metavar="VOCAB_OR_FOLDER",
        help="a tokenizer.json, a WordPiece vocab.txt, a sentencepiece .model, or a folder that "
        "holds one",
    )
    add_tokenizer_flags(parser)
    parser.add_argument(
        "--workers",
        type=at_least(1, MOST_WORKERS),
        default=default_workers(),
        help="processes (default: %(default)s)",
    )


def encode_block(tokenizer: Tokenizer, block: Block) -> Encoded:
    """Encode whole lines.

    A line of text without any piece is dropped: left empty, it would end a document that goes on.
    """
    lines = block.lines()
    texts = [line for line in lines if line.strip()]
    pieces_of_texts = tokenizer.pieces_batch(texts)
    of_text = iter(pieces_of_texts)
    encoded = [next(of_text) if line.strip() else None for line in lines]
    kept = [pieces or [] for pieces in encoded if pieces != []]
    counts = Counter(
        lines=sum(map(bool, kept)),
        documents=sum(has_text for has_text, _ in itertools.groupby(kept, key=bool)),
        dropped=len(encoded) - len(kept),
    )
    text = "".join(" ".join(pieces) + "\n" for pieces in kept)
    return text, counts, count_pieces(tokenizer, texts, pieces_of_texts)


def _load_encoder(load: Callable[[], Tokenizer]) -> partial:
    return partial(encode_block, load())


def run(arguments: argparse.Namespace) -> None:
    """Encode one file; OUT appears only when all of it is written."""
    started = time.monotonic()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    output = Path(arguments.output)
    _check_output(output, arguments)
    load = tokenizer_loader(arguments.tokenizer, arguments)
    tokenizer = load()
    tokenizer.check_folder(output.parent)
    total: Counter = Counter()
    pieces: list[PieceCounts] = []
    is_open = False
    with (
        whole_file(output) as file,
        blocks_with_progress([arguments.input], "encode") as blocks,
    ):
        encoder = partial(encode_block, tokenizer)
        loader = partial(_load_encoder, load)
        for text, counts, of_block in in_order(encoder, loader, blocks, arguments.workers):
            file.write(text.encode())
            total.update(counts)
            pieces.append(of_block)
            if text:
                # A document that goes on from one block to the next counts once.
                total["documents"] -= is_open and text[0] != "\n"
                is_open = not f"\n{text}".endswith("\n\n")
        if not total["lines"]:
            raise UserError(f"{arguments.input}: holds no text: nothing to encode")
        # What can fail fails before the tokenizer stands there without it.
        file.flush()
        os.fsync(file.fileno())
        tokenizer.save(output.parent)
    seconds = time.monotonic() - started
    known = total_of(pieces)
    dropped = total["dropped"]
    print(
        f"{counted(total['lines'], 'line')}, {counted(total['documents'], 'document')}, "
        f"{counted(known.pieces, 'token')}, {known.share:.2%} {tokenizer.unknown}, {seconds:.1f} s"
        + f", {counted(dropped, 'line')} dropped that hold no piece"
        * bool(dropped)
    )
    if warning := known.warning(tokenizer.unknown):
        print(f"warning: {warning}", file=sys.stderr)


def _check_output(output: Path, arguments: argparse.Namespace) -> None:
    if output.is_dir():
        raise UserError(f"{output}: a folder: give the name of the file to write")
    for source in (arguments.input, arguments.tokenizer):
        if output.exists() and os.path.exists(source) and output.samefile(source):
            raise UserError(f"{output}: would be overwritten while it is read: choose another OUT")
    if output.name in (*TOKENIZER_FILES, DICTIONARY_FILE):
        raise UserError(f"{output}: the name of a file of the tokenizer: choose another OUT")
