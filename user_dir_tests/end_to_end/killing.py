"""Kills a training at random moments and starts it again, until so many kills were survived.

    python -m user_dir_tests.end_to_end.killing [--kills 100] [--seed 0] [--data DATA]
        [--processes 1] [--updates 24]

Each life is forked from this process, killed by SIGKILL at its start, while it trains, while it
writes a checkpoint or while it copies one, and followed by another, which has to go on from the
newest whole checkpoint that is in the folder. A run that reaches its end has to be, bit for bit,
the one that was never killed. Of a life of several processes one is killed, and the others have to
end in one line, once all had found each other. Prints what happened, as JSON.
"""

import argparse
import collections
import importlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

import fairseq_cli.train
import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

from convbert_plugin.errors import ANOTHER_IS_GONE
from user_dir_tests.end_to_end.conftest import (
    RECIPE,
    TASK,
    TINY,
    free_port,
    make_corpus,
    options_composed_once,
)

INTERVAL = 3
# Rows that are never looked up make a checkpoint of 15 MB.
LARGE = ("--max-positions", "60000")
SAVING = (
    *("--save-interval-updates", str(INTERVAL), "--keep-interval-updates", "2"),
    *("--log-interval", "1"),
)
MOMENTS = ("start", "training", "writing", "copying")
# Up to so many seconds after what a moment waits for.
LONGEST_DELAY = {"start": 1.0, "training": 0.3, "writing": 0.06, "copying": 0.06}
POLL_SECONDS = 0.0005
WRITTEN = re.compile(r"checkpoint_\d+_\d+\.pt")
UNFINISHED = re.compile(r".*(\.part|\.tmp)")
# What appears as it begins: a copy is made of what was written.
AWAITED = {"writing": UNFINISHED, "copying": WRITTEN}
# Until those that wait for a process which is gone have to have ended, once it was with them.
LONGEST_ALONE = 60
HAS_BEGUN = "train_inner"
LOADED = re.compile(r"Loaded checkpoint (\S+) \(epoch \d+ @ (\d+) updates\)")


class Life:
    """A training in a process of its own, or in several."""

    def __init__(self, command: tuple, folder: Path, processes: int):
        self.folder = folder
        self.logs = [folder.with_suffix(f".{rank}.log") for rank in range(processes)]
        port = free_port()
        assert threading.active_count() == 1, "a fork takes no threads along"
        self.processes = []
        for rank, log in enumerate(self.logs):
            log.unlink(missing_ok=True)
            place = place_of(rank, processes, port) if processes > 1 else ()
            self.processes.append(os.fork())
            if not self.processes[-1]:
                train(log, [*map(str, (*command, "--save-dir", folder, *place))])
        self.statuses = [None] * processes
        self.killed = None

    def is_over(self) -> bool:
        for rank, process in enumerate(self.processes):
            if self.statuses[rank] is None:
                ended, status = os.waitpid(process, os.WNOHANG)
                self.statuses[rank] = os.waitstatus_to_exitcode(status) if ended else None
        return None not in self.statuses

    def wait_for(self, comes) -> None:
        while not self.is_over() and not comes():
            time.sleep(POLL_SECONDS)

    def wait_for_name(self, pattern: re.Pattern) -> None:
        """Wait for a file of such a name that is not there."""
        known = self.names()
        self.wait_for(lambda: any(map(pattern.fullmatch, self.names() - known)))

    def kill(self, rank: int) -> None:
        """Kill one process, and wait for the others as who watches them would."""
        self.is_over()
        if self.statuses[rank] is not None:
            return
        self.killed = rank
        os.kill(self.processes[rank], signal.SIGKILL)
        end = time.monotonic() + LONGEST_ALONE
        # A process alone waits for the others to begin.
        self.wait_for(lambda: time.monotonic() > end or not self.has_begun())
        for process, status in zip(self.processes, self.statuses, strict=True):
            if status is None:
                os.kill(process, signal.SIGKILL)
        self.wait_for(lambda: False)

    @property
    def has_ended_well(self) -> bool:
        return not any(self.statuses)

    def has_begun(self) -> bool:
        return HAS_BEGUN in self.text()

    def names(self) -> set[str]:
        return set(os.listdir(self.folder)) if self.folder.exists() else set()

    def text(self, rank: int = 0) -> str:
        return self.logs[rank].read_text() if self.logs[rank].exists() else ""


def place_of(rank: int, processes: int, port: int) -> tuple:
    return (
        *("--distributed-world-size", processes, "--distributed-rank", rank),
        *("--distributed-init-method", f"tcp://localhost:{port}", "--distributed-no-spawn"),
        *("--distributed-backend", "gloo", "--ddp-backend", "legacy_ddp"),
    )


def train(log: Path, words: list[str]) -> None:
    """In the fork: never returns."""
    status = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT)
        for stream in (1, 2):
            os.dup2(output, stream)
        sys.argv[1:] = words
        fairseq_cli.train.cli_main()
        status = 0
    except SystemExit as ended:
        status = int(bool(ended.code))
        print(ended.code or "", file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def prepare(command: tuple) -> None:
    """Let all forks inherit what takes most of a short life: imports, and fairseq's 300 options."""
    importlib.import_module("torch._dynamo")
    sys.argv[1:] = [*map(str, command)]
    convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser()))


def corpus_in(folder: Path) -> Path:
    """Data for the runs, made in a fork: what makes them leaves a thread, which forks leave out."""
    process = os.fork()
    if not process:
        make_corpus(folder)
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0
    return folder / "data"


def newest_update(folder: Path) -> int:
    """The most updates in any checkpoint that torch can load, 0 without one."""
    states = map(loaded, folder.glob("checkpoint*.pt"))
    return max(
        (state["optimizer_history"][-1]["num_updates"] for state in states if state), default=0
    )


def loaded(path: Path) -> dict:
    try:
        # Of a file that is cut nothing at all can be loaded.
        return torch.load(path, weights_only=True, mmap=True)
    except Exception:
        return {}


def tensors_of(value, name="") -> dict:
    if isinstance(value, torch.Tensor):
        return {name: value}
    parts = value.items() if isinstance(value, dict) else ()
    return {key: t for part, held in parts for key, t in tensors_of(held, f"{name}/{part}").items()}


def trained(folder: Path) -> dict:
    """All that was learned by the end, and at the best score."""
    states = {name: loaded(folder / f"checkpoint_{name}.pt") for name in ("last", "best")}
    kept = ("model", "last_optimizer_state")
    return tensors_of({name: {part: s[part] for part in kept} for name, s in states.items()})


def kill_at(life: Life, moment: str, rng: random.Random) -> None:
    """Kill it there, unless it comes to its end before."""
    if moment == "training":
        life.wait_for(life.has_begun)
    elif moment in AWAITED:
        for _ in range(rng.randint(1, 2)):
            life.wait_for_name(AWAITED[moment])
    end = time.monotonic() + rng.uniform(0, LONGEST_DELAY[moment])
    life.wait_for(lambda: time.monotonic() >= end)
    life.kill(rng.randrange(len(life.processes)))


def run(command: tuple, folder: Path, kills: int, seed: int, processes: int) -> dict:
    rng = random.Random(seed)
    prepare(command)
    whole = Life(command, folder / "whole", processes)
    whole.wait_for(lambda: False)
    assert whole.has_ended_well, whole.text()[-2000:]
    expected = trained(whole.folder)
    seen = collections.Counter()
    newest = runs = most_again = 0
    while seen["kills"] < kills or newest:
        killed = folder / f"killed{runs}"
        life = Life(command, killed, processes)
        moment = MOMENTS[rng.randrange(len(MOMENTS))]
        if seen["kills"] < kills:
            kill_at(life, moment, rng)
        life.wait_for(lambda: False)
        check_start(life, newest, seen)
        if life.killed is not None:
            seen.update(["kills", f"killed at {moment}"])
            count_torn(life, seen)
            count_others(life, seen)
            newest = newest_update(killed)
            reached = map(int, re.findall(r'"num_updates": "(\d+)"', life.text()))
            most_again = max(most_again, max(reached, default=0) - newest)
            continue
        assert life.has_ended_well, [life.text(rank)[-2000:] for rank in range(processes)]
        newest, runs = 0, runs + 1
        seen["runs to their end"] += 1
        seen["unfinished files at the end"] += any(map(UNFINISHED.fullmatch, life.names()))
        ours = trained(killed)
        seen["runs equal to the bit"] += ours.keys() == expected.keys() and all(
            torch.equal(tensor, expected[name]) for name, tensor in ours.items()
        )
    size = (whole.folder / "checkpoint_last.pt").stat().st_size
    return {"bytes a checkpoint": size, "most updates done again": most_again, **seen}


def count_torn(life: Life, seen: collections.Counter) -> None:
    """See what a killed one has left."""
    seen["with an unfinished file"] += any(map(UNFINISHED.fullmatch, life.names()))
    for name in ("checkpoint_last.pt", "checkpoint_best.pt"):
        path = life.folder / name
        seen[f"{name} torn"] += path.exists() and not loaded(path)


def count_others(life: Life, seen: collections.Counter) -> None:
    """See how those ended that were not killed."""
    for rank, status in enumerate(life.statuses):
        if rank == life.killed:
            continue
        last_line = (life.text(rank).splitlines() or [""])[-1]
        is_told = last_line.startswith(ANOTHER_IS_GONE) and "Traceback" not in life.text(rank)
        if status == 1 and is_told:
            seen["others that ended in one line"] += 1
        elif status == 0:
            seen["others that had finished"] += 1
        elif status == -signal.SIGKILL and not life.has_begun():
            seen["others that were stopped before all had begun"] += 1
        else:
            seen[f"others that ended by {status}: {last_line}"] += 1


def check_start(life: Life, newest: int, seen: collections.Counter) -> None:
    """See from where a life began, if it got so far."""
    if found := LOADED.search(life.text()):
        seen["resumed"] += 1
        seen["resumed from the newest"] += int(found[2]) == newest
        seen["resumed from another than the last"] += "going on from" in life.text()
    elif "No existing checkpoint" in life.text():
        seen["begun anew"] += 1
        seen["begun anew beside a checkpoint"] += newest > 0
    elif life.killed is None and not life.has_ended_well:
        seen["failed"] += 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--updates", type=int, default=24)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, options_composed_once():
        data = given.data or corpus_in(Path(place) / "corpus")
        options_of_all = (*TASK, *TINY, *LARGE, *RECIPE, *SAVING, "--max-update", given.updates)
        begin = time.monotonic()
        summary = run(
            (data, *options_of_all), Path(place), given.kills, given.seed, given.processes
        )
    print(json.dumps({**summary, "seconds": round(time.monotonic() - begin)}))
