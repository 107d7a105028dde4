"""What the device can do, and the convolutions' code on it: right in every precision, how fast."""

import itertools
import math
import os
from typing import Iterator

import torch
from forking import Emit, spread
from measuring import FAIL, PASS, Options, Outcome, keep, run_stage, seconds_of

from convbert_plugin.ops.convolution_backends import available
from convbert_plugin.ops.depthwise_convolution import depthwise_convolution
from convbert_plugin.ops.span_convolution import span_convolution

# ‖result − reference‖ / ‖reference‖: two roundings of the inputs, and one of each result.
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1.5e-3}
# Batch, length, heads, size of a head, taps: heads as those of small, and odd ones.
CHECKED = [(2, 128, 2, 64, 9), (2, 65, 3, 5, 9), (2, 37, 1, 7, 3)]
MOST_PROCESSES = 12
# Of the seconds, what the checks may take.
SHARE = 0.6
TIMED = {"small": (128, 128, 2, 64, 9), "base": (32, 128, 6, 64, 9)}
TIMED_TOY = {"toy": (2, 128, 2, 64, 9)}
REFERENCE = "reference"
NAMES = ("output", "first gradient", "second gradient")


def checked_backends(device: torch.device) -> list[str]:
    return [name for name in available(torch.empty(0, device=device)) if name != REFERENCE]


def span_inputs(shape: tuple, seed: int = 1) -> list[torch.Tensor]:
    batch, length, heads, size, taps = shape
    generator = torch.Generator().manual_seed(seed)
    value = torch.randn(batch, length, heads * size, generator=generator, dtype=torch.float64)
    return [value, torch.randn(batch, length, heads, taps, generator=generator).double()]


def depthwise_inputs(shape: tuple, seed: int = 1) -> list[torch.Tensor]:
    batch, length, heads, size, taps = shape
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(batch, length, heads * size, generator=generator, dtype=torch.float64)
    return [hidden, torch.randn(heads * size, 1, taps, generator=generator).double()]


OPERATIONS = {
    "span": (span_convolution, span_inputs),
    "depthwise": (depthwise_convolution, depthwise_inputs),
}


def results(operation, inputs: list[torch.Tensor], backend: str) -> list[torch.Tensor]:
    """The output and both gradients, of a gradient that is the output's own sines."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    output = operation(*leaves, backend=backend)
    output.backward(output.detach().sin())
    return [output.detach(), *(leaf.grad for leaf in leaves)]


def check(case: tuple, device: torch.device, emit: Emit) -> None:
    """Tells of each result of one case what it is, its error and the bound."""
    name, dtype, shape = case
    operation, make = OPERATIONS[name]
    rounded = [tensor.to(dtype) for tensor in make(shape)]
    exact = results(operation, [tensor.double() for tensor in rounded], REFERENCE)
    for backend in checked_backends(device):
        on_device = [tensor.to(device) for tensor in rounded]
        parts = results(operation, on_device, backend)
        for part, result, oracle in zip(NAMES, parts, exact, strict=True):
            error = float((result.double().cpu() - oracle).norm() / oracle.norm())
            what = f"{name} {part} of {backend}, {str(dtype)[6:]}, {shape}"
            # JSON has no NaN.
            emit([what, error if math.isfinite(error) else 9.0, TOLERANCES[dtype]])


def rates(device: torch.device, toy: bool) -> dict:
    """Bytes and operations a second: of a copy, and of products of matrices."""
    source = torch.randn(1 << (20 if toy else 28), device=device)
    target = torch.empty_like(source)
    taken = seconds_of(lambda: target.copy_(source), device)
    found = {"copy, GB/s": 2 * source.numel() * 4 / taken / 1e9}
    size = 256 if toy else 8192
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        taken = seconds_of(lambda left=left, right=right: left @ right, device, 3)
        found[f"{dtype} product, TFLOP/s"] = 2 * size**3 / taken / 1e12
    return found


def timings(device: torch.device, toy: bool) -> Iterator[dict]:
    """Of the span convolution: times, beside those of copying as many bytes as it must touch.

    Counted are value, logits and output; backward the gradient of the output, value, logits and
    their two gradients.
    """
    for name, shape in (TIMED_TOY if toy else TIMED).items():
        for backend in checked_backends(device):
            value, logits = (
                tensor.to(device, torch.bfloat16).requires_grad_() for tensor in span_inputs(shape)
            )
            forward, both = times_of(value, logits, torch.randn_like(value), backend, device)
            large, small = 2 * value.numel(), 2 * logits.numel()
            of_forward, of_both = 2 * large + small, 5 * large + 3 * small
            yield {
                "shape": f"{name}, bf16, {backend}",
                "forward, us": forward * 1e6,
                "forward and backward, us": both * 1e6,
                "share of the copy, forward": copying(of_forward, device) / forward,
                "share of the copy, both": copying(of_both, device) / both,
            }


def copying(count: int, device: torch.device) -> float:
    """Seconds to copy half as many bytes, which reads and writes so many together."""
    source = torch.randn(count // 8, device=device)
    target = torch.empty_like(source)
    return timed(lambda: target.copy_(source), device)


def times_of(value, logits, grad, backend: str, device: torch.device) -> tuple[float, float]:
    """Seconds forward, and forward with backward."""

    def forward():
        with torch.no_grad():
            return span_convolution(value, logits, backend=backend)

    def both():
        return torch.autograd.grad(
            span_convolution(value, logits, backend=backend), (value, logits), grad
        )

    return timed(forward, device), timed(both, device)


def timed(run, device: torch.device) -> float:
    """Seconds of a run; on a GPU of one in a recorded graph of many."""
    if device.type != "cuda":
        return seconds_of(run, device)
    return seconds_of(replays(run), device) / REPEATS


# In one graph, so that neither the host nor the launch of the graph is what is timed.
REPEATS = 20


def replays(run):
    """A graph of many runs: what the device needs, whatever the host does."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(REPEATS):
            run()
    return graph.replay


def stage(options: Options) -> Outcome:
    device, is_cuda = options.device, options.device.type == "cuda"
    cases = list(itertools.product(OPERATIONS, TOLERANCES, CHECKED))
    # Kernels are compiled case by case: several processes do it at once, before this one has
    # touched the GPU.
    processes = min(MOST_PROCESSES, os.cpu_count() or 1) if is_cuda else 1
    checked, undone = spread(
        lambda case, emit: check(case, device, emit), cases, processes, options.seconds * SHARE
    )
    wrong = [
        f"{what}: {error:.1e} > {bound:.1e}" for what, error, bound in checked if error > bound
    ]
    for line in wrong:
        print(f"WRONG {line}")
    largest = {}
    for what, error, bound in checked:
        dtype = what.split(", ")[1]
        largest[dtype] = max(largest.get(dtype, 0.0), error / bound)
    found = {**machine(device), "wrong": wrong, "largest share of the bound": largest}
    names = ", ".join(checked_backends(device))
    line = f"{len(checked) - len(wrong)} of {len(checked)} results of {names} within bounds"
    line += f", {undone} of {len(cases)} cases not done" if undone else ""
    keep(options, Outcome(FAIL, line, found))
    found |= rates(device, options.toy)
    for name, figure in found.items():
        print(f"{name}: {f'{figure:,.1f}' if isinstance(figure, float) else figure}", flush=True)
    found["timings"] = []
    for row in timings(device, options.toy):
        print({name: x if isinstance(x, str) else round(x, 3) for name, x in row.items()})
        found["timings"].append(row)
        shares = [row[f"share of the copy, {part}"] for part in ("forward", "both")]
        line += f"; {row['shape']}: {shares[0]:.0%} of copying forward, {shares[1]:.0%} both ways"
        keep(options, Outcome(FAIL, line, found))
    is_good = checked and not (wrong or undone)
    return Outcome(PASS if is_good else FAIL, line, found)


def machine(device: torch.device) -> dict:
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    return {"device": name, "torch": torch.__version__}


if __name__ == "__main__":
    run_stage(__doc__, stage)
