"""Train a sentencepiece vocabulary on text, for `convbert encode --tokenizer OUT`.

OUT gets sentencepiece.bpe.model and dict.txt. A piece has the same id in both: <s> 0, <pad> 1,
</s> 2, <unk> 3, <mask> 4, then the pieces; N in all.
"""

import argparse
import io
import itertools
import re
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Callable, Iterator, TypeVar

from convbert_plugin.cli import at_least
from convbert_plugin.cli.progress import blocks_with_progress
from convbert_plugin.errors import UserError
from convbert_plugin.files.text_files import ODD_WHITESPACE, Block, number
from convbert_plugin.files.whole_output import check_place
from convbert_plugin.tokenization.sentencepiece_tokenizer import SentencePieceTokenizer
from convbert_plugin.tokenization.symbols import FAIRSEQ_SPECIALS
from convbert_plugin.tokenization.tokenizer_files import (
    DICTIONARY_FILE,
    SENTENCEPIECE_FILE,
    TOKENIZER_FILES,
)

Result = TypeVar("Result")

# Of paragraphs, so many take sentencepiece about 2 GB.
SAMPLE_LINES = 200_000
# Sentencepiece takes no smaller sample.
FEWEST_SAMPLE_LINES = 101
# Sentencepiece keeps the sampled sentences in memory, and lays a lattice over each of them.
SENTENCE_CHARACTERS = 4096

# What sentencepiece says -> what to do about it.
KNOWN_ERRORS = {
    r"Vocabulary size too high .*<= (\d+)": (
        "--vocab-size {size} is too large for this text: it allows at most {0}"
    ),
    r"smaller than required_chars. \d+ vs (\d+)": (
        "--vocab-size {size} is too small for the characters of this text: give at least {0}, or a "
        "smaller --character-coverage"
    ),
}


def coverage(text: str) -> float:
    """An argparse type: what sentencepiece takes as its coverage."""
    share = number(text)
    if not 0.98 <= share <= 1.0:
        raise ValueError
    return share


coverage.__name__ = "number from 0.98 to 1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``convbert train-vocab``."""
    parser.add_argument("texts", metavar="TEXT", nargs="+", help="text: plain, .gz, .xz or .bz2")
    parser.add_argument("output", metavar="OUT", help="the folder to write")
    parser.add_argument(
        "--vocab-size",
        type=at_least(len(FAIRSEQ_SPECIALS) + 1),
        required=True,
        metavar="N",
        help="symbols in all, the five special ones included",
    )
    parser.add_argument(
        "--model-type",
        choices=("unigram", "bpe"),
        default="unigram",
        help="default: %(default)s",
    )
    parser.add_argument(
        "--character-coverage",
        type=coverage,
        default=0.9995,
        metavar="SHARE",
        help="of the text's characters that get a piece; 1.0 for small alphabets (%(default)s)",
    )
    parser.add_argument(
        "--sample-lines",
        type=at_least(FEWEST_SAMPLE_LINES),
        default=SAMPLE_LINES,
        metavar="LINES",
        help="train on at most so many lines, drawn at random from all (%(default)s)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Train on all texts; OUT is written only at the end."""
    output = Path(arguments.output)
    _check_output(output)
    with blocks_with_progress(arguments.texts, "read") as blocks:
        model = _in_thread(lambda: _train(blocks, arguments))
    tokenizer = SentencePieceTokenizer(model, output / SENTENCEPIECE_FILE)
    tokenizer.save(output)
    print(f"{len(tokenizer.symbols):,} symbols in {output / DICTIONARY_FILE}")


def _check_output(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: a file, where OUT has to be a folder: choose another name")
    for name in (*TOKENIZER_FILES, DICTIONARY_FILE):
        if (output / name).exists():
            raise UserError(
                f"{output / name}: there already, and data may depend on it: choose another "
                "folder, or remove it"
            )
    check_place(output)


def _read(blocks: Iterator[Block], errors: list) -> Iterator[str]:
    """The non-empty lines of all blocks, long ones in parts, for sentencepiece to draw from.

    What goes wrong is kept in ``errors``: sentencepiece would turn it into text.
    """
    try:
        for block in blocks:
            for line in block.lines():
                yield from _sentences(ODD_WHITESPACE.sub(" ", line))
    except Exception as error:
        errors.append(error)
        raise
    print("train: this may take minutes", file=sys.stderr)


def _sentences(line: str) -> Iterator[str]:
    """Cut a long line at spaces where it has any."""
    start = 0
    while start < len(line):
        end = start + SENTENCE_CHARACTERS
        space = line.rfind(" ", start + 1, end) if end < len(line) else -1
        end = end if space < 0 else space
        if sentence := line[start:end].strip():
            yield sentence
        start = end


def _train(blocks: Iterator[Block], arguments: argparse.Namespace) -> bytes:
    from sentencepiece import SentencePieceTrainer

    errors: list[BaseException] = []
    sentences = _read(blocks, errors)
    first = next(sentences, None)
    if first is None:
        raise UserError(f"{', '.join(arguments.texts)}: no text to train on")
    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=itertools.chain([first], sentences),
            model_writer=model,
            model_type=arguments.model_type,
            vocab_size=arguments.vocab_size,
            character_coverage=arguments.character_coverage,
            input_sentence_size=arguments.sample_lines,
            shuffle_input_sentence=True,
            max_sentence_length=SENTENCE_CHARACTERS * 4,
            # A control symbol is never a piece of text, whatever the text says.
            control_symbols=FAIRSEQ_SPECIALS["mask"],
            minloglevel=2,
            bos_id=0,
            pad_id=1,
            eos_id=2,
            unk_id=3,
        )
    except (RuntimeError, ValueError) as error:
        raise next(iter(errors), _explained(str(error), arguments)) from None
    return model.getvalue()


def _explained(message: str, arguments: argparse.Namespace) -> UserError:
    for pattern, advice in KNOWN_ERRORS.items():
        if found := re.search(pattern, message):
            return UserError(advice.format(*found.groups(), size=arguments.vocab_size))
    return UserError(f"sentencepiece failed: {' '.join(message.split())}")


def _in_thread(work: Callable[[], Result]) -> Result:
    """The result of ``work``, while Ctrl-C still reaches the main thread."""
    result: Future[Result] = Future()

    def target() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    # An executor's thread would be waited for at the end, after Ctrl-C too.
    threading.Thread(target=target, daemon=True).start()
    return result.result()
