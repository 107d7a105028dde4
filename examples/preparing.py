"""Text and tasks made into data, once: what is there is seen to be made from the same.

python preparing.py TRAIN=TEXT VALID=TEXT TOKENIZER=VOCAB_OR_FOLDER OUT makes text into data to
pretrain on: OUT/encoded (pieces, one line a line) and OUT/data (binarized).
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Mapping, Sequence

from convbert_plugin.data.glue.glue_tasks import official_task
from convbert_plugin.data.splits import TRAIN, VALID
from convbert_plugin.errors import UserError, mistakes_end_the_program
from convbert_plugin.tokenization.tokenizer_files import DICTIONARY_FILE

sys.path.insert(0, str(Path(__file__).resolve().parent))
import made_from
from training_logs import last_words, signal_words

PLUGIN = Path(__file__).resolve().parents[1] / "convbert_plugin"
CONVBERT = (sys.executable, "-m", "convbert_plugin.cli")
PREPROCESS = (sys.executable, "-m", "fairseq_cli.preprocess")


def call(command: Sequence) -> None:
    """Run a command; where it fails, it has said why, and so its status is all that is left."""
    process = subprocess.Popen(command)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        # It has heard it too.
        status = process.wait()
    if status:
        sys.exit(status if status > 0 else 128 - status)


def prepared(
    data: Path,
    command: Sequence,
    sources: Mapping[str, Path],
    tokenizer: Path,
    tokenizer_name: str = "tokenizer",
) -> Path:
    """The data that a ``convbert`` command prepares with a tokenizer: a folder, or a file.

    They are made where they are not there yet. ``sources``: what they are made from, by the names
    by which it is told that others were asked for; the command ends with them.
    """
    made_from.check(data, {**sources, tokenizer_name: tokenizer})
    if data.exists():
        print(f"reusing {data}", flush=True)
    else:
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


def prepared_text(named: Mapping[str, Path], encoded: Path, data: Path) -> Path:
    """Text as data to pretrain on, with the pieces and the tokenizer in ``encoded``.

    ``named``: the texts to train and to validate on and the tokenizer, by the names by which it is
    told that others were asked for.
    """
    *texts, (tokenizer_name, tokenizer) = named.items()
    pieces = [
        prepared(encoded / split, ["encode"], {name: text}, tokenizer, tokenizer_name)
        for split, (name, text) in zip((TRAIN, VALID), texts, strict=True)
    ]
    # It is written last.
    mark = data / "valid.idx"
    made_from.check(mark, dict(zip(("training pieces", "held-out pieces"), pieces, strict=True)))
    if mark.exists():
        print(f"reusing {data}", flush=True)
    else:
        _binarize(pieces, data)
    return data


def _binarize(pieces: Sequence[Path], data: Path) -> None:
    train, valid = pieces
    log = data.with_name("preprocess.log")
    options = (
        *("--user-dir", PLUGIN, "--task", "replaced_token_detection", "--only-source"),
        *("--srcdict", train.with_name(DICTIONARY_FILE), "--destdir", data),
        *("--trainpref", train, "--validpref", valid),
        *("--workers", str(min(2, len(os.sched_getaffinity(0))))),
    )
    with open(log, "w") as file:
        status = subprocess.run(
            [*PREPROCESS, *options], stdout=file, stderr=subprocess.STDOUT
        ).returncode
    if status:
        said = last_words(log, 0) if status > 0 else f"ended by {signal_words(-status)}"
        raise UserError(f"{log}: {said}")


@mistakes_end_the_program()
def main() -> None:
    *words, out = sys.argv[1:] or ("",)
    named = {name: Path(path) for name, _, path in (word.partition("=") for word in words)}
    if len(named) != 3:
        sys.exit("usage: python preparing.py TRAIN=TEXT VALID=TEXT TOKENIZER=VOCAB_OR_FOLDER OUT")
    prepared_text(named, Path(out, "encoded"), Path(out, "data"))


if __name__ == "__main__":
    main()
