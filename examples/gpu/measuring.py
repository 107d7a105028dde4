"""What the stages of check.sh share: their options, how they time, and how they end."""

import argparse
import json
import statistics
import sys
import time
import traceback
import warnings
from pathlib import Path
from types import MappingProxyType
from typing import Callable, Mapping, NamedTuple, Optional

import torch

PASS, FAIL, SKIP = "pass", "fail", "skip"


class Outcome(NamedTuple):
    """How a stage ended, in one line, and what it measured."""

    status: str
    line: str
    figures: Mapping = MappingProxyType({})


class Options(NamedTuple):
    """Where to compute, how much, on what data, for how many seconds, in how many processes."""

    device: torch.device
    toy: bool
    data: Optional[Path]
    out: Path
    seconds: float
    workers: int
    outcome: Path


def keep(options: Options, outcome: Outcome) -> None:
    """Write how a stage ended, or what it has so far, for the case that it comes to no end."""
    written = {**outcome._asdict(), "figures": dict(outcome.figures)}
    part = options.outcome.with_suffix(".part")
    part.write_text(json.dumps(written))
    part.replace(options.outcome)


def run_stage(words: str, stage: Callable[[Options], Outcome]) -> None:
    """Run a stage, say how it ended, and write that where ``--outcome`` says."""
    parser = argparse.ArgumentParser(description=words)
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--toy", action="store_true", help="the smallest sizes")
    parser.add_argument("--data", type=Path, help="prepared data, as prepare.sh leaves them")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for pictures")
    parser.add_argument("--seconds", type=float, default=60.0, help="what the stage may take")
    parser.add_argument("--workers", type=int, default=0, help="processes that share the tests")
    parser.add_argument("--outcome", type=Path, required=True, help="JSON file to write")
    given = parser.parse_args()
    # They would hide what the stage says.
    warnings.filterwarnings("ignore", category=SyntaxWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    places = (given.data, given.out, given.seconds, given.workers, given.outcome)
    options = Options(torch.device(given.device), given.toy, *places)
    try:
        outcome = stage(options)
    except Exception as error:
        traceback.print_exc()
        outcome = Outcome(FAIL, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
    keep(options, outcome)
    print(f"{outcome.status}: {outcome.line}", flush=True)
    sys.exit(outcome.status == FAIL)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds_of(run: Callable[[], object], device: torch.device, times: int = 7) -> float:
    """The median of several runs, each waited for, after two that are not counted."""
    taken = []
    for _ in range(2 + times):
        wait(device)
        begin = time.perf_counter()
        run()
        wait(device)
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken[2:])


def took_and_issued(run: Callable[[], object], device: torch.device, times: int) -> tuple:
    """Seconds a run takes in a row of several, and until the host has asked the device for it.

    Where both are the same, the device waits for the host.
    """
    for _ in range(3):
        run()
    wait(device)
    begin = time.perf_counter()
    for _ in range(times):
        run()
    issued = time.perf_counter() - begin
    wait(device)
    return (time.perf_counter() - begin) / times, issued / times
