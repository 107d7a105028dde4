"""What a machine is, and what it can do at best: products and copies."""

from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import torch

from convbert_plugin.analysis.bench.costs import data_sheet_rate
from convbert_plugin.analysis.bench.timing import (
    Clock,
    Pace,
    interleaved,
    queued_clock,
    synchronized_clock,
    wall_clock,
)
from convbert_plugin.files.host import processor_name

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Probe(NamedTuple):
    """How large what is timed is: the side of the square matrices, the bytes that are copied."""

    side: int
    copied: int


# The copies are beyond all caches.
PROBES = {"cpu": Probe(1536, 256 << 20), "cuda": Probe(8192, 2 << 30)}
TOY_PROBE = Probe(128, 1 << 20)
LIBRARIES = ("torch", "triton", "transformers", "ve-fairseq")
PROBED_DTYPES = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16")}


class Machine(NamedTuple):
    """What it is, and its rates.

    ``libraries``: their versions; ``gemm``: FLOPs a second of a square product by precision;
    ``copy``: bytes a second, those read and those written; ``data_sheet``: as ``gemm``, of the
    maker, 0 where that is not known.
    """

    processor: str
    device: str
    threads: int
    libraries: dict[str, str]
    gemm: dict[str, float]
    copy: float
    data_sheet: dict[str, float]


def at_best(machine: Machine, again: Machine) -> Machine:
    """The better of two measurements of one machine, rate by rate."""
    gemm = {dtype: max(rate, again.gemm[dtype]) for dtype, rate in machine.gemm.items()}
    return machine._replace(gemm=gemm, copy=max(machine.copy, again.copy))


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "absent"


def available_bytes(device: str) -> int:
    """Memory that nothing has taken yet."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    lines = Path("/proc/meminfo").read_text().splitlines()
    kibibytes = dict(line.split(":", 1) for line in lines)["MemAvailable"]
    return int(kibibytes.split()[0]) << 10


def kernel_clock(device: str) -> Clock:
    """What measures an op."""
    return queued_clock if device == "cuda" else wall_clock


def step_clock(device: str) -> Clock:
    """What measures all that a training waits for."""
    return synchronized_clock if device == "cuda" else wall_clock


def probe_machine(device: str, pace: Pace, is_toy: bool = False) -> Machine:
    """Measure this machine."""
    probe = TOY_PROBE if is_toy else PROBES[device]
    dtypes = PROBED_DTYPES[device]
    matrices = {
        name: torch.randn(probe.side, probe.side, device=device).to(DTYPES[name]) for name in dtypes
    }
    source = torch.ones(probe.copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    runs = {name: (lambda matrix=matrix: matrix @ matrix) for name, matrix in matrices.items()}
    seconds = interleaved(
        {**runs, "copy": lambda: target.copy_(source)}, kernel_clock(device), pace
    )
    # Of each the best round: what it can do, when nothing else runs.
    fastest = {name: min(of_run) for name, of_run in seconds.items()}
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    return Machine(
        processor=processor_name(),
        device=name or "cpu",
        threads=torch.get_num_threads(),
        libraries={name: _version(name) for name in LIBRARIES},
        gemm={dtype: 2 * probe.side**3 / fastest[dtype] for dtype in dtypes},
        copy=2 * probe.copied / fastest["copy"],
        data_sheet={dtype: data_sheet_rate(name, dtype) for dtype in dtypes},
    )
