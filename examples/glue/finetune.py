"""Fine-tune a checkpoint on tasks of GLUE, with several seeds each, and report on all of it.

    python examples/glue/finetune.py --glue GLUE --checkpoint runs/small/checkpoint_last.pt \
        --tasks cola,mrpc,rte --seeds 1,2,3 --out runs/glue [OVERRIDE ...]

GLUE holds the official folders (CoLA, MRPC, ...). The released recipe of the size next to the
checkpoint's is taken; overrides are those of fairseq-hydra-train and win over it, as
optimization.max_update=300 does. What is done is skipped, and what was cut off goes on: run the
same command again. With --random-weights the same model starts from nothing, beside the other runs.
"""

import argparse
import fcntl
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Iterator, NamedTuple

from convbert_plugin.cli.quiet import quiet
from convbert_plugin.data.glue.glue_tasks import TRAIN, official_task
from convbert_plugin.errors import UserError

PLUGIN = Path(__file__).resolve().parents[2] / "convbert_plugin"
# Of a run: its settings, what fairseq prints, and, when it has ended well, a mark.
SETTINGS, LOG, DONE = "settings.txt", "train.log", "done"
# What hydra says last, whatever went wrong.
HYDRAS_LAST_LINE = "Set the environment variable HYDRA_FULL_ERROR"


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
        return list(dict.fromkeys(kind(word) for word in text.split(",")))

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
    with quiet():
        from convbert_plugin.conversion.fairseq_folder import nearest_architecture
        from convbert_plugin.formats.fairseq_checkpoint import read_checkpoint
        from convbert_plugin.models.loading import config_of

    stored = read_checkpoint(checkpoint)
    config = config_of(stored.model, stored.tensors, checkpoint)
    name = nearest_architecture(config)
    yield f"finetune_convbert_{name.split('_')[1]}"
    yield f"model={name}"
    for option, value in asdict(config).items():
        if option not in ("_name", "dropout", "attention_dropout"):
            # Two plus signs: an option that the recipe does not name is added.
            yield f"++model.{option}={value}"


class Training:
    """The runs of one call: what is running, and what has failed."""

    def __init__(self, model: list[str], data: dict[str, Path], arguments: argparse.Namespace):
        self.model = model
        self.data = data
        self.arguments = arguments
        self.running: set[subprocess.Popen] = set()
        self.failures: list[str] = []
        self.is_stopped = threading.Event()

    def work(self, run: Run) -> None:
        """Bring one run to its end, unless it is there already."""
        if self.is_stopped.is_set():
            return
        run.folder.mkdir(parents=True, exist_ok=True)
        # Held as long as this process trains there, also if it is killed.
        with open(run.folder / LOG, "a") as log:
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._check_settings(run)
                self._train(run, log)
            except BlockingIOError:
                self._fail(run, f"{run.folder}: another training is running there")
            except UserError as error:
                self._fail(run, str(error))

    def stop(self) -> None:
        """End what is running; it goes on from its last checkpoint another time."""
        self.is_stopped.set()
        for process in list(self.running):
            process.terminate()

    def _command(self, run: Run) -> list[str]:
        name, *options = self.model
        options += [
            f"glue={run.task}",
            f"common.user_dir={PLUGIN}",
            f"common.seed={run.seed}",
            f"task.data={self.data[run.task]}",
            f"checkpoint.save_dir={run.folder}",
        ]
        if not self.arguments.random_weights:
            options.append(f"checkpoint.finetune_from_model={self.arguments.checkpoint}")
        module = [sys.executable, "-m", "fairseq_cli.hydra_train"]
        config = ["--config-dir", str(PLUGIN / "config"), "--config-name", name]
        return [*module, *config, *options, *self.arguments.overrides]

    def _check_settings(self, run: Run) -> None:
        path, settings = run.folder / SETTINGS, "\n".join(self._command(run)[3:]) + "\n"
        if path.exists() and path.read_text() != settings:
            raise UserError(
                f"{run.folder}: a run with other settings (see {SETTINGS} there): choose another "
                "--out, or remove it"
            )
        path.write_text(settings)

    def _train(self, run: Run, log) -> None:
        if (run.folder / DONE).exists():
            print(f"{run.name}: done before", flush=True)
            return
        resumed = (run.folder / "checkpoint_last.pt").exists()
        print(f"{run.name}: {'goes on' if resumed else 'begins'}", flush=True)
        process = subprocess.Popen(self._command(run), stdout=log, stderr=subprocess.STDOUT)
        self.running.add(process)
        if self.is_stopped.is_set():
            process.terminate()
        status = process.wait()
        self.running.discard(process)
        if self.is_stopped.is_set():
            return
        if status:
            raise UserError(f"{run.folder / LOG}: {last_words(run.folder / LOG)}")
        (run.folder / DONE).touch()
        print(f"{run.name}: done", flush=True)

    def _fail(self, run: Run, reason: str) -> None:
        print(f"{run.name}: failed", flush=True)
        self.failures.append(reason)


def last_words(log: Path) -> str:
    """The last line of a log that says something."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    said = [line for line in lines if line and not line.startswith(HYDRAS_LAST_LINE)]
    return said[-1] if said else "nothing was printed"


def train_all(training: Training, runs: list[Run], jobs: int) -> None:
    """Do the runs, some at once; a signal ends them all and this program."""

    def end(number, frame):
        training.stop()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(training.work, runs))
    if training.is_stopped.is_set():
        sys.exit("stopped: run the same command again, and it goes on")


def main() -> None:
    arguments = parse_arguments()
    tasks = list(dict.fromkeys(official_task(task).name for task in arguments.tasks))
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
    runs = [
        Run(task, seed, arguments.out / start / task / f"seed{seed}")
        for task in tasks
        for seed in arguments.seeds
    ]
    training = Training(model, {task: prepare(task, arguments) for task in tasks}, arguments)
    train_all(training, runs, arguments.jobs)
    report = [sys.executable, "-m", "convbert_plugin.cli", "report", arguments.out]
    call([*report, arguments.out / "report.html"])
    if training.failures:
        sys.exit("\n".join(training.failures))


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
