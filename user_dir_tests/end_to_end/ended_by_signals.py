"""Asks trainings to end, by each signal at each moment, and starts them again: what came of it.

    python -m user_dir_tests.end_to_end.ended_by_signals [--commands] [--begin 0] [--every 1]

Each is a process of its own, with a group of its own that gets the signal as from a terminal: a
fork of this one, or with --commands fairseq-train itself. With --save-on-signal the next start has
to lead to the run that was never asked, bit for bit: weights, optimizer, scores and what is logged.
Prints a table in Markdown; its last line are the sums, as JSON.
"""

import argparse
import collections
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import fairseq_cli.train
import torch

from user_dir_tests.end_to_end.conftest import RECIPE, TASK, TINY
from user_dir_tests.end_to_end.killing import LARGE, corpus_in, loaded, prepare, trained
from user_dir_tests.forked_commands import end_with

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
STATUS = {name: 128 + getattr(signal, name) for name in SIGNALS}
# What the log says at each moment; an epoch has 16 updates.
MOMENTS = {
    "start": "criterion: ",
    "training": '"num_updates": "5"',
    "validating": "begin validation on",
    "writing": "Saving checkpoint to",
    "epoch's end": '"num_updates": "16"',
    "last update": '"num_updates": "20"',
}
SAVING = (
    *("--max-update", "20", "--save-interval-updates", "7", "--keep-interval-updates", "2"),
    # A validation takes some time.
    *("--batch-size-valid", "2"),
)
POLL_SECONDS = 0.001
LOGGED = re.compile(r"\| INFO \| (train_inner|valid) \| (\{.*\})\s*$")
# Of what is logged, what depends on the time.
OF_TIME = {"wall", "train_wall", "wps", "ups", "wpb", "bsz"}


class Case(NamedTuple):
    signal: str
    moment: str
    workers: int
    saves: bool


class Training:
    """A training in a process and session of its own."""

    def __init__(self, words, folder: Path, name: str, as_command: bool):
        self.folder = folder / name
        self.output, self.errors = (folder / f"{name}.{end}" for end in ("out", "err"))
        words = [*map(str, words), "--save-dir", str(self.folder)]
        self.begin = time.monotonic()
        if as_command:
            command = [str(Path(sys.executable).with_name("fairseq-train")), *words]
            with self.output.open("a") as output, self.errors.open("w") as errors:
                started = subprocess.Popen(
                    command, stdout=output, stderr=errors, start_new_session=True
                )
            self.process = started.pid
        else:
            assert threading.active_count() == 1, "a fork takes no threads along"
            self.process = os.fork()
            if not self.process:
                end_with(lambda: self.train(words))
        self.status = None

    def train(self, words):
        os.setsid()
        for number, path, how in ((1, self.output, os.O_APPEND), (2, self.errors, os.O_TRUNC)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | how), number)
        for name in SIGNALS:
            usual = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
            signal.signal(getattr(signal, name), usual)
        sys.argv[1:] = words
        fairseq_cli.train.cli_main()

    def is_over(self) -> bool:
        if self.status is None:
            ended, status = os.waitpid(self.process, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if ended else None
        return self.status is not None

    def wait_for(self, text: str) -> None:
        while not self.is_over() and not (text and text in self.log()):
            time.sleep(POLL_SECONDS)

    def log(self) -> str:
        return self.output.read_text() if self.output.exists() else ""

    def logged(self) -> dict:
        """What both starts logged, by tag and update, but for what depends on the time."""
        found = {}
        for line in self.log().splitlines():
            if not (match := LOGGED.search(line)):
                continue
            tag, numbers = match[1], json.loads(match[2])
            updates = numbers.get("num_updates") or numbers.get(f"{tag}_num_updates")
            kept = {k: v for k, v in numbers.items() if k.split("_", 1)[-1] not in OF_TIME}
            found[tag, updates] = {k: v for k, v in kept.items() if k not in OF_TIME}
        return found

    def session(self) -> list[int]:
        """The processes that are left of it."""
        left = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self.process and fields[0] != "Z":
                left.append(int(stat.parent.name))
        return left


def ask(case: Case, training: Training) -> dict:
    """Send the signal at its moment; what it led to."""
    training.wait_for(MOMENTS[case.moment])
    begin = time.monotonic()
    os.killpg(training.process, getattr(signal, case.signal))
    training.wait_for("")
    seconds = time.monotonic() - begin
    lines = training.errors.read_text().splitlines() or [""]
    names = os.listdir(training.folder) if training.folder.exists() else []
    return {
        "status": training.status,
        "seconds": round(seconds, 1),
        "lines": len(lines),
        "last line": lines[-1].replace(str(training.folder), "RUN"),
        "left": len(training.session()),
        "unfinished": sum(name.endswith((".part", ".tmp")) for name in names),
        "torn": sum(not loaded(training.folder / n) for n in names if n.endswith(".pt")),
    }


def differences(ours: Training, theirs: Training) -> list[str]:
    """In what a resumed run is not the one that was never asked."""
    found = []
    mine, expected = trained(ours.folder), trained(theirs.folder)
    if mine.keys() != expected.keys() or not all(
        torch.equal(tensor, expected[name]) for name, tensor in mine.items()
    ):
        found.append("tensors")
    names = [sorted(os.listdir(run.folder)) for run in (ours, theirs)]
    if names[0] != names[1]:
        found.append("files")
    for name in ("checkpoint_last.pt", "checkpoint_best.pt"):
        states = [loaded(run.folder / name).get("extra_state", {}) for run in (ours, theirs)]
        keys = ("best", "val_loss", "train_iterator", "left_in_epoch")
        if [states[0].get(key) for key in keys] != [states[1].get(key) for key in keys]:
            found.append(f"state of {name}")
    mine, expected = ours.logged(), theirs.logged()
    if apart := [key for key in expected if mine.get(key) != expected[key]]:
        found.append(f"log of {apart[0]}")
    return found


def try_case(case: Case, words, folder: Path, whole: Training, as_command: bool) -> dict:
    name = "-".join(map(str, case)).replace(" ", "_").replace("'", "")
    words = (*words, "--num-workers", case.workers, *["--save-on-signal"] * case.saves)
    seen = ask(case, Training(words, folder, name, as_command))
    again = Training(words, folder, name, as_command)
    again.wait_for("")
    seen["resumed"] = again.status
    seen["differs in"] = ", ".join(differences(again, whole))
    return seen


def run(data: Path, folder: Path, chosen: slice, as_command: bool) -> collections.Counter:
    words = (data, *TASK, *TINY, *LARGE, *RECIPE, *SAVING)
    prepare(words)
    whole = Training(words, folder, "whole", as_command)
    whole.wait_for("")
    assert whole.status == 0, whole.errors.read_text()
    cases = list(itertools.product(SIGNALS, MOMENTS, (0, 2), (True, False)))
    sums = collections.Counter()
    columns = None
    for case in itertools.starmap(Case, cases[chosen]):
        seen = try_case(case, words, folder, whole, as_command)
        if columns is None:
            columns = [*Case._fields, *seen]
            print("|" + "|".join(columns) + "|\n" + "|---" * len(columns) + "|")
        print("|" + "|".join(map(str, (*case, *seen.values()))) + "|", flush=True)
        sums["cases"] += 1
        sums["by the signal's status"] += seen["status"] == STATUS[case.signal]
        sums["one line"] += seen["lines"] == 1
        sums["at once"] += seen["seconds"] < 5
        sums["resumed"] += seen["resumed"] == 0
        sums["equal"] += not seen["differs in"]
        for name in ("left", "unfinished", "torn"):
            sums[name] += seen[name]
        saved = re.search(r"at update (\d+), saved in", seen["last line"])
        sums["saved"] += bool(saved)
    return sums


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--commands", action="store_true")
    parser.add_argument("--begin", type=int, default=0, help="with this case")
    parser.add_argument("--every", type=int, default=1, help="one of so many cases")
    parser.add_argument("--data", type=Path)
    given = parser.parse_args()
    # One that is removed at the end of a process would be by that of a fork.
    place = Path(tempfile.mkdtemp())
    try:
        data = given.data or corpus_in(place / "corpus")
        begin = time.monotonic()
        sums = run(data, place, slice(given.begin, None, given.every), given.commands)
    finally:
        shutil.rmtree(place)
    print(json.dumps({**sums, "seconds": round(time.monotonic() - begin)}))
