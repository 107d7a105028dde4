"""Runs the stages of check.sh, each within its time, and says how each ended.

A stage ends as its status and its last line say, or the JSON that it wrote; the next one runs
whatever became of it.
"""

import argparse
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, NamedTuple

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
TESTS = CHECKOUT / "user_dir_tests"
LIMIT = 480
# Seconds of a bench before and after what its budget counts.
BENCH_START = 25
# The tests that a GPU adds something to: those that are for one, or go over devices.
FOR_DEVICES = re.compile(r"mark\.gpu\b|\bdevice[,)]")
# Of these, what a CPU shows in seconds.
TOY_TESTS = ("models/test_on_devices.py", "optim/test_adamw_on_devices.py")
MARKS = {"pass": "ok", "fail": "FAILED", "skip": "skipped"}


def script(name: str) -> Callable[[argparse.Namespace, Path, float], list[str]]:
    """A stage that is a script beside this one."""

    def command(options: argparse.Namespace, outcome: Path, seconds: float) -> list[str]:
        words = [sys.executable, str(HERE / f"{name}.py"), "--device", options.device]
        words += ["--outcome", str(outcome), "--out", str(options.out), "--seconds", str(seconds)]
        words += ["--toy"] if options.toy else []
        return words + (["--data", str(options.data)] if options.data else [])

    return command


def tests(options: argparse.Namespace, outcome: Path, seconds: float) -> list[str]:
    if options.device == "cpu":
        chosen = ["-k", "cpu and not bfloat16", *(str(TESTS / name) for name in TOY_TESTS)]
    else:
        files = (file for file in sorted(TESTS.rglob("test_*.py")))
        chosen = ["-m", "gpu", *(str(f) for f in files if FOR_DEVICES.search(f.read_text()))]
    workers = ["-n", str(options.workers)] if options.workers else ["-p", "no:xdist"]
    words = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"]
    return [*words, *workers, *chosen]


def bench(options: argparse.Namespace, outcome: Path, seconds: float) -> list[str]:
    words = [sys.executable, "-m", "convbert_plugin.cli", "bench", "--device", options.device]
    size = ["--archs", "small", "--parts", "op,encoder,step", "--dtype", "bf16", "--compile"]
    size += ["--budget", str(max(1, int(seconds - BENCH_START)))]
    size = ["--quick", "--parts", "op"] if options.toy else size
    # What each takes at most is measured by a process each, for which there is no time.
    return [*words, *size, "--no-memory", "--json", str(outcome)]


def of_bench(figures: dict) -> str:
    """How fast this project's step is beside the one composed from transformers, in one line."""
    rows = [
        f"{comparison['title']}: {variant['name']} {variant['speedup']['median']:.2f}"
        for comparison in figures["comparisons"]
        if comparison["part"] == "step"
        for variant in comparison["variants"]
        if "here" in variant["name"] and variant["speedup"]
    ]
    return "; ".join(rows) or f"{len(figures['comparisons'])} comparisons"


def lacks_tests() -> str:
    return "" if TESTS.is_dir() and has("pytest") else "there are no tests here, or no pytest"


def lacks_bench() -> str:
    return "" if has("convbert_plugin.cli.bench") else "there is no convbert bench"


def lacks_nothing() -> str:
    return ""


class Stage(NamedTuple):
    """Its name, its share of the seconds, its command, and what is lacking to run it."""

    name: str
    seconds: int
    command: Callable[[argparse.Namespace, Path, float], list[str]]
    lacks: Callable[[], str] = lacks_nothing


STAGES = (
    Stage("kernels", 60, script("check_kernels")),
    Stage("tests", 100, tests, lacks_tests),
    Stage("training", 80, script("check_training")),
    Stage("step", 60, script("check_step")),
    Stage("bench", 80, bench, lacks_bench),
    Stage("pretraining", 100, script("check_pretraining")),
)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="check.sh", description=__doc__)
    names = [stage.name for stage in STAGES]
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument(
        "--toy", action="store_true", help="the smallest sizes, to see that it runs"
    )
    parser.add_argument("--data", type=Path, help="prepared data, as prepare.sh leaves them")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-check"), help="logs and figures")
    parser.add_argument("--stages", default=",".join(names), help="which, separated by commas")
    parser.add_argument("--seconds", type=float, default=LIMIT, help="for all stages together")
    parser.add_argument("--workers", type=int, default=0, help="processes that share the tests")
    options = parser.parse_args()
    unknown = sorted(set(options.stages.split(",")) - set(names))
    if unknown:
        parser.error(f"--stages {','.join(unknown)}: choose from {','.join(names)}")
    if options.device == "cuda" and not has_gpu():
        parser.error("there is no GPU here: give --device cpu, and --toy")
    return options


def has_gpu() -> bool:
    # No sooner, and not where nobody asks: it takes seconds.
    import torch

    return torch.cuda.is_available()


def run(stage: Stage, options: argparse.Namespace, seconds: float) -> dict:
    """How the stage ended, in how many seconds."""
    log, outcome = (options.out / f"{stage.name}.{kind}" for kind in ("log", "json"))
    if seconds < 1:
        return {"status": "skip", "line": "no time is left", "seconds": 0.0}
    if lacking := stage.lacks():
        return {"status": "skip", "line": lacking, "seconds": 0.0}
    outcome.unlink(missing_ok=True)
    begin = time.monotonic()
    with log.open("w") as file:
        # A group of its own, so that what it started ends with it.
        process = subprocess.Popen(
            stage.command(options, outcome, seconds),
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end_group(process)
    ended = {"seconds": round(time.monotonic() - begin, 1)}
    written = json.loads(outcome.read_text()) if outcome.exists() else {}
    outcome.unlink(missing_ok=True)
    if "status" in written:
        return ended | written
    line = of_bench(written) if written and not status else last_line(log)
    if status is None:
        line = f"not done within {seconds:.0f} s: see {log}"
    return ended | {"status": "pass" if status == 0 else "fail", "line": line, "figures": written}


def end_group(process: subprocess.Popen) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip("= ")[:300] if lines else "it said nothing"


def main() -> int:
    options = parse_arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    options.out, begin = options.out.resolve(), time.monotonic()
    options.data = options.data.resolve() if options.data else None
    results = {}
    stages = [stage for stage in STAGES if stage.name in options.stages.split(",")]
    for number, stage in enumerate(stages):
        left = options.seconds - (time.monotonic() - begin)
        # What the stages before it did not take is shared by all that are left.
        share = stage.seconds / sum(later.seconds for later in stages[number:])
        results[stage.name] = ended = run(stage, options, left * share)
        print(f"{stage.name}: {MARKS[ended['status']]}: {ended['line']}", flush=True)
    figures = {"device": options.device, "toy": options.toy, "stages": results}
    (options.out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(f"\n{'stage':<12} {'':<8} seconds")
    for name, ended in results.items():
        print(f"{name:<12} {MARKS[ended['status']]:<8} {ended['seconds']:7.1f}")
    print(f"\nfigures: {options.out / 'figures.json'}; logs beside it")
    return int(any(ended["status"] == "fail" for ended in results.values()))


if __name__ == "__main__":
    sys.exit(main())
