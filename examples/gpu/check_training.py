"""A few updates of fairseq-train in every precision: they run, learn alike, and how fast."""

import math
import time
from typing import NamedTuple

from measuring import FAIL, PASS, SKIP, Options, Outcome, keep, run_stage
from training import ELECTRA, Run, train

BF16 = ("--autocast-dtype", "bfloat16")
FIRST = "fp32"


class Mode(NamedTuple):
    """Options of fairseq-train, and of its losses whether they have to be those of fp32.

    ``on_cpu``: whether it runs there; fp16 and amp are refused, graphs are not there, and compiling
    takes long.
    """

    words: tuple[str, ...]
    has_same_losses: bool = True
    on_cpu: str = "runs"


MODES = {
    FIRST: Mode(()),
    "bf16": Mode(BF16),
    "bf16, graphs": Mode((*BF16, "--cuda-graphs"), on_cpu="left out"),
    "fp16": Mode(("--fp16", "--fp16-no-flatten-grads"), on_cpu="refused"),
    "amp": Mode(("--amp",), on_cpu="refused"),
    "bf16, ELECTRA": Mode((*BF16, *ELECTRA), has_same_losses=False),
    "bf16, recomputed": Mode((*BF16, "--checkpoint-activations")),
    "bf16, compiled": Mode((*BF16, "--compile"), on_cpu="left out"),
}
# Of the losses at the end of a few updates: how far precisions may lie apart.
APART = 0.05
UPDATES, TOY_UPDATES = 36, 8
# Of the seconds, after how many no other precision is begun.
LATEST = 0.8


def judge(run: Run, beside: Run) -> str:
    """What is wrong with a run beside another, or nothing."""
    if run.error is not None or not run.updates:
        return run.error or "nothing was logged"
    losses = [update["loss"] for update in run.updates]
    if not all(map(math.isfinite, losses)):
        return "a loss is not finite"
    if not losses[-1] < losses[0]:
        return f"the loss went from {losses[0]:.2f} to {losses[-1]:.2f}"
    for place in (0, -1):
        expected = beside.updates[place]["loss"]
        if abs(losses[place] - expected) > APART * expected:
            return f"a loss of {losses[place]:.2f} beside {expected:.2f}"
    return ""


def stage(options: Options) -> Outcome:
    if options.data is None:
        return Outcome(SKIP, "no --data")
    updates = TOY_UPDATES if options.toy else UPDATES
    words = (
        *("--max-update", str(updates), "--warmup-updates", "4", "--no-save"),
        *("--disable-validation", "--log-interval", str(max(1, updates // 6))),
    )
    found, wrong, left, first, begin = {}, [], [], None, time.monotonic()
    for name, mode in MODES.items():
        outside = options.device.type == "cpu" and mode.on_cpu
        if outside == "left out":
            continue
        if time.monotonic() - begin > LATEST * options.seconds:
            left.append(name)
            continue
        run = train(options, *words, *mode.words)
        first = first or run
        if outside == "refused":
            expected = f"--{name} needs a GPU: use --autocast-dtype bfloat16 instead"
            mistake = "" if run.error == expected else f"not refused: {run.error}"
        else:
            mistake = judge(run, first if mode.has_same_losses and first.updates else run)
            found[name] = numbers(run)
        print(f"{name}: {mistake or 'as it should be'} {found.get(name, '')}", flush=True)
        if mistake:
            wrong.append(f"{name}: {mistake}")
        keep(options, ended(found, wrong, []))
    return ended(found, wrong, left)


def ended(found: dict, wrong: list[str], left: list[str]) -> Outcome:
    speeds = ", ".join(
        f"{name} {row['updates a second']:.1f}" for name, row in found.items() if row
    )
    line = "; ".join(wrong) or f"{len(found)} precisions learn alike"
    line += f"; updates a second: {speeds}"
    line += f"; no time for {', '.join(left)}" if left else ""
    figures = {"modes": found, "wrong": wrong, "left": left}
    return Outcome(FAIL if wrong else PASS, line, figures)


def numbers(run: Run) -> dict:
    if not run.updates:
        return {}
    last = run.updates[-1]
    return {
        "updates a second": last.get("ups", math.nan),
        "tokens a second": last.get("wps", math.nan),
        "first loss": run.updates[0]["loss"],
        "last loss": last["loss"],
        "gradient norm": last.get("gnorm", math.nan),
        "reserved, GiB": run.memory,
    }


if __name__ == "__main__":
    run_stage(__doc__, stage)
