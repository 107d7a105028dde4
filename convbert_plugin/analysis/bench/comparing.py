"""Variants of the same work: built, seen to be equal, then timed in turn."""

import math
import time
from typing import Any, Callable, Iterable, Mapping, NamedTuple, Optional

import torch
from torch import Tensor

from convbert_plugin.analysis.bench.peak_memory import CALLS, Find, peak_bytes
from convbert_plugin.analysis.bench.timing import Clock, Pace, interleaved


class Workload:
    """What is timed is ``run``."""

    run: Callable[[], object]

    def prepare(self) -> None:
        """Before it is timed, and not before its memory is measured."""

    def close(self) -> None:
        """When it has been timed."""


class Difference(NamedTuple):
    """How far results lie from those of ``reference``, relative to their size."""

    reference: str
    found: float
    allowed: float

    @property
    def is_small(self) -> bool:
        # False of what is not a number.
        return self.found <= self.allowed


# Relative to the largest number, by precision: that of outputs, then of gradients.
ALLOWED = {"fp32": (2e-4, 2e-3), "bf16": (6e-2, 0.2), "fp16": (1e-2, 5e-2)}


SMALL = 0.01
LONGEST_REASON = 200


class Work(NamedTuple):
    """What one call does: tokens, FLOPs, and bytes that must be read or written (0: unknown)."""

    tokens: int = 0
    flops: int = 0
    bytes: int = 0


class Comparison(NamedTuple):
    """One row of variants.

    ``check``: what of the built variants was compared, by name; it also gives them equal weights.
    ``works``: by name, where one does other work. ``copying``: the name of the variant that copies
    as much as the others must. ``arch``: where the rate of a step is that of a pretraining;
    ``length`` of the examples, where that matters.
    """

    part: str
    title: str
    work: Work
    build: Mapping[str, Callable[[], Workload]]
    baseline: str
    check: Callable[[Mapping[str, Any]], Mapping[str, Difference]]
    clock: Clock
    device: str
    works: Mapping[str, Work] = {}
    notes: tuple[str, ...] = ()
    copying: str = ""
    arch: str = ""
    length: int = 0
    has_memory: bool = True


class Outcome(NamedTuple):
    """Of one variant: seconds a call in each round; why there are none; how far from equal."""

    name: str
    work: Work
    seconds: tuple[float, ...] = ()
    failure: str = ""
    difference: Optional[Difference] = None
    peak: Optional[int] = None


class Result(NamedTuple):
    """All outcomes of a comparison."""

    part: str
    title: str
    baseline: str
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...] = ()
    copying: str = ""
    arch: str = ""
    length: int = 0

    @property
    def failures(self) -> list[str]:
        return [f"{one.name} ({one.failure})" for one in self.outcomes if one.failure]


def farthest(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The largest difference of (result, expected), over the largest number of its tensor.

    A tensor whose numbers are all small beside those of the others is compared with these: what
    would be 0 but for rounding. Not a number if a result is not, infinite where shapes differ.
    """
    both = [(result.double(), expected.double()) for result, expected in pairs]
    if any(result.shape != expected.shape for result, expected in both):
        return math.inf
    scales = [float(expected.abs().max()) for _, expected in both]
    least = SMALL * max(scales)
    found = [
        float((result - expected).abs().max()) / (max(scale, least) or 1.0)
        for (result, expected), scale in zip(both, scales, strict=True)
    ]
    return math.nan if any(map(math.isnan, found)) else max(found)


def measure(comparison: Comparison, pace: Pace, memory: Optional[Find] = None) -> Result:
    """Build all variants, leave out those that fail or are not equal, and time the others.

    ``pace``: for all of it; ``memory``: what finds the variants again in the processes that
    measure their memory on a CPU, None leaves it out. On a GPU the allocator counts, and one
    process does for all.
    """
    start = time.perf_counter()
    built = _build(comparison)
    failures, peaks = built.failures, built.peaks
    in_processes = memory is not None and comparison.device == "cpu" and comparison.has_memory
    try:
        differences = dict(comparison.check(built.workloads))
        failures |= {
            name: f"differs from {one.reference} by {one.found:.2g}, more than {one.allowed:.2g}"
            for name, one in differences.items()
            if not one.is_small
        }
        timed = {name: load for name, load in built.workloads.items() if name not in failures}
        for load in timed.values():
            load.prepare()
        used = time.perf_counter() - start
        later = in_processes * sum(CALLS * built.seconds[name] for name in timed)
        runs = {name: load.run for name, load in timed.items()}
        seconds = interleaved(runs, comparison.clock, pace.less(used + later))
        timed.clear()
        runs.clear()
    finally:
        for load in built.workloads.values():
            load.close()
        built.workloads.clear()
    if in_processes:
        assert memory is not None
        peaks |= {name: peak_bytes(memory, name) for name in seconds}
    return Result(
        comparison.part,
        comparison.title,
        comparison.baseline,
        tuple(
            Outcome(
                name=name,
                work=comparison.works.get(name, comparison.work),
                seconds=tuple(seconds.get(name, ())),
                failure=failures.get(name, ""),
                difference=differences.get(name),
                peak=peaks.get(name),
            )
            for name in comparison.build
        ),
        comparison.notes,
        comparison.copying,
        comparison.arch,
        comparison.length,
    )


class Built(NamedTuple):
    """The variants that can be built and called, seconds of that call and, on a GPU, peak bytes.

    ``failures``: of the others, why not.
    """

    workloads: dict[str, Workload]
    seconds: dict[str, float]
    peaks: dict[str, Optional[int]]
    failures: dict[str, str]


def _build(comparison: Comparison) -> Built:
    built = Built({}, {}, {}, {})
    on_gpu = comparison.device == "cuda"
    for name, build in comparison.build.items():
        before = torch.cuda.memory_allocated() if on_gpu else 0
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        try:
            built.workloads[name] = workload = build()
            for _ in range(CALLS if on_gpu else 1):
                start = time.perf_counter()
                workload.run()
                built.seconds[name] = time.perf_counter() - start
            if on_gpu:
                torch.cuda.synchronize()
                built.peaks[name] = torch.cuda.max_memory_allocated() - before
        # Whatever a library raises here, the other variants are still compared.
        except Exception as error:
            built.failures[name] = f"{type(error).__name__}: {_first_line(error)}"
            if (failed := built.workloads.pop(name, None)) is not None:
                failed.close()
    return built


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:LONGEST_REASON]
