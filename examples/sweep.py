"""Many trainings: tasks with several seeds each, from a checkpoint or from nothing.

Each run has a folder. What is done is skipped, what was cut off goes on, a folder is trained in by
one at a time, and a run that fails does not keep the others. What the scripts of the stories share:
they say what is trained on, and by which recipe.
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
from typing import Callable, NamedTuple, Optional, Sequence

from convbert_plugin.cli.quiet import quiet
from convbert_plugin.errors import UserError
from convbert_plugin.files.grids import SEED_FOLDER
from convbert_plugin.files.pretraining_records import PRETRAINING_FILE
from convbert_plugin.files.records import RECORD_FILE
from convbert_plugin.files.whole_output import whole_file

sys.path.insert(0, str(Path(__file__).resolve().parent))
import made_from
from preparing import CONVBERT, PLUGIN, call
from training_logs import last_words, signal_words

# How threads wait, unless the user has said it; it becomes the training.
WAITING = Path(__file__).with_name("waiting.sh")
HYDRA_TRAIN = (sys.executable, "-m", "fairseq_cli.hydra_train")
# Of a model's options: those that the recipe gives.
NOT_OF_THE_CHECKPOINT = (
    *("_name", "dropout", "attention_dropout"),
    *("compile", "checkpoint_activations"),
)
# Of a run: its settings, what fairseq prints, and, when it has ended well, a mark.
SETTINGS, LOG, DONE = "settings.txt", "train.log", "done"
LAST_CHECKPOINT = "checkpoint_last.pt"
RANDOM_WEIGHTS = "random_weights"


class Run(NamedTuple):
    """One task with one seed."""

    task: str
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.task}, seed {self.seed}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what every sweep over seeds takes."""
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--random-weights", action="store_true", help="start from nothing")
    add_arguments_of_runs(parser)
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE")


def add_arguments_of_runs(parser: argparse.ArgumentParser) -> None:
    """Declare what says which runs there are, where, and how many at once."""
    parser.add_argument("--seeds", type=listed(int), required=True, metavar="1,2,...")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=1, help="runs at once (default: %(default)s)")


def listed(kind):
    """An argparse type: values of a kind with commas between them."""

    def parse(text: str) -> list:
        return list(dict.fromkeys(kind(word) for word in text.split(",")))

    parse.__name__ = f"list of {kind.__name__}"
    return parse


def settle(arguments: argparse.Namespace) -> None:
    """Make the paths absolute, and say what all programs that are started here inherit.

    fairseq and hydra take paths from where they run, and so does what resumes them elsewhere.
    Errors: no such checkpoint.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    checkpoint = getattr(arguments, "checkpoint", None)
    if checkpoint is not None and not checkpoint.is_file():
        raise UserError(f"--checkpoint {checkpoint}: no such file")
    for name, value in vars(arguments).items():
        if isinstance(value, Path):
            setattr(arguments, name, value.absolute())
        elif isinstance(value, list) and all(isinstance(one, Path) for one in value):
            setattr(arguments, name, [path.absolute() for path in value])


def start_folder(arguments: argparse.Namespace) -> Path:
    """Where the runs from one start lie."""
    source = arguments.checkpoint.parent.name
    return arguments.out / (RANDOM_WEIGHTS if arguments.random_weights else source)


def runs_of(tasks: Sequence[str], arguments: argparse.Namespace) -> list[Run]:
    """A run for each task and seed, its folder named after the start, the task and the seed."""
    start = start_folder(arguments)
    return [
        Run(task, seed, start / task / SEED_FOLDER.format(seed=seed))
        for task in tasks
        for seed in arguments.seeds
    ]


def model_options(checkpoint: Path) -> tuple[str, list[str]]:
    """The size of a checkpoint's model, and what makes fairseq build it."""
    with quiet():
        from convbert_plugin.conversion.fairseq_folder import nearest_architecture
        from convbert_plugin.formats.fairseq_checkpoint import read_checkpoint
        from convbert_plugin.models.loading import config_of

    stored = read_checkpoint(checkpoint)
    config = config_of(stored.model, stored.tensors, checkpoint)
    name = nearest_architecture(config)
    # Two plus signs: an option that the recipe does not name is added.
    options = [
        f"++model.{option}={value}"
        for option, value in asdict(config).items()
        if option not in NOT_OF_THE_CHECKPOINT
    ]
    return name.split("_")[1], [f"model={name}", *options]


def train_command(
    recipe: str,
    options: Sequence[str],
    run: Run,
    data: Path,
    start: Optional[Path],
    overrides: Sequence[str],
) -> list[str]:
    """Train one run by a recipe of the plugin and further options; the user's come last.

    ``start``: the checkpoint that it begins from, None for random weights.
    """
    words = [
        *HYDRA_TRAIN,
        *("--config-dir", str(PLUGIN / "config"), "--config-name", recipe),
        *options,
        f"common.user_dir={PLUGIN}",
        f"common.seed={run.seed}",
        f"task.data={data}",
        f"checkpoint.save_dir={run.folder}",
    ]
    if start is not None:
        words.append(f"checkpoint.finetune_from_model={start}")
    return [*words, *overrides]


def start_of(arguments: argparse.Namespace) -> Optional[Path]:
    """The checkpoint that all runs begin from."""
    return None if arguments.random_weights else arguments.checkpoint


def train_all(
    runs: Sequence[Run], command: Callable[[Run], list[str]], arguments: argparse.Namespace
) -> None:
    """Do the runs by their commands, some at once, and write OUT/report.html of all runs in OUT.

    Ends the program with status 1 where one has failed, or after a signal that ended them all.
    """
    if not arguments.random_weights:
        made_from.check(start_folder(arguments), {"--checkpoint": arguments.checkpoint})
    do_and_report([[run] for run in runs], command, arguments)


def do_and_report(
    chains: Sequence[Sequence[Run]],
    command: Callable[[Run], list[str]],
    arguments: argparse.Namespace,
) -> None:
    """As ``train_all``, where the later runs of each chain begin from what its first has left."""
    sweeping = Sweep(command)
    sweeping.do(chains, arguments.jobs)
    for reason in sweeping.failures:
        print(reason, file=sys.stderr, flush=True)
    if any(any(arguments.out.rglob(name)) for name in (RECORD_FILE, PRETRAINING_FILE)):
        call([*CONVBERT, "report", arguments.out, arguments.out / "report.html"])
    if sweeping.failures:
        sys.exit(1)


class Sweep:
    """The runs of one call: what is running, and what has failed."""

    def __init__(self, command: Callable[[Run], list[str]]):
        self.command = command
        self.running: set[subprocess.Popen] = set()
        self.failures: list[str] = []
        self.is_stopped = threading.Event()
        self.signal = 0

    def do(self, chains: Sequence[Sequence[Run]], jobs: int) -> None:
        """Do the chains, some at once; a signal ends them all and this program."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # Under nohup a hang-up is to be ignored.
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self.stop)
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(self.work_through, chains))
        if self.is_stopped.is_set():
            print("stopped: run the same command again, and it goes on", file=sys.stderr)
            sys.exit(128 + self.signal)

    def stop(self, number: int, frame) -> None:
        """End what is running; it goes on from its last checkpoint another time."""
        self.signal = number
        self.is_stopped.set()
        for process in list(self.running):
            process.terminate()

    def work_through(self, chain: Sequence[Run]) -> None:
        """Do the first run, and where it is done those that begin from it."""
        first, *later = chain
        if self.work(first):
            for run in later:
                self.work(run)

    def work(self, run: Run) -> bool:
        """Bring one run to its end, unless it is there already; whether it is done."""
        if self.is_stopped.is_set():
            return False
        run.folder.mkdir(parents=True, exist_ok=True)
        # Held as long as this process trains there, also if it is killed.
        with open(run.folder / LOG, "a") as log:
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._check_settings(run)
                self._train(run, log)
                return (run.folder / DONE).exists()
            except BlockingIOError:
                self._fail(run, f"{run.folder}: another training is running there")
            except UserError as error:
                self._fail(run, str(error))
        return False

    def _check_settings(self, run: Run) -> None:
        is_begun = any((run.folder / name).exists() for name in (LAST_CHECKPOINT, DONE))
        keep_settings(run.folder, "a run", self.command(run)[len(HYDRA_TRAIN) :], is_begun)

    def _train(self, run: Run, log) -> None:
        if (run.folder / DONE).exists():
            print(f"{run.name}: done before", flush=True)
            return
        resumed = (run.folder / LAST_CHECKPOINT).exists()
        print(f"{run.name}: {'goes on' if resumed else 'begins'}", flush=True)
        command = ["bash", str(WAITING), *self.command(run)]
        begin = log.seek(0, os.SEEK_END)
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self.running.add(process)
        if self.is_stopped.is_set():
            process.terminate()
        status = process.wait()
        self.running.discard(process)
        if self.is_stopped.is_set():
            return
        if status < 0:
            raise UserError(f"{run.folder / LOG}: ended by {signal_words(-status)}")
        if status:
            raise UserError(f"{run.folder / LOG}: {last_words(run.folder / LOG, begin)}")
        (run.folder / DONE).touch()
        print(f"{run.name}: done", flush=True)

    def _fail(self, run: Run, reason: str) -> None:
        print(f"{run.name}: failed", flush=True)
        self.failures.append(reason)


def keep_settings(folder: Path, what: str, words: Sequence[str], is_begun: bool) -> None:
    """Write down by what settings is worked in a folder, or see that they are still the same.

    Raises:
        UserError: other ones, where something has begun by those before.
    """
    path = folder / SETTINGS
    if not (is_begun and path.exists()):
        # What failed before it was trained may be put right.
        with whole_file(path) as file:
            file.write("".join(f"{word}\n" for word in words).encode())
        return
    before = path.read_text().splitlines()
    gone = [word for word in before if word not in words]
    new = [word for word in words if word not in before]
    if gone or new:
        raise UserError(
            f"{folder}: {what} with other settings (see {SETTINGS} there; before: "
            f"{' '.join(gone) or '-'}; now: {' '.join(new) or '-'}): choose another --out, or "
            "remove it"
        )
