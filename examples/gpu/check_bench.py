"""``convbert bench`` of the small model: the op, and the step beside one from transformers."""

import json
import tempfile
from pathlib import Path

from measuring import FAIL, PASS, Options, Outcome, run_stage

from convbert_plugin.cli import main

# Seconds before and after what its budget counts.
AROUND = 15


def words_for(options: Options, file: Path) -> list[str]:
    size = ["--archs", "small", "--parts", "op,step", "--dtype", "bf16"]
    size += ["--budget", str(max(1, int(options.seconds - AROUND)))]
    size += ["--cuda-graphs"] if options.device.type == "cuda" else []
    size = ["--quick", "--parts", "op"] if options.toy else size
    # What each takes at most is measured by a process each, for which there is no time.
    return ["bench", "--device", options.device.type, *size, "--no-memory", "--json", str(file)]


def speeds(figures: dict) -> str:
    """How fast this project's step is beside the one composed from transformers, in one line."""
    rows = [
        f"{comparison['title']}: {variant['name']} {variant['speedup']['median']:.2f}"
        for comparison in figures["comparisons"]
        if comparison["part"] == "step"
        for variant in comparison["variants"]
        if "here" in variant["name"] and variant["speedup"]
    ]
    return "; ".join(rows) or f"{len(figures['comparisons'])} comparisons"


def stage(options: Options) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "bench.json")
        status = main(words_for(options, file))
        figures = json.loads(file.read_text()) if file.exists() else {}
    if status or not figures:
        return Outcome(FAIL, f"ended with status {status}: the log says why", figures)
    return Outcome(PASS, speeds(figures), figures)


if __name__ == "__main__":
    run_stage(__doc__, stage)
