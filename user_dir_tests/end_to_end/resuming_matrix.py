"""Trainings of every kind, cut off twice and gone on with, against the uninterrupted ones.

    python -m user_dir_tests.end_to_end.resuming_matrix [--few] [--part N OF]

A cell is a training by one value of each axis below; in the whole matrix each two values of two
axes meet in one. With --few, some values of each axis stand in one, as in the suite. It is run to
its end, and again from a checkpoint in the middle of an epoch: killed behind the end of that, it
goes on from there with another number of loaders. All that it leaves has to be equal to the bit:
weights, averages, the state of the schedule and of the meters, the numbers of each update, scores
of validation, the record. fairseq's other options are tried one by one. Prints tables, and leaves
with 1 where something differs.
"""

import argparse
import itertools
import json
import math
import os
import random
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import NamedTuple

import torch

from user_dir_tests.end_to_end.toy_trainings import (
    TASKS,
    USUAL,
    parse_once,
    toy_data,
    train_in_a_fork,
)

UPDATES, INTERVAL = 13, 4
SAVING = ("--max-update", str(UPDATES), "--save-interval-updates", str(INTERVAL))
HISTORY, RECORDS = "optimizer_history", ("scores.json", "pretraining.json")
WARMUP = ("--warmup-updates", "4")
TOTAL = (*WARMUP, "--total-num-update", str(UPDATES))
# Options by axis and value; of a task, the name of its data before them.
AXES = {
    "task": TASKS,
    "loaders": {count: ("--num-workers", count) for count in ("0", "1", "2")},
    "batches an update": {count: ("--update-freq", count) for count in ("1", "2")},
    "precision": {
        "fp32": (),
        "bf16": ("--autocast-dtype", "bfloat16"),
    },
    "dropout": {rate: ("--dropout", rate, "--attention-dropout", rate) for rate in ("0", "0.1")},
    "layers": {"kept": (), "recomputed": ("--checkpoint-activations",)},
    "optimizer": {
        "convbert_adamw": ("--optimizer", "convbert_adamw", "--layer-lr-decay", "0.8"),
        "corrected": ("--optimizer", "convbert_adamw", "--bias-correction"),
        "adam": ("--optimizer", "adam"),
    },
    "schedule": {
        "convbert_linear": TOTAL,
        "polynomial_decay": TOTAL,
        "inverse_sqrt": WARMUP,
        "cosine": (*WARMUP, "--lr-period-updates", "6"),
        "fixed": (*WARMUP, "--force-anneal", "2", "--lr-shrink", "0.5"),
        "reduce_lr_on_plateau": ("--lr-shrink", "0.5", "--lr-threshold", "10"),
        "tri_stage": ("--warmup-steps", "3", "--hold-steps", "3", "--decay-steps", "9"),
        "triangular": ("--max-lr", "4e-3", "--lr-period-updates", "6"),
        "step": (*WARMUP, "--lr-deacy-period", "3"),
        "manual": ("--epoch2lr", "{'1': 2e-3}", "--update2lr", "{'1': 1e-3, '6': 5e-4}"),
    },
    "log every": {interval: ("--log-interval", interval) for interval in ("1", "4")},
}
# Of fairseq's other options each by itself, on replaced tokens with what is first on each axis.
OTHERS = {
    "compile": ("--compile", "--dropout", "0.1"),
    "compile, recomputed": ("--compile", "--checkpoint-activations", "--dropout", "0.1"),
    "max-tokens": ("--max-tokens", "400"),
    "update-freq by epochs": ("--update-freq", "2,1,3"),
    "patience": ("--patience", "2", "--lr", "0.03"),
    "curriculum": ("--curriculum", "1", "--update-ordered-indices-seed"),
    "skip-remainder-batch": ("--skip-remainder-batch", "--update-freq", "3"),
    "validate-interval": ("--validate-interval", "2"),
    "no buffer": ("--data-buffer-size", "0", "--num-workers", "2"),
    "pads-visible": ("--pads-visible",),
    "EMA": ("--store-ema", "--ema-decay", "0.9"),
    "EMA every third": ("--store-ema", "--ema-decay", "0.9", "--ema-update-freq", "3"),
    "EMA in fp32": ("--store-ema", "--ema-decay", "0.9", "--ema-fp32"),
    "rates by epochs": ("--lr-scheduler", "fixed", "--lr", "2e-3,1e-3"),
    "plateau after a warm-up": (
        *("--lr-scheduler", "reduce_lr_on_plateau", "--warmup-updates", "3", "--lr-patience", "1"),
        *("--lr-threshold", "10", "--lr-shrink", "0.3", "--layer-lr-decay", "0.7"),
    ),
    "sgd, GLUE": ("--optimizer", "sgd", "--momentum", "0.9"),
    "sgd": ("--optimizer", "sgd", "--momentum", "0.9"),
    "nag": ("--optimizer", "nag", "--momentum", "0.9"),
    "adafactor": ("--optimizer", "adafactor"),
    "adamax": ("--optimizer", "adamax"),
    "adagrad": ("--optimizer", "adagrad"),
}


# Of the axes with many values, those that the suite has time for.
FEW = {
    "task": ("masked LM, full blocks", "replaced tokens", "GLUE, scores", "SQuAD 2.0"),
    "schedule": ("convbert_linear", "reduce_lr_on_plateau", "fixed", "cosine"),
}


class Cell(NamedTuple):
    """A training: what it is called in a table, its data, its loaders, words for fairseq-train."""

    name: str
    data: str
    loaders: str
    words: tuple


def cell_of(values):
    """The cell of values by axis."""
    options = {axis: AXES[axis][value] for axis, value in values.items()}
    data, *of_task = options.pop("task")
    words = (*of_task, *itertools.chain.from_iterable(options.values()))
    rate = "2e-4" if values["schedule"] == "triangular" else "2e-3"
    words += ("--lr-scheduler", values["schedule"], "--lr", rate)
    return Cell(" | ".join(values.values()), data, values["loaders"], words)


def covering(strength, axes, seed=0):
    """Cells in which all values of any ``strength`` axes meet: of random ones the most telling."""
    rng = random.Random(seed)

    def meetings(values):
        return set(itertools.combinations(values.items(), strength))

    left = {
        meeting
        for names in itertools.combinations(axes, strength)
        for meeting in itertools.product(*[[(axis, v) for v in axes[axis]] for axis in names])
    }
    while left:
        wanted = dict(min(left))
        drawn = [
            {axis: wanted.get(axis) or rng.choice([*values]) for axis, values in axes.items()}
            for _ in range(100)
        ]
        best = max(drawn, key=lambda values: len(meetings(values) & left))
        left -= meetings(best)
        yield cell_of(best)


def others():
    """The cells of single options."""
    first = {axis: next(iter(values)) for axis, values in AXES.items()}
    for name, options in OTHERS.items():
        values = dict(first)
        if "--optimizer" in options:
            values["optimizer"] = "adam"
        if name.endswith("GLUE"):
            values["task"] = "GLUE, classes"
        if "--lr-scheduler" in options:
            values["schedule"] = options[options.index("--lr-scheduler") + 1]
        plain = cell_of(values)
        yield plain._replace(name=name, words=(*plain.words, *options))


class Updates:
    """Writes the numbers of each update down; after so many updates it is killed."""

    def __init__(self, path, last):
        self.file, self.last, self.count = path.open("a"), last, 0

    def append(self, numbers):
        self.file.write(f"{json.dumps(numbers)}\n")
        self.file.flush()
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


class Run(NamedTuple):
    """What trainings in a folder have left."""

    folder: Path

    def train(self, data, words, last=None):
        """In a fork; ``last``: after so many updates it is killed."""
        log = self.folder.with_suffix(f".{len(self.logs())}.log")
        words = (data, *USUAL, *SAVING, *words, "--save-dir", self.folder)
        status = train_in_a_fork(words, log, Updates(self.numbers, last))
        expected = 0 if last is None else -signal.SIGKILL
        assert status == expected, f"left with {status}: {log.read_text()[-3000:]}"

    def logs(self):
        """Of the trainings so far, in their order."""
        return sorted(self.folder.parent.glob(f"{self.folder.name}.*.log"))

    @property
    def numbers(self):
        return self.folder.with_suffix(".updates")

    def updates(self):
        """The numbers of each update, the last ones of those that were done again."""
        rows = map(json.loads, self.numbers.read_text().splitlines())
        return {int(row["num_updates"]): without_times(row) for row in rows}

    def lines(self):
        """What is logged, by its kind and update."""
        found = {}
        for tag, text in LOGGED.findall("".join(log.read_text() for log in self.logs())):
            row = json.loads(text)
            number = next(row[name] for name in row if name.endswith("num_updates"))
            found[tag, number] = without_times(row)
        return found

    def checkpoints(self, pattern):
        """How many updates went into checkpoints of such names, with their paths."""
        paths = self.folder.glob(pattern)
        return [(torch.load(p, weights_only=True)[HISTORY][-1]["num_updates"], p) for p in paths]

    def states(self):
        """All checkpoints by name, as flat tables."""
        return {path.name: state_of(path) for path in self.folder.glob("checkpoint*.pt")}


# As this process and a command write lines of a log.
LOGGED = re.compile(r"INFO[: |]+(train\w*|valid\w*)[: |]+(\{.*\})")
# No others are logged.
METERS = ("train", "train_inner")
TIMES = re.compile(r"(train_|valid_)?(wall|train_wall|wps|ups|seconds)")
# Where the runs stand, how they are loaded, and how long they took.
APART = re.compile(
    r"/cfg/.*(save_dir|num_workers|restore_file|no_progress_bar)|/extra_state/previous_training_time"
)


def without_times(numbers):
    return {name: value for name, value in numbers.items() if not TIMES.fullmatch(name)}


def state_of(path):
    state = torch.load(path, weights_only=True)
    # One that was resumed keeps what it was resumed from.
    state[HISTORY] = state[HISTORY][-1:]
    meters = state["extra_state"]["metrics"]
    state["extra_state"]["metrics"] = {
        name: {row[1]: row for row in meters[name] if not TIMES.fullmatch(row[1])}
        for name in METERS
    }
    return {name: value for name, value in flat(state) if not APART.fullmatch(name)}


def flat(value, name=""):
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, (list, tuple)):
        parts = enumerate(value)
    else:
        yield name, value
        return
    for part, held in parts:
        yield from flat(held, f"{name}/{part}")


def is_equal(one, other):
    if torch.is_tensor(one) and torch.is_tensor(other):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return type(one) is type(other) and one == other


def differences(ours, theirs, what):
    """Where two tables, which hold tables, differ, of the entries that ours has."""
    for key, table in ours.items():
        expected = theirs.get(key)
        if expected is None:
            yield f"{what} {key}: not there without the interruption"
            continue
        for name in sorted(table.keys() | expected.keys(), key=str):
            one, other = table.get(name), expected.get(name)
            if not is_equal(one, other):
                yield f"{what} {key}: {name}: {shown(one)} for {shown(other)}"


def shown(value):
    if torch.is_tensor(value) and value.numel() > 1:
        return f"a tensor of mean {value.double().mean():.9g}"
    return value


def compare(ours, theirs, begin):
    """All in which a resumed run differs from the whole one, after update ``begin``."""
    found = []
    for what in ("updates", "lines", "states"):
        one, other = getattr(ours, what)(), getattr(theirs, what)()
        found += differences(one, other, what)
        if what != "states":
            after = {key for key in other if update_of(key) > begin}
            found += [f"{what}: {key} is missing" for key in after - one.keys()]
    for name in RECORDS:
        if (theirs.folder / name).exists():
            found += differences(record_of(ours, name), record_of(theirs, name), name)
    return found


def record_of(run, name):
    record = json.loads((run.folder / name).read_text())
    rows = {part: [*map(without_times, record.get(part, ()))] for part in ("points", "validations")}
    return {"": dict(flat({**record, **rows}))}


def update_of(key):
    """Of a number, or a kind and a number."""
    return int(key[-1] if isinstance(key, tuple) else key)


def check(cell, data, folder):
    """All in which a training of the cell that is cut off twice differs from the whole one."""
    whole, run = Run(folder / "whole"), Run(folder / "cut_off")
    parse_once((data[cell.data], *USUAL, *SAVING, *cell.words))
    whole.train(data[cell.data], cell.words)
    begin, middle = min(whole.checkpoints("checkpoint_[0-9]*_[0-9]*.pt"))
    end, _ = min(one for one in whole.checkpoints("checkpoint[0-9]*.pt") if one[0] > begin)
    # All but the later checkpoints stands there as it was.
    shutil.copytree(whole.folder, run.folder, ignore=shutil.ignore_patterns("*.pt"))
    shutil.copy(middle, run.folder / "checkpoint_last.pt")
    run.train(data[cell.data], cell.words, last=end + 1 - begin)
    other = ("--num-workers", str((int(cell.loaders) + 1) % 3))
    run.train(data[cell.data], (*cell.words, *other))
    return compare(run, whole, begin)


def print_table(columns, cells, data, folder):
    """Check cells; in how many something differs."""
    print("| " + " | ".join((*columns, "differs in")) + " |")
    print("|---" * (len(columns) + 1) + "|")
    failed = 0
    for number, cell in enumerate(cells):
        place = folder / str(number)
        place.mkdir(parents=True)
        try:
            found = check(cell, data, place)
        except (AssertionError, SystemExit) as error:
            found = [str(error)]
        failed += bool(found)
        told = "; ".join(found[:3]) + f" ({len(found)} in all)" if found else "nothing"
        print(f"| {cell.name} | {told} |", flush=True)
        shutil.rmtree(place)
    return failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--few", action="store_true", help="what the suite has time for")
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("N", "OF"))
    given = parser.parse_args()
    part = slice(given.part[0], None, given.part[1])
    cells = covering(1, {**AXES, **FEW}) if given.few else covering(2, AXES)
    tables = [([*AXES], [*cells][part])]
    if not given.few:
        tables.append((["option"], [*others()][part]))
    with toy_data() as (place, data):
        failed = sum(
            print_table(columns, cells, data, place / f"table{number}")
            for number, (columns, cells) in enumerate(tables)
        )
    count = sum(len(cells) for _, cells in tables)
    print(f"\n{count} trainings, of which {failed} did not go on as they would have")
    return failed


if __name__ == "__main__":
    sys.exit(bool(main()))
