"""Fine-tune a checkpoint on tasks of GLUE, with several seeds each, and report on all of it.

    python examples/glue/finetune.py --glue GLUE --checkpoint runs/small/checkpoint_last.pt \
        --tasks cola,mrpc,rte --seeds 1,2,3 --out runs/glue [OVERRIDE ...]

GLUE holds the official folders (CoLA, MRPC, ...). The released recipe of the size next to the
checkpoint's is taken; overrides are those of fairseq-hydra-train and win over it, as
optimization.max_update=300 does. What is done is skipped, and what was cut off goes on: run the
same command again. With --random-weights the same model starts from nothing, beside the other runs.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Iterator, NamedTuple

from convbert_plugin.conversion.fairseq_folder import nearest_architecture
from convbert_plugin.data.glue_tasks import TRAIN, official_task
from convbert_plugin.errors import UserError
from convbert_plugin.formats.fairseq_checkpoint import read_checkpoint
from convbert_plugin.models.loading import config_of

PLUGIN = Path(__file__).resolve().parents[2] / "convbert_plugin"
# Written when a run has ended well; what fairseq prints goes beside it.
DONE, LOG = "done", "train.log"


class Run(NamedTuple):
    """One task with one seed."""

    task: str
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.task}, seed {self.seed}"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--glue", type=Path, required=True, help="the folder of the tasks' folders")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--random-weights", action="store_true", help="start from nothing")
    parser.add_argument("--tasks", type=listed(str), required=True, metavar="A,B,...")
    parser.add_argument("--seeds", type=listed(int), required=True, metavar="1,2,...")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=1, help="runs at once (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE")
    return parser.parse_args()


def listed(kind):
    """An argparse type: values of a kind with commas between them."""

    def parse(text: str) -> list:
        return [kind(word) for word in text.split(",")]

    parse.__name__ = f"list of {kind.__name__}"
    return parse


def prepare(task: str, arguments: argparse.Namespace) -> Path:
    """The prepared data of a task, made where it is not there yet."""
    data = arguments.out / "data" / task
    if data.is_dir():
        return data
    sources = [folder for folder in sorted(arguments.glue.glob("*")) if folder.name.lower() == task]
    if not sources:
        raise UserError(f"{arguments.glue}: no folder of {task} in it")
    command = [sys.executable, "-m", "convbert_plugin.cli", "prepare-glue", "--glue-task", task]
    tokenizer = ["--tokenizer", arguments.checkpoint.parent]
    call([*command, *tokenizer, sources[0], data])
    return data


def call(command: list) -> None:
    """Run a command; where it fails, it has said why, and so its status is all that is left."""
    if status := subprocess.run(command).returncode:
        sys.exit(status)


def model_overrides(checkpoint: Path) -> Iterator[str]:
    """What makes fairseq build the model of a checkpoint: its recipe's name, then its options."""
    stored = read_checkpoint(checkpoint)
    config = config_of(stored.model, stored.tensors, checkpoint)
    name = nearest_architecture(config)
    yield f"finetune_convbert_{name.split('_')[1]}"
    yield f"model={name}"
    for option, value in asdict(config).items():
        if option not in ("_name", "dropout", "attention_dropout"):
            # Two plus signs: an option that the recipe does not name is added.
            yield f"++model.{option}={value}"


def fine_tune(run: Run, data: Path, model: list[str], arguments: argparse.Namespace) -> None:
    """Train one run to its end; a last line of fairseq that says what is wrong is raised."""
    run.folder.mkdir(parents=True, exist_ok=True)
    name, *options = model
    options += [
        f"glue={run.task}",
        f"common.user_dir={PLUGIN}",
        f"common.seed={run.seed}",
        f"task.data={data}",
        f"checkpoint.save_dir={run.folder}",
    ]
    if not arguments.random_weights:
        options.append(f"checkpoint.finetune_from_model={arguments.checkpoint}")
    command = [sys.executable, "-m", "fairseq_cli.hydra_train", "--config-dir", PLUGIN / "config"]
    command += ["--config-name", name, *options, *arguments.overrides]
    with open(run.folder / LOG, "a") as log:
        finished = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT)
    if finished.returncode:
        last = (run.folder / LOG).read_text(errors="replace").splitlines()[-1:]
        raise UserError(f"{run.folder / LOG}: {''.join(last)}")
    (run.folder / DONE).touch()


def main() -> None:
    arguments = parse_arguments()
    tasks = [official_task(task).name for task in arguments.tasks]
    for task in tasks:
        if TRAIN not in official_task(task).sources:
            raise UserError(f"--tasks {task}: has no training set: a model of MNLI answers it")
    if not arguments.checkpoint.is_file():
        raise UserError(f"--checkpoint {arguments.checkpoint}: no such file")
    # fairseq and hydra take paths from where they run, and so does what resumes them elsewhere.
    for option in ("glue", "checkpoint", "out"):
        setattr(arguments, option, getattr(arguments, option).absolute())
    model = list(model_overrides(arguments.checkpoint))
    start = "random_weights" if arguments.random_weights else arguments.checkpoint.parent.name
    data = {task: prepare(task, arguments) for task in tasks}
    runs = [
        Run(task, seed, arguments.out / start / task / f"seed{seed}")
        for task in tasks
        for seed in arguments.seeds
    ]

    def work(run: Run) -> None:
        if (run.folder / DONE).exists():
            print(f"{run.name}: done before", flush=True)
            return
        resumed = (run.folder / "checkpoint_last.pt").exists()
        print(f"{run.name}: {'goes on' if resumed else 'begins'}", flush=True)
        fine_tune(run, data[run.task], model, arguments)
        print(f"{run.name}: done", flush=True)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(work, runs))
    report = [sys.executable, "-m", "convbert_plugin.cli", "report", arguments.out]
    call([*report, arguments.out / "report.html"])


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
