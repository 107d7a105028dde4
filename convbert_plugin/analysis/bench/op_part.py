"""The dynamic convolution alone, softmax over its taps included."""

from functools import partial
from typing import Any, Callable, Iterable, Iterator, Mapping

import torch
import torch.nn.functional as F
from fairseq.modules.dynamic_convolution import DynamicConv1dTBC
from torch import Tensor, nn

from convbert_plugin.analysis.bench.comparing import (
    ALLOWED,
    Comparison,
    Difference,
    Work,
    Workload,
    farthest,
)
from convbert_plugin.analysis.bench.costs import OpSize
from convbert_plugin.analysis.bench.machine import DTYPES, kernel_clock
from convbert_plugin.analysis.bench.plan import OP_BATCH, SEED, Plan
from convbert_plugin.errors import UserError
from convbert_plugin.models.architectures import ARCHITECTURES
from convbert_plugin.modules.shape import released_heads
from convbert_plugin.ops.convolution_backends import BACKENDS, available
from convbert_plugin.ops.span_convolution import span_convolution

PART = "op"
UNFOLD, COPY = "unfold, as transformers", "copying as much"
OWN = "here, {}"
OF_FAIRSEQ = "fairseq's DynamicConv1dTBC, {}"
DIRECTIONS = {"forward": False, "forward + backward": True}

Make = Callable[[], Any]
Op = Callable[[Tensor, Tensor], Tensor]
"""Value [B, T, C] and logits [B, T, H, K] -> [B, T, C], or all three time first."""


def unfolded(value: Tensor, logits: Tensor) -> Tensor:
    """As transformers computes it. Source: its modeling_convbert.py."""
    batch, length, channels = value.shape
    heads, taps = logits.shape[2:]
    kernel = logits.reshape(-1, taps, 1).softmax(dim=1)
    columns = F.unfold(
        value.transpose(1, 2).contiguous().unsqueeze(-1), (taps, 1), padding=(taps // 2, 0)
    )
    windows = columns.transpose(1, 2).reshape(-1, channels // heads, taps)
    return torch.matmul(windows, kernel).reshape(batch, length, channels)


class _AsItIs(nn.Identity):
    """In place of a linear layer, of which fairseq asks how much comes out."""

    def __init__(self, out_features: int):
        super().__init__()
        self.out_features = out_features


class OfFairseq(nn.Module):
    """fairseq's own code, given its layout [T, B, C] and the logits as they are."""

    def __init__(self, size: OpSize, is_unfolded: bool):
        super().__init__()
        self.module = DynamicConv1dTBC(
            size.channels,
            size.taps,
            padding_l=size.taps // 2,
            num_heads=size.heads,
            weight_softmax=True,
            query_size=size.heads * size.taps,
        )
        self.module.weight_linear = _AsItIs(size.heads * size.taps)
        self.is_unfolded = is_unfolded

    def forward(self, value: Tensor, logits: Tensor) -> Tensor:
        return self.module(value, query=logits.flatten(2), unfold=self.is_unfolded)


class Convolution(Workload):
    """One implementation on its inputs; ``run`` is timed.

    It goes round so many sets of inputs that none is in a cache when its turn comes.
    """

    def __init__(
        self,
        op: Op,
        inputs: Mapping[str, Tensor],
        backward: bool,
        time_first: bool = False,
        uncached: int = 0,
    ):
        turned = {
            name: tensor.transpose(0, 1).contiguous() if time_first else tensor
            for name, tensor in inputs.items()
        }
        self.op, self.time_first, self.backward = op, time_first, backward
        self.uncached = uncached
        self.sets = [_with_gradients(turned, backward)]
        self.turn = 0
        self.run = self.gradients if backward else self.output

    def prepare(self) -> None:
        first = self.sets[0]
        moved = sum(tensor.nbytes for tensor in first.values())
        for _ in range(self.uncached // moved):
            copies = {name: tensor.detach().clone() for name, tensor in first.items()}
            self.sets.append(_with_gradients(copies, self.backward))

    def _next(self) -> Mapping[str, Tensor]:
        self.turn += 1
        return self.sets[self.turn % len(self.sets)]

    def output(self) -> Tensor:
        inputs = self._next()
        return self.op(inputs["value"], inputs["logits"])

    def gradients(self) -> tuple[Tensor, ...]:
        """Output and the gradients of both inputs."""
        inputs = self._next()
        value, logits = inputs["value"], inputs["logits"]
        output = self.op(value, logits)
        return output, *torch.autograd.grad(output, (value, logits), inputs["grad_output"])

    def results(self) -> list[Tensor]:
        """What is timed, batch first in float64."""
        tensors = self.gradients() if self.backward else (self.output(),)
        return [
            (tensor.transpose(0, 1) if self.time_first else tensor).detach().double()
            for tensor in tensors
        ]


def _with_gradients(tensors: Mapping[str, Tensor], backward: bool) -> dict[str, Tensor]:
    return {
        name: tensor.detach().requires_grad_(backward and name != "grad_output")
        for name, tensor in tensors.items()
    }


class Copying(Workload):
    """Half as many bytes from one tensor into another as the op must read and write.

    It goes round as many pairs as the op has sets.
    """

    def __init__(self, moved: int, device: str, uncached: int):
        self.moved, self.device, self.uncached = moved, device, uncached
        self.pairs = [self._pair()]
        self.turn = 0

    def _pair(self) -> tuple[Tensor, Tensor]:
        source = torch.ones(self.moved // 2, dtype=torch.uint8, device=self.device)
        return source, torch.zeros_like(source)

    def prepare(self) -> None:
        self.pairs += [self._pair() for _ in range(self.uncached // self.moved)]

    def run(self) -> None:
        self.turn += 1
        source, target = self.pairs[self.turn % len(self.pairs)]
        target.copy_(source)


def op_inputs(size: OpSize, dtype: str, device: str) -> dict[str, Tensor]:
    """Random value, logits and gradient of the output, the same for every implementation."""
    generator = torch.Generator().manual_seed(SEED)
    shape = (size.batch, size.length, size.channels)
    shapes = {"value": shape, "logits": (*shape[:2], size.heads, size.taps), "grad_output": shape}
    return {
        name: torch.randn(dims, generator=generator).to(device, DTYPES[dtype])
        for name, dims in shapes.items()
    }


def op_size(plan: Plan, arch: str) -> OpSize:
    """Of one layer of that architecture."""
    options = {**ARCHITECTURES[arch], **dict(plan.sizes.options)}
    heads = released_heads(
        options["encoder_embed_dim"], options["encoder_attention_heads"], options["head_ratio"]
    )
    batch = plan.batch or (OP_BATCH if plan.device == "cpu" else plan.setting(arch).batch)
    return OpSize(batch, plan.length, heads.width, heads.number, options["conv_kernel_size"])


def implementations(size: OpSize, backends: Iterable[str]) -> dict[str, tuple[Make, bool]]:
    """Each by its name: how to make it, and whether it wants time first."""
    own = {
        OWN.format(name): (lambda name=name: partial(span_convolution, backend=name), False)
        for name in backends
    }
    return {
        UNFOLD: (lambda: unfolded, False),
        OF_FAIRSEQ.format("unfolded"): (lambda: OfFairseq(size, True), True),
        OF_FAIRSEQ.format("expanded"): (lambda: OfFairseq(size, False), True),
        **own,
    }


def backends_of(plan: Plan) -> list[str]:
    """Those that are asked for, or else all that can compute here, but for the slow reference."""
    can = available(torch.empty(0, device=plan.device, dtype=DTYPES[plan.dtype]))
    if unknown := [name for name in plan.backends if name not in BACKENDS]:
        raise UserError(f"--backends {','.join(unknown)}: choose from {', '.join(BACKENDS)}")
    if absent := [name for name in plan.backends if name not in can]:
        raise UserError(
            f"--backends {','.join(absent)}: cannot compute here: choose from {', '.join(can)}"
        )
    return list(plan.backends) or [name for name in can if name != "reference"]


def op_comparisons(plan: Plan) -> Iterator[Comparison]:
    """Forward, and forward with backward, in every size."""
    for arch in plan.archs:
        size = op_size(plan, arch)
        for direction, backward in DIRECTIONS.items():
            yield _comparison(plan, arch, size, direction, backward)


def _comparison(plan: Plan, arch: str, size: OpSize, direction: str, backward: bool) -> Comparison:
    itemsize = DTYPES[plan.dtype].itemsize
    moved = size.numbers(backward) * itemsize

    def build(make: Make, time_first: bool) -> Convolution:
        inputs = op_inputs(size, plan.dtype, plan.device)
        return Convolution(make(), inputs, backward, time_first, plan.sizes.uncached)

    def check(workloads: Mapping[str, Any]) -> dict[str, Difference]:
        inputs = op_inputs(size, plan.dtype, plan.device)
        exact = {name: tensor.double() for name, tensor in inputs.items()}
        expected = Convolution(unfolded, exact, backward).results()
        allowed = ALLOWED[plan.dtype][0]
        return {
            name: Difference(
                "unfold in float64",
                farthest(zip(load.results(), expected, strict=True)),
                allowed,
            )
            for name, load in workloads.items()
            if isinstance(load, Convolution)
        }

    builds: dict[str, Callable[[], Any]] = {
        name: partial(build, make, time_first)
        for name, (make, time_first) in implementations(size, backends_of(plan)).items()
    }
    words = f"{size.batch} x {size.length} x {size.channels}, {size.taps} taps, {plan.dtype}"
    return Comparison(
        part=PART,
        title=f"{direction}, {arch.removeprefix('convbert_')}, {words}",
        work=Work(size.batch * size.length, size.flops(backward), moved),
        build={**builds, COPY: lambda: Copying(moved, plan.device, plan.sizes.uncached)},
        baseline=UNFOLD,
        check=check,
        clock=kernel_clock(plan.device),
        device=plan.device,
        copying=COPY,
        works={COPY: Work(size.batch * size.length, 0, moved)},
    )
