"""Trains for long, and measures whether a training comes to hold more and more.

    python -m user_dir_tests.end_to_end.growth [--short]

One of 2,000 updates that validates and saves every 50, and one of 20 epochs on every task, with two
loaders, which validates and saves at the end of each epoch and once within. Each measures itself
every few updates: memory, open files, threads, processes, objects of Python. What the last third
holds is set against the third before it. Prints a table, and leaves with 1 where something grew, or
where a process is left when the training is over.
"""

import argparse
import ctypes
import gc
import json
import os
import re
import statistics
import sys
import time
from pathlib import Path

from user_dir_tests.end_to_end.toy_trainings import (
    TASKS,
    USUAL,
    parse_once,
    toy_data,
    train_in_a_fork,
)

# How much more of each the last third may hold: what is there or not at the time of a measurement.
ROOM = {"MB": 3.0, "objects": 300, "files": 0, "threads": 0, "processes": 0}
# Of Linux's prctl: who it is whose processes are ours when they are orphans.
PR_SET_CHILD_SUBREAPER = 36
COMMON = (
    *("--optimizer", "convbert_adamw", "--lr-scheduler", "convbert_linear", "--lr", "1e-3"),
    *("--total-num-update", "5000", "--warmup-updates", "5", "--log-interval", "5"),
    *("--keep-interval-updates", "1", "--keep-last-epochs", "1"),
)


def long_training(updates):
    saving = ("--save-interval-updates", "50", "--num-workers", "0")
    task = (*TASKS["replaced tokens"], *COMMON, *saving)
    return {f"replaced tokens, {updates:,} updates": (*task, "--max-update", updates)}


def epochs(count, tasks=TASKS):
    loaded = ("--num-workers", "2", "--save-interval-updates", "4", "--max-epoch", count)
    return {f"{name}, {count} epochs": (*TASKS[name], *COMMON, *loaded) for name in tasks}


class Measurements:
    """Of a training's own process, every so many updates."""

    def __init__(self, path, every):
        self.file, self.every, self.count = path.open("w"), every, 0

    def append(self, _):
        self.count += 1
        if self.count % self.every == 0:
            self.file.write(f"{json.dumps(measure())}\n")
            self.file.flush()


def measure():
    """What this process holds now."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    children = Path("/proc/self/task").glob("*/children")
    return {
        "MB": int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024,
        "objects": len(gc.get_objects()),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "processes": sum(len(path.read_text().split()) for path in children),
    }


def grown(rows):
    """Of each thing the level of the second third and that of the last, and whether it grew."""
    third = len(rows) // 3
    parts = rows[third : 2 * third], rows[2 * third :]
    found = {}
    for thing, room in ROOM.items():
        before, after = (statistics.median(row[thing] for row in part) for part in parts)
        # What a validation opens comes and goes: what is there without one has to stay.
        if not room:
            before, after = (min(row[thing] for row in part) for part in parts)
        found[thing] = before, after, after - before > room
    return found


def orphans():
    """How many processes outlive the training that they are of, after a moment to end in."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return 0
        time.sleep(0.05)
    return 1


def run(trainings, every):
    """Go through trainings, options by name; how many of them have grown."""
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1) == 0
    failed = 0
    print("| training | measured | " + " | ".join(ROOM) + " | left over |")
    print("|---" * (len(ROOM) + 3) + "|")
    with toy_data() as (folder, data):
        for number, (name, (of_data, *options)) in enumerate(trainings.items()):
            place = folder / f"training{number}"
            words = (data[of_data], *USUAL, *options, "--save-dir", place)
            parse_once(words)
            log, path = place.with_suffix(".log"), place.with_suffix(".measured")
            status = train_in_a_fork(words, log, Measurements(path, every))
            assert status == 0, log.read_text()[-3000:]
            rows = [*map(json.loads, path.read_text().splitlines())]
            found, left = grown(rows), orphans()
            failed += bool(left) or any(has_grown for *_, has_grown in found.values())
            cells = [
                f"{before:,.10g} → {after:,.10g}" + " GREW" * has_grown
                for before, after, has_grown in found.values()
            ]
            print(f"| {name} | {len(rows)} | {' | '.join(cells)} | {left} |", flush=True)
    return failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--only", type=re.compile, default=re.compile(""), help="of these names")
    given = parser.parse_args()
    if given.short:
        every, trainings = 2, epochs(7, ["masked LM, full blocks"])
    else:
        every, trainings = 5, long_training(2000) | epochs(20)
    return run({name: t for name, t in trainings.items() if given.only.search(name)}, every)


if __name__ == "__main__":
    sys.exit(bool(main()))
