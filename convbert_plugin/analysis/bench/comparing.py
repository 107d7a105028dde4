"""Variants of the same work: built, seen to be equal, then timed in turn."""

import math
from typing import Any, Callable, Iterable, Iterator, Mapping, NamedTuple, Optional, Protocol

import torch
from torch import Tensor

from convbert_plugin.analysis.bench.peak_memory import CALLS, Find, peak_bytes
from convbert_plugin.analysis.bench.timing import Clock, Pace, interleaved


class Workload(Protocol):
    """What is timed is ``run``."""

    def run(self) -> object: ...


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


class Work(NamedTuple):
    """What one call does: tokens, FLOPs, and bytes that must be read or written (0: unknown)."""

    tokens: int = 0
    flops: int = 0
    bytes: int = 0


class Comparison(NamedTuple):
    """One row of variants.

    ``check``: what of the built variants was compared, by name; it also gives them equal weights.
    ``works``: by name, where one does other work. ``copying``: the name of the variant that copies
    as much as the others must. ``arch``: where the rate of a step is that of a pretraining.
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

    ``memory``: what finds the variants again in the processes that measure their memory on a CPU;
    None leaves it out. On a GPU the allocator counts, and one process does for all.
    """
    failures: dict[str, str] = {}
    peaks: dict[str, Optional[int]] = {}
    workloads = dict(_built(comparison, failures, peaks))
    differences = dict(comparison.check(workloads))
    for name, difference in differences.items():
        if not difference.is_small:
            failures[name] = (
                f"differs from {difference.reference} by {difference.found:.2g}, more than "
                f"{difference.allowed:.2g}: not timed"
            )
    runs = {name: load.run for name, load in workloads.items() if name not in failures}
    seconds = interleaved(runs, comparison.clock, pace)
    workloads.clear()
    runs.clear()
    if memory is not None and comparison.device == "cpu":
        peaks = {name: peak_bytes(memory, name) for name in seconds}
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
    )


def _built(
    comparison: Comparison, failures: dict[str, str], peaks: dict[str, Optional[int]]
) -> Iterator[tuple[str, Workload]]:
    """The variants that can be built and called; of the others, why not."""
    on_gpu = comparison.device == "cuda"
    for name, build in comparison.build.items():
        before = torch.cuda.memory_allocated() if on_gpu else 0
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        try:
            workload = build()
            for _ in range(CALLS if on_gpu else 1):
                workload.run()
            if on_gpu:
                peaks[name] = torch.cuda.max_memory_allocated() - before
        # Whatever a library raises here, the other variants are still compared.
        except Exception as error:
            failures[name] = f"{type(error).__name__}: {str(error).splitlines()[:1]}"[:200]
            continue
        yield name, workload
