"""A whole run: the machine, every comparison of every part, and what is told of them."""

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Optional, Sequence

from convbert_plugin.analysis.bench.bench_table import (
    formulas_text,
    machine_text,
    recipe_text,
    result_json,
    result_text,
    rows_of,
)
from convbert_plugin.analysis.bench.comparing import Comparison, Result, measure
from convbert_plugin.analysis.bench.costs import FORMULAS
from convbert_plugin.analysis.bench.encoder_part import encoder_comparisons
from convbert_plugin.analysis.bench.kept_memory import keep_freed_memory
from convbert_plugin.analysis.bench.length_part import length_comparisons
from convbert_plugin.analysis.bench.machine import Machine, at_best, probe_machine
from convbert_plugin.analysis.bench.op_part import backends_of, op_comparisons
from convbert_plugin.analysis.bench.peers import COMPOSITION
from convbert_plugin.analysis.bench.plan import TOY, Plan, Sizes, write_data
from convbert_plugin.analysis.bench.step_part import step_comparisons
from convbert_plugin.analysis.bench.timing import Pace
from convbert_plugin.analysis.bench.train_part import train_comparisons
from convbert_plugin.errors import UserError
from convbert_plugin.files.json_files import write_json
from convbert_plugin.files.whole_output import whole_file

COMPARISONS: Mapping[str, Callable[[Plan], Iterator[Comparison]]] = {
    "op": op_comparisons,
    "encoder": encoder_comparisons,
    "step": step_comparisons,
    "train": train_comparisons,
    "length": length_comparisons,
}
ROUNDS = 5
TOY_PACE = Pace(rounds=2, sample=0.01)
TOY_BATCH, TOY_LENGTH = 2, 16
PROBES_A_TIME = 3


class Wishes(NamedTuple):
    """What the command was asked for; ``budget`` in seconds, ``repeats`` in rounds."""

    parts: tuple[str, ...]
    archs: tuple[str, ...]
    device: str = "cpu"
    dtype: str = "fp32"
    batch: Optional[int] = None
    length: int = 128
    backends: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    dropouts: tuple[float, ...] = (0.0, 0.1)
    with_peers: bool = True
    budget: Optional[int] = None
    repeats: Optional[int] = None
    with_memory: bool = True
    json_file: Optional[str] = None
    picture: Optional[str] = None
    is_quick: bool = False

    def plan(self, data: str) -> Plan:
        batch, length = (TOY_BATCH, TOY_LENGTH) if self.is_quick else (self.batch, self.length)
        return Plan(
            data=data,
            archs=self.archs[:1] if self.is_quick else self.archs,
            batch=batch,
            length=length,
            dtype=self.dtype,
            device=self.device,
            backends=self.backends,
            modes=self.modes,
            dropouts=self.dropouts,
            with_peers=self.with_peers,
            sizes=TOY if self.is_quick else Sizes(),
        )


class Stopwatch(NamedTuple):
    """When all has to be over, where there is a budget; else how each comparison is paced."""

    end: Optional[float]
    otherwise: Pace

    @property
    def is_over(self) -> bool:
        return self.end is not None and time.perf_counter() > self.end

    def pace(self, comparisons_left: int) -> Pace:
        """What is left is shared among the comparisons that are still to come."""
        if self.end is None:
            return self.otherwise
        left = max(0.0, self.end - time.perf_counter())
        return self.otherwise._replace(seconds=left / comparisons_left, rounds=None)


def run_bench(wishes: Wishes, tell: Callable[[str], None]) -> None:
    """Measure all that is wished for, and tell each comparison when it is done.

    Raises:
        UserError: at the end, variants that were not timed, and why.
    """
    start = time.perf_counter()
    keep_freed_memory()
    pace = TOY_PACE if wishes.is_quick else Pace(rounds=wishes.repeats or ROUNDS)
    end = None if wishes.budget is None else start + wishes.budget
    with tempfile.TemporaryDirectory() as folder:
        plan = wishes.plan(folder)
        backends_of(plan)
        write_data(folder, plan)
        probing = TOY_PACE if wishes.is_quick else Pace(rounds=PROBES_A_TIME)
        probe = partial(probe_machine, wishes.device, probing, wishes.is_quick)
        machine = probe()
        tell(machine_text(machine) + "\n")
        results: list[Result] = []
        for result in _results(plan, wishes, Stopwatch(end, pace), tell):
            results.append(result)
            # Something else may have run beside the first.
            machine = at_best(machine, probe())
            tell(result_text(result, machine, plan.dtype))
            tell("".join(_recipes(result, machine, plan)) + "\n")
            if wishes.picture:
                _write_picture(wishes.picture, results, machine, plan.dtype)
            if wishes.json_file:
                write_json(wishes.json_file, _content(wishes, machine, results, plan.dtype))
    tell(f"{machine_text(machine)}\n{formulas_text()}{COMPOSITION}\n")
    if failures := [line for result in results for line in result.failures]:
        raise UserError(f"not timed: {'; '.join(failures)}")


def _write_picture(path: str, results: Sequence[Result], machine: Machine, dtype: str) -> None:
    from convbert_plugin.analysis.bench.bench_picture import draw

    with whole_file(path) as file:
        file.write(draw(results, machine, dtype, Path(path).suffix.removeprefix(".")))


def _results(
    plan: Plan, wishes: Wishes, stopwatch: Stopwatch, tell: Callable[[str], None]
) -> Iterator[Result]:
    comparisons = [each for part in wishes.parts for each in COMPARISONS[part](plan)]
    for number, comparison in enumerate(comparisons):
        if stopwatch.is_over:
            tell(f"{comparison.part}: {comparison.title}: left out: the time is over\n\n")
            continue
        find = partial(find_variant, plan, comparison.part, comparison.title)
        pace = stopwatch.pace(len(comparisons) - number)
        yield measure(comparison, pace, find if wishes.with_memory else None)


def find_variant(plan: Plan, part: str, title: str, name: str) -> Callable[[], Any]:
    """How to build a variant, for a process that knows the plan and its name."""
    found = next(each for each in COMPARISONS[part](plan) if each.title == title)
    return found.build[name]


def _recipes(result: Result, machine: Machine, plan: Plan) -> Iterator[str]:
    """The released pretraining at the rates of a step that were measured."""
    if not result.arch or plan.sizes is TOY:
        return
    for row in rows_of(result, machine, plan.dtype):
        if row.tokens_per_second:
            yield recipe_text(row.name, result.arch, row.tokens_per_second)


def _content(wishes: Wishes, machine: Machine, results: list[Result], dtype: str) -> dict[str, Any]:
    return {
        "machine": machine._asdict(),
        "wishes": wishes._asdict(),
        "formulas": {**FORMULAS, "composed": COMPOSITION},
        "comparisons": [result_json(result, machine, dtype) for result in results],
    }
