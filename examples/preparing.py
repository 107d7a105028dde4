"""Text and tasks made into data, once: what is there is seen to be made from the same."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Mapping, Sequence

from convbert_plugin.data.glue.glue_tasks import TRAIN, official_task
from convbert_plugin.errors import UserError

sys.path.insert(0, str(Path(__file__).resolve().parent))
import made_from
from training_logs import last_words

PLUGIN = Path(__file__).resolve().parents[1] / "convbert_plugin"
CONVBERT = (sys.executable, "-m", "convbert_plugin.cli")
PREPROCESS = (sys.executable, "-m", "fairseq_cli.preprocess")


def call(command: Sequence) -> None:
    """Run a command; where it fails, it has said why, and so its status is all that is left."""
    if status := subprocess.run(command).returncode:
        sys.exit(status)


def prepared(data: Path, command: Sequence, sources: Mapping[str, Path], tokenizer: Path) -> Path:
    """The data that a ``convbert`` command prepares with a tokenizer: a folder, or a file.

    They are made where they are not there yet. ``sources``: what they are made from, by the names
    by which it is told that others were asked for; the command ends with them.
    """
    made_from.check(data, {**sources, "tokenizer": tokenizer})
    if not data.exists():
        call([*CONVBERT, *command, "--tokenizer", tokenizer, *sources.values(), data])
    return data


def prepared_glue(task: str, glue: Path, data: Path, tokenizer: Path) -> Path:
    """The data of a task whose official folder lies in ``glue``. Raises UserError: it does not."""
    sources = [folder for folder in sorted(glue.glob("*")) if folder.name.lower() == task]
    if not sources:
        raise UserError(f"{glue}: no folder of {task} in it")
    command = ("prepare-glue", "--glue-task", task)
    return prepared(data, command, {"--glue": sources[0]}, tokenizer)


def trained_tasks(names: Sequence[str]) -> list[str]:
    """The tasks of these names. Raises UserError: an unknown one, or one without training set."""
    tasks = {task.name: task for task in map(official_task, names)}
    for name, task in tasks.items():
        if TRAIN not in task.sources:
            raise UserError(f"--tasks {name}: has no training set: a model of MNLI answers it")
    return list(tasks)


def prepared_text(train: Path, valid: Path, tokenizer: Path, folder: Path) -> Path:
    """Text as data to pretrain on, with the pieces beside it in ``folder``."""
    texts = {"train": train, "valid": valid}
    pieces = {
        split: prepared(folder / "encoded" / split, ["encode"], {f"--{split}": text}, tokenizer)
        for split, text in texts.items()
    }
    data = folder / "binarized"
    # It is written last.
    made_from.check(data / "valid.idx", {f"pieces of --{name}": pieces[name] for name in pieces})
    if not (data / "valid.idx").exists():
        _binarize(pieces, data)
    return data


def _binarize(pieces: Mapping[str, Path], data: Path) -> None:
    log = data.with_name("preprocess.log")
    options = (
        *("--user-dir", PLUGIN, "--task", "replaced_token_detection", "--only-source"),
        *("--srcdict", pieces["train"].with_name("dict.txt"), "--destdir", data),
        *("--trainpref", pieces["train"], "--validpref", pieces["valid"]),
        *("--workers", str(len(os.sched_getaffinity(0)))),
    )
    with open(log, "w") as file:
        finished = subprocess.run([*PREPROCESS, *options], stdout=file, stderr=subprocess.STDOUT)
    if finished.returncode:
        raise UserError(f"{log}: {last_words(log, 0)}")
