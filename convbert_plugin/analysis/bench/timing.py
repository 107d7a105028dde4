"""Seconds a call, measured in turn: one call of each variant a round, in changing order."""

import gc
import statistics
import time
from typing import Callable, Mapping, NamedTuple, Optional, Sequence

import torch

Run = Callable[[], object]
Clock = Callable[[Run, int], float]
"""Seconds a call, of so many calls in a row."""

FEWEST_ROUNDS = 3
MOST_CALLS = 50
# What a GPU waits in its first kernel while the calls are queued behind it, at most.
CYCLES_A_SECOND = 2e9
LONGEST_WAIT = 0.2


def wall_clock(run: Run, calls: int) -> float:
    """On a CPU."""
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def synchronized_clock(run: Run, calls: int) -> float:
    """On a GPU, with the time that it waits for kernels to be launched, as in a training."""
    torch.cuda.synchronize()
    start, end = _events()
    start.record()
    for _ in range(calls):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000 / calls


def queued_clock(run: Run, calls: int) -> float:
    """On a GPU, the kernels alone: all calls stand in the queue before the first begins."""
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(calls):
        run()
    launching = time.perf_counter() - begin
    torch.cuda.synchronize()
    start, end = _events()
    torch.cuda._sleep(int(min(1.5 * launching, LONGEST_WAIT) * CYCLES_A_SECOND))
    start.record()
    for _ in range(calls):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000 / calls


def _events() -> tuple[torch.cuda.Event, torch.cuda.Event]:
    return torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)


class Pace(NamedTuple):
    """How long to measure: so many rounds, or else as many as fit into ``seconds``.

    ``sample``: seconds of calls in a row that are timed together. Shorter ones would measure the
    clock and, on a GPU, the wait for the first kernel, which a training does not have.
    """

    seconds: float = 20.0
    rounds: Optional[int] = None
    sample: float = 0.1

    def less(self, seconds: float) -> "Pace":
        """Where some have gone for other things."""
        return self._replace(seconds=self.seconds - seconds)

    def is_over(self, rounds: int, elapsed: float) -> bool:
        if self.rounds is not None:
            return rounds >= self.rounds
        # One more round would take as long as those before it.
        a_round = elapsed / max(1, rounds)
        return rounds >= FEWEST_ROUNDS and elapsed + a_round > self.seconds


def interleaved(runs: Mapping[str, Run], clock: Clock, pace: Pace) -> dict[str, list[float]]:
    """Seconds a call of each run, a number a round.

    What else a machine does, how warm it is, and what the run before has left in its caches and
    its memory, meets all alike. Each has been called before.
    """
    calls = {name: _calls(run, clock, pace.sample) for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    rounds, start = 0, time.perf_counter()
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        while runs and not pace.is_over(rounds, time.perf_counter() - start):
            for name in order_of_round(list(runs), rounds):
                seconds[name].append(clock(runs[name], calls[name]))
            rounds += 1
    finally:
        if was_enabled:
            gc.enable()
    return seconds


def order_of_round(names: Sequence[str], number: int) -> list[str]:
    """In twice as many rounds as names, each follows every other one twice, and is twice the first.

    Source: E. J. Williams, Experimental designs balanced for the estimation of residual effects of
    treatments (1949).
    """
    shift, is_mirrored = divmod(number, 2)
    # 0, 1, -1, 2, -2: the steps between neighbours, 1, -2, 3 and -4, all differ.
    places = [(place + 1) // 2 * (1 if place % 2 else -1) for place in range(len(names))]
    order = [names[(place + shift) % len(names)] for place in places]
    return order[::-1] if is_mirrored else order


def _calls(run: Run, clock: Clock, sample: float) -> int:
    """How many calls make a sample; finding that out is a warm-up too."""
    return max(1, min(MOST_CALLS, round(sample / max(clock(run, 1), 1e-9))))


class Spread(NamedTuple):
    """The middle of some numbers, and the quartiles about it."""

    median: float
    low: float
    high: float


def spread(numbers: Sequence[float]) -> Spread:
    """Of at least one number."""
    if len(numbers) == 1:
        return Spread(numbers[0], numbers[0], numbers[0])
    low, median, high = statistics.quantiles(numbers, n=4, method="inclusive")
    return Spread(median, low, high)


def times_as_fast(seconds: Sequence[float], baseline: Sequence[float]) -> Spread:
    """By what it is faster than the baseline, from the pairs of each round."""
    return spread([theirs / own for own, theirs in zip(seconds, baseline, strict=True)])
