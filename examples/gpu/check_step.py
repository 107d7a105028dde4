"""The step of a training: how long, what waits for the device, and the ten largest kernels."""

import collections
import contextlib
import re
import time
import traceback
import warnings

import torch
from fairseq import utils
from measuring import FAIL, PASS, SKIP, Options, Outcome, keep, run_stage, took_and_issued, wait
from torch.profiler import ProfilerActivity, profile
from training import ELECTRA, trainer_for

BF16 = ("--autocast-dtype", "bfloat16")
COMPILED, GRAPHED = (*BF16, "--compile"), (*BF16, "--cuda-graphs")
# What a CPU does without: there are no graphs there, and compiling takes long.
FOR_GPU = {"--compile", "--cuda-graphs"}
VARIANTS = {
    "bf16": BF16,
    "bf16, graphs": GRAPHED,
    "bf16, graphs, ELECTRA": (*GRAPHED, *ELECTRA),
    "bf16, ELECTRA": (*BF16, *ELECTRA),
    "fp32": (),
    "bf16, compiled": COMPILED,
    "bf16, compiled, ELECTRA": (*COMPILED, *ELECTRA),
}
# Those that are looked into.
PROFILED = ("bf16", "bf16, graphs", "bf16, compiled")
STEPS, TOY_STEPS, PROFILED_STEPS = 20, 2, 3
LARGEST = 10
# Of the seconds, after how many no other variant is begun.
LATEST = 0.8
OURS = re.compile(r"convbert_plugin|fairseq|examples/gpu")


def bare_step(trainer, batch):
    """Forward, backward, clipping and update, without what fairseq's trainer does around it."""

    def step():
        _, sample_size, _ = trainer.task.train_step(
            batch, trainer.model, trainer.criterion, trainer.optimizer, update_num=0
        )
        trainer.optimizer.multiply_grads(1 / sample_size)
        trainer.optimizer.clip_grad_norm(1.0)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()

    return step


@contextlib.contextmanager
def waits():
    """Counts where the host waits for the device, by the lines of Python that make it."""
    found = collections.Counter()

    def show(message, category, filename, line, *_):
        if "called a synchronizing CUDA operation" in str(message):
            frames = [frame for frame in traceback.extract_stack() if OURS.search(frame.filename)]
            places = [f"{frame.filename}:{frame.lineno} {frame.line}" for frame in frames[:-1]]
            found[places[-1] if places else f"{filename}:{line}"] += 1

    before = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
            warnings.showwarning = before


def kernels_of(step, device: torch.device) -> dict:
    """Of one step: how many kernels (on a CPU operators), their time, and the largest."""
    is_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CUDA if is_cuda else ProfilerActivity.CPU]
    with profile(activities=activities) as recorded:
        for _ in range(PROFILED_STEPS):
            step()
        wait(device)
    times = collections.defaultdict(lambda: [0.0, 0])
    for event in recorded.events():
        is_kernel = str(event.device_type).endswith("CUDA") and not event.is_user_annotation
        if is_cuda and not is_kernel:
            continue
        row = times[event.name]
        row[0] += event.self_device_time_total if is_cuda else event.self_cpu_time_total
        row[1] += 1
    total = sum(taken for taken, _ in times.values())
    largest = sorted(times.items(), key=lambda row: -row[1][0])[:LARGEST]
    return {
        "launches": sum(count for _, count in times.values()) / PROFILED_STEPS,
        "kernels, ms": total / PROFILED_STEPS / 1e3,
        "largest": [
            {
                "kernel": name,
                "share": taken / total,
                "us": taken / PROFILED_STEPS,
                "launches": count / PROFILED_STEPS,
            }
            for name, (taken, count) in largest
        ],
    }


def measure(options: Options, more: tuple) -> tuple[dict, object, object]:
    trainer, batch = trainer_for(options, *more)
    trainer.model.train()
    on_device = utils.move_to_cuda(batch) if options.device.type == "cuda" else batch
    bare = bare_step(trainer, on_device)
    steps = TOY_STEPS if options.toy else STEPS
    taken, issued = took_and_issued(bare, options.device, steps)
    whole, _ = took_and_issued(lambda: trainer.train_step([batch]), options.device, steps)
    figures = {"bare, ms": taken * 1e3, "issued, ms": issued * 1e3, "fairseq, ms": whole * 1e3}
    return figures, bare, lambda: trainer.train_step([batch])


def stage(options: Options) -> Outcome:
    if options.data is None:
        return Outcome(SKIP, "no --data")
    found, lines, wrong, begin = {}, [], [], time.monotonic()
    for name, more in VARIANTS.items():
        if options.device.type == "cpu" and FOR_GPU & set(more):
            continue
        if time.monotonic() - begin > LATEST * options.seconds:
            lines.append(f"no time for {name}")
            continue
        try:
            found[name], bare, whole = measure(options, more)
            print(name, {key: round(x, 2) for key, x in found[name].items()}, flush=True)
            if name in PROFILED:
                found[name] |= watch(options.device, bare, whole)
        except Exception as error:
            traceback.print_exc()
            wrong.append(f"{name}: {type(error).__name__}")
            continue
        lines.append(line_of(name, found[name]))
        if found[name].get("waits", {}).get("bare"):
            wrong.append(f"{name} waits")
        keep(options, ended(found, wrong, lines))
    return ended(found, wrong, lines)


def ended(found: dict, wrong: list[str], lines: list[str]) -> Outcome:
    return Outcome(FAIL if wrong else PASS, "; ".join([*wrong, *lines]), {"steps": found})


def line_of(name: str, figures: dict) -> str:
    line = f"{name} {figures['bare, ms']:.1f} ms"
    if "launches" in figures:
        waiting = sum(figures.get("waits", {}).get("bare", {}).values())
        line += (
            f" (issued in {figures['issued, ms']:.1f}; under fairseq's trainer "
            f"{figures['fairseq, ms']:.1f}; {figures['launches']:.0f} launches of "
            f"{figures['kernels, ms']:.1f} ms; {waiting} waits)"
        )
    return line


def watch(device: torch.device, bare, whole) -> dict:
    """Where a step waits, and what its kernels are."""
    found = kernels_of(bare, device)
    for row in found["largest"]:
        print(f"{row['share']:6.1%} {row['us']:9,.0f} us {row['launches']:7.1f}x {row['kernel']}")
    if device.type == "cuda":
        found["waits"] = {}
        for name, step in (("bare", bare), ("fairseq", whole)):
            with waits() as places:
                step()
            found["waits"][name] = dict(places)
            print(f"waits of a {name} step: {dict(places)}", flush=True)
    return found


if __name__ == "__main__":
    run_stage(__doc__, stage)
