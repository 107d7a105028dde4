"""Runs the stages of check.sh, each within its time, and says how each ended.

A stage ends as its status and its last line say, or the JSON that it wrote; the next one runs
whatever became of it.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import runpy
import sys
import time
import warnings
from pathlib import Path
from typing import Iterator, NamedTuple

from forking import start, wait_for

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
LIMIT = 480
MARKS = {"pass": "ok", "fail": "FAILED", "skip": "skipped"}
# What the stages have in common, and takes seconds to import: none of it touches a GPU.
IMPORTED = ("torch", "fairseq_cli.train", "convbert_plugin.tasks", "matplotlib.figure", "pytest")


# What a stage needs beside these.
NEEDS = {"tests": "pytest"}


class Stage(NamedTuple):
    """Its name, its share of the seconds, and its script."""

    name: str
    seconds: int
    script: Path


STAGES = tuple(
    Stage(name, seconds, HERE / f"check_{name}.py")
    for name, seconds in {
        "kernels": 60,
        "tests": 100,
        "training": 80,
        "step": 60,
        "bench": 80,
        "pretraining": 100,
    }.items()
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
    # In a process of its own: to look for one may touch it.
    def look() -> int:
        import torch

        return int(not torch.cuda.is_available())

    return os.waitpid(start(look), 0)[1] == 0


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Whatever is printed meanwhile, by whatever code."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    kept, nothing = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    try:
        for target in (1, 2):
            os.dup2(nothing, target)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for source, target in zip(kept, (1, 2), strict=True):
            os.dup2(source, target)


def import_once() -> None:
    warnings.filterwarnings("ignore", category=SyntaxWarning)
    for name in IMPORTED:
        # What is missing, the stages that need it say.
        with unheard(), contextlib.suppress(ImportError):
            importlib.import_module(name)


def has_touched_gpu() -> bool:
    """Whether an import has, so that nothing may go on there after a fork."""
    return "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized()


def words_of(stage: Stage, options: argparse.Namespace, outcome: Path, seconds: float) -> list[str]:
    words = [str(stage.script), "--device", options.device, "--outcome", str(outcome)]
    words += ["--out", str(options.out), "--seconds", str(seconds)]
    words += ["--workers", str(options.workers)] + (["--toy"] if options.toy else [])
    return words + (["--data", str(options.data)] if options.data else [])


def run(stage: Stage, options: argparse.Namespace, seconds: float) -> dict:
    """How the stage ended, in how many seconds."""
    log, outcome = (options.out / f"{stage.name}.{kind}" for kind in ("log", "json"))
    if seconds < 1:
        return {"status": "skip", "line": "no time is left", "seconds": 0.0}
    needed = NEEDS.get(stage.name)
    if needed and importlib.util.find_spec(needed) is None:
        return {"status": "skip", "line": f"there is no {needed}", "seconds": 0.0}
    outcome.unlink(missing_ok=True)
    begin = time.monotonic()

    def script() -> None:
        sys.argv = words_of(stage, options, outcome, seconds)
        if has_touched_gpu():
            os.execv(sys.executable, [sys.executable, *sys.argv])
        runpy.run_path(str(stage.script), run_name="__main__")

    status = wait_for(start(script, log), seconds)
    ended = {"seconds": round(time.monotonic() - begin, 1)}
    if outcome.exists():
        ended |= json.loads(outcome.read_text())
        outcome.unlink()
    else:
        ended |= {"status": "pass" if status == 0 else "fail", "line": last_line(log)}
    if status is None:
        ended |= {"status": "fail", "line": f"not done within {seconds:.0f} s; {ended['line']}"}
    return ended


def last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip("= ")[:300] if lines else "it said nothing"


def main() -> int:
    options = parse_arguments()
    begin = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    options.out = options.out.resolve()
    options.data = options.data.resolve() if options.data else None
    os.chdir(CHECKOUT)
    results = {}
    import_once()
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
