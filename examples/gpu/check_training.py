"""A few updates of fairseq-train in every precision: they run, learn alike, and how fast."""

import math

from measuring import FAIL, PASS, SKIP, Options, Outcome, run_stage
from training import ELECTRA, Run, train

BF16 = ("--autocast-dtype", "bfloat16")
MODES = {
    "fp32": (),
    "bf16": BF16,
    "bf16, ELECTRA": (*BF16, *ELECTRA),
    "fp16": ("--fp16", "--fp16-no-flatten-grads"),
    "amp": ("--amp",),
}
FIRST, OTHER_MODELS = "fp32", ("bf16, ELECTRA",)
# What the plugin refuses without a GPU.
NEEDS_GPU = ("fp16", "amp")
# Of the losses at the end of a few updates: how far precisions may lie apart.
APART = 0.05
UPDATES, TOY_UPDATES = 48, 8


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
    runs, found, wrong = {}, {}, []
    for name, more in MODES.items():
        runs[name] = run = train(options, *words, *more)
        if options.device.type == "cpu" and name in NEEDS_GPU:
            expected = f"--{name} needs a GPU: use --autocast-dtype bfloat16 instead"
            mistake = "" if run.error == expected else f"not refused: {run.error}"
            print(f"{name}: {mistake or 'refused, as it should be'}", flush=True)
        else:
            other = runs[FIRST]
            mistake = judge(run, run if name in OTHER_MODELS or not other.updates else other)
            found[name] = numbers(run)
            print(f"{name}: {mistake or 'good'} {found[name]}", flush=True)
        if mistake:
            wrong.append(f"{name}: {mistake}")
    speeds = ", ".join(
        f"{name} {row['updates a second']:.1f}" for name, row in found.items() if row
    )
    line = "; ".join(wrong) or f"{len(found)} precisions learn alike; updates a second: {speeds}"
    return Outcome(FAIL if wrong else PASS, line, {"modes": found, "wrong": wrong})


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
