"""The ``convbert`` command: one module a subcommand, imported only when it is asked for."""

import argparse
import contextlib
import importlib
import os
import signal
import sys
import threading
from types import FrameType
from typing import Callable, Iterator, Optional, Sequence

from convbert_plugin import FAIRSEQ_MISSING
from convbert_plugin.errors import UserError, errors_of_files_told, mistakes_end_the_program
from convbert_plugin.formats.unsafe_loading import refuse_unsafe_loading
from convbert_plugin.training.end_signals import END_SIGNALS

# Name -> module with `add_arguments(parser)` and `run(arguments)`, and what it makes. A module
# imports what is heavy inside `run`, so that --help answers at once.
SUBCOMMANDS = {
    "train-vocab": ("train_vocab", "a sentencepiece model and dict.txt from text"),
    "encode": ("encode", "text to pieces, one line a line, for fairseq-preprocess"),
    "prepare-glue": ("prepare_glue", "GLUE's files, or your own, to data for --task glue"),
    "prepare-squad": ("prepare_squad", "SQuAD's files, 1.1 and 2.0, to data for --task squad"),
    "predict-glue": ("predict_glue", "the predictions of a fine-tuned model, as GLUE wants them"),
    "predict-squad": ("predict_squad", "the answers of a fine-tuned model, as SQuAD wants them"),
    "report": ("report", "a page of the scores of fine-tuning runs, over their seeds"),
    "convert": ("convert", "weights of transformers, TensorFlow or fairseq in, out, and resized"),
    "attention": ("attention_heads", "a page of what heads and kernels look at, and how locally"),
    "profile": ("profile_models", "parameters, FLOPs and memory of models, side by side"),
    "bench": ("bench", "speed and memory, side by side with transformers and fairseq"),
    "user-dir": ("user_dir", "print the plugin's folder, for --user-dir"),
}

# What libraries in C take for a whole number.
MOST_NUMBER = (1 << 31) - 1


@mistakes_end_the_program()
def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one subcommand and return the exit status.

    It is 0 where all is done, 1 where it failed, 130 after an interrupt, 143 after SIGTERM and 129
    after SIGHUP.
    A mistake of the user leaves as UserExit (status 1), wrong arguments as SystemExit(2).
    """
    refuse_unsafe_loading()
    _open_streams()
    arguments = _parse(sys.argv[1:] if argv is None else list(argv))
    try:
        with _end_signals_raise(), errors_of_files_told():
            arguments.run(arguments)
            sys.stdout.flush()
    except KeyboardInterrupt as end:
        number = end.args[0] if end.args else signal.SIGINT
        # After a hang-up nobody may be there to read it.
        with contextlib.suppress(OSError):
            print(f"convbert {arguments.subcommand}: {END_SIGNALS[number]}", file=sys.stderr)
        return 128 + number
    except BrokenPipeError:
        # Python flushes stdout once more at exit: that must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as error:
        if error.name != "fairseq":
            raise
        raise UserError(FAIRSEQ_MISSING) from None
    except MemoryError:
        raise UserError(
            f"convbert {arguments.subcommand}: more memory is needed than there is: free some, or "
            "give it less at a time"
        ) from None
    except OSError as error:
        raise UserError(
            f"{error.strerror or error}: make room, or print to another place"
        ) from None
    return 0


def _open_streams() -> None:
    """Let all be printed: nowhere if there is no place, and letters that it lacks as escapes."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    # Of what stands in its place, as in a test, not all can.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def _end_signals_raise() -> Iterator[None]:
    """Each is raised as Ctrl-C is: what is half written is removed on the way out."""
    # Python lets the main thread alone say what a signal does.
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    before = {number: signal.getsignal(number) for number in END_SIGNALS}
    # Under nohup a hang-up is to be ignored.
    heard = [number for number, handler in before.items() if handler is not signal.SIG_IGN]

    def end(number: int, frame: Optional[FrameType]) -> None:
        # A second one must not break off the clearing up.
        for each in heard:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt(signal.Signals(number))

    for number in heard:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="convbert", description="ConvBERT on fairseq.")
    subparsers = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)
    chosen = next((word for word in argv if not word.startswith("-")), None)
    for name, (module_name, summary) in SUBCOMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary)
        if name == chosen:
            module = importlib.import_module(f"convbert_plugin.cli.{module_name}")
            subparser.description = module.__doc__
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    return parser.parse_args(argv)


def at_least(minimum: int, most: int = MOST_NUMBER) -> Callable[[str], int]:
    """An argparse type: a whole number from ``minimum`` to ``most``."""

    def parse(text: str) -> int:
        # To Python alone `1_0` and digits of other scripts are numbers.
        if not (text.isascii() and text.isdigit()) or int(text) < minimum:
            raise ValueError
        if int(text) > most:
            raise argparse.ArgumentTypeError(f"{text}: give at most {most:,}")
        return int(text)

    # argparse names the type when it refuses a value.
    parse.__name__ = f"whole number of at least {minimum}"
    return parse
