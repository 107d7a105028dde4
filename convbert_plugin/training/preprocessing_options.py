"""See at the start that fairseq-preprocess is given what it can make data of for the tasks here."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Callable, Mapping

from fairseq.tasks import TASK_REGISTRY

from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.errors import UserError, errors_of_files_told
from convbert_plugin.files.text_files import check_is_plain_text
from convbert_plugin.files.whole_output import check_place
from convbert_plugin.training.option_limits import check_values

# Each may name several files, but for the first.
TEXTS = ("trainpref", "validpref", "testpref")
ENCODED = "convbert encode"
COMMAND, PACKAGE = "fairseq-preprocess", "fairseq_cli"


def look_before_preprocessing() -> None:
    """Have fairseq-preprocess look before it writes, if this process is it.

    It asks a task for no options, and for its dictionary when it has begun to write.
    """
    for name in ("fairseq_cli.preprocess", "__main__"):
        module = sys.modules.get(name)
        is_it = getattr(module, "__package__", None) == PACKAGE
        if module is not None and is_it and hasattr(module, "dataset_dest_file"):
            setattr(module, "main", _looking(module.main))  # noqa: B010


def _looking(main: Callable) -> Callable:
    def looking(args: argparse.Namespace) -> Any:
        maker = getattr(TASK_REGISTRY.get(args.task), "data_maker", None)
        if maker is not None:
            with errors_of_files_told():
                check_preprocessing(vars(args), maker)
        return main(args)

    return looking


def check_preprocessing(options: Mapping[str, Any], maker: str) -> None:
    """See texts, dictionary and folder before anything is written.

    Raises:
        UserError: a text that is missing or no plain UTF-8, a dictionary that is missing or
            broken, a folder that cannot be written in, or options that make no data of one text.
    """
    check_values(options)
    if not maker.startswith(COMMAND):
        raise UserError(f"--task {options['task']}: its data are made by {maker}")
    if not options["only_source"]:
        raise UserError("--only-source is missing: the tasks here read one text, not pairs: add it")
    if options["source_lang"] or options["target_lang"]:
        raise UserError("--source-lang and --target-lang go with pairs of texts: leave them out")
    if not options["srcdict"]:
        raise UserError(
            f"--srcdict is missing: name the dict.txt that {ENCODED} wrote beside the pieces"
        )
    if options["dataset_impl"] not in (None, "mmap"):
        raise UserError(f"--dataset-impl {options['dataset_impl']}: leave it out, mmap is read")
    _check_folder(options["destdir"])
    vocabulary = Vocabulary.load(options["srcdict"])
    vocabulary.check_folder(Path(options["destdir"]))
    texts = [(options[name] or "").split(",") for name in TEXTS]
    named = [path for paths in texts for path in paths if path]
    if not named:
        raise UserError(f"--trainpref is missing: name a file of pieces that {ENCODED} wrote")
    for path in named:
        check_is_plain_text(path)


def _check_folder(path: str) -> None:
    if os.path.exists(path) and not os.path.isdir(path):
        raise UserError(f"--destdir {path}: a file, where a folder is to be: choose another name")
    check_place(path)
