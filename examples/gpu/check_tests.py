"""The tests that are for a GPU, shared among processes; on a CPU, some of what they hold there."""

import os
import re
from pathlib import Path

import pytest
from forking import Emit, spread
from measuring import FAIL, PASS, SKIP, Options, Outcome, run_stage

TESTS = Path(__file__).resolve().parents[2] / "user_dir_tests"
# Those that are for a GPU, or go over devices.
FOR_DEVICES = re.compile(r"mark\.gpu\b|\bdevice[,)]")
# Of these, what a CPU shows in seconds.
ON_CPU = ("models/test_on_devices.py", "optim/test_adamw_on_devices.py")
MOST_PROCESSES = 8
# What is left to say how it went.
END_SECONDS = 3


class Share:
    """A plugin of pytest that takes every n-th test, and tells how each went."""

    def __init__(self, number: int, of: int, emit: Emit):
        self.number, self.of, self.emit = number, of, emit

    # After the tests that are not asked for are gone.
    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        # What takes a minute to compile comes last, when all else has been told.
        items.sort(key=lambda item: "compil" in item.name)
        items[:] = items[self.number :: self.of]
        self.emit({"collected": len(items)})

    def pytest_collectreport(self, report):
        if report.failed:
            self.emit({"test": report.nodeid, "outcome": "failed", "text": report.longreprtext})

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            text = report.longreprtext if report.failed else ""
            told = {"test": report.nodeid, "outcome": report.outcome, "text": text}
            self.emit({**told, "seconds": report.duration})


def chosen_tests(device: str) -> list[str]:
    """Files, and which of their tests."""
    if device == "cpu":
        return [*(str(TESTS / name) for name in ON_CPU), "-k", "cpu and not bfloat16"]
    files = [file for file in sorted(TESTS.rglob("test_*.py")) if FOR_DEVICES.search(text(file))]
    return [*map(str, files), "-m", "gpu"]


def text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def stage(options: Options) -> Outcome:
    if not TESTS.is_dir():
        return Outcome(SKIP, "there are no tests here")
    words = ["-q", "--tb=short", "-p", "no:cacheprovider", *chosen_tests(options.device.type)]
    most = 1 if options.device.type == "cpu" else min(MOST_PROCESSES, os.cpu_count() or 1)
    count = options.workers or most

    def run_share(number: int, emit: Emit) -> None:
        pytest.main(words, plugins=[Share(number, count, emit)])

    results, undone = spread(run_share, range(count), count, options.seconds - END_SECONDS)
    collected = sum(result.get("collected", 0) for result in results)
    ran = [result for result in results if "test" in result]
    by_outcome = {
        outcome: [result for result in ran if result["outcome"] == outcome]
        for outcome in ("passed", "failed", "skipped")
    }
    for result in by_outcome["failed"]:
        print(f"\nFAILED {result['test']}\n{result['text'][-3000:]}")
    counts = {outcome: len(those) for outcome, those in by_outcome.items() if those}
    left = collected - len(ran)
    line = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    line += f", {left} of {collected} not done" if left else ""
    line += f", {undone} processes were late" if undone else ""
    line += "".join(f"; {result['test'].rpartition('/')[2]}" for result in by_outcome["failed"][:8])
    is_good = counts.get("passed") and not (by_outcome["failed"] or left or undone)
    slowest = sorted(by_outcome["passed"], key=lambda result: -result["seconds"])[:10]
    figures = {
        **counts,
        "not done": left,
        "failures": [result["test"] for result in by_outcome["failed"]],
        "slowest": {result["test"]: round(result["seconds"], 2) for result in slowest},
    }
    return Outcome(PASS if is_good else FAIL, line.lstrip(", ") or "no test ran", figures)


if __name__ == "__main__":
    run_stage(__doc__, stage)
