"""Forward and backward passes as CUDA graphs: one launch each, instead of one for every kernel.

As ``torch.cuda.make_graphed_callables``, but for several shapes, beside threads that pin memory,
under autocast, and where gradients are added up over several batches.
"""

import contextlib
import logging
import weakref
from collections import Counter
from typing import Any, Callable, Hashable, Iterator, Optional, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

logger = logging.getLogger(__name__)

MOST_SHAPES = 8
"""So many shapes of batches have graphs; each holds the gradients of all parameters."""

SIGHTS = 2
"""A shape is recorded where it is seen for this time: what comes once is not worth it."""

WARM_UPS = 3
"""Passes before one is recorded, in which libraries prepare and compilers choose."""

Function = Callable[..., tuple[Tensor, ...]]
"""Of inputs, each a tensor or None; the first of the results goes backward."""
Replay = Callable[[], object]
"""Computes once more what was recorded, from and into the same memory."""

_is_recording = False


class CudaRecorder:
    """Records what functions launch; all that one recorder records shares its memory.

    What prepares is launched on the stream that is recorded: what libraries and autograd keep for a
    stream is there before, outside of the memory that is shared.
    """

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream()

    def prepare(self, function: Callable[[], object]) -> None:
        """Run a function as often as it takes before it can be recorded."""
        torch.cuda.synchronize()
        with torch.cuda.stream(self.stream):
            for _ in range(WARM_UPS):
                function()
        torch.cuda.synchronize()

    def record(self, function: Callable[[], Any]) -> tuple[Replay, Any]:
        """What replays a function, and the tensors that it returns then too."""
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as the one that pins the memory of batches, go on meanwhile.
        with torch.cuda.graph(
            graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"
        ):
            result = function()
        return graph.replay, result


class _Awaited:
    """Lives until the backward pass of a replayed forward pass has come, or never can."""


class _ReplayedPass(torch.autograd.Function):
    """Copies inputs to where the graphs read them, and replays the graphs."""

    @staticmethod
    def forward(
        ctx: Any, recording: "_Recording", awaited: _Awaited, *tensors: Optional[Tensor]
    ) -> tuple[Tensor, ...]:
        ctx.recording, ctx.awaited = recording, awaited
        recording.take(tensors)
        recording.replay_forward()
        first, *others = recording.outputs
        # Losses and what is logged are kept, past the next replay; hidden states are used before.
        first = first.detach() if first.dim() else first.clone()
        others = [output.clone() for output in others]
        ctx.mark_non_differentiable(*others)
        return first, *others

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, *others: Tensor) -> tuple[Optional[Tensor], ...]:
        if ctx.awaited is None:
            raise RuntimeError("this pass went backward before: leave --cuda-graphs out")
        ctx.awaited = None
        recording: _Recording = ctx.recording
        recording.release_gradients()
        recording.output_gradient.copy_(gradient)
        recording.replay_backward()
        # Tensors of their own, which autograd takes over as the gradients of the parameters.
        gradients = iter([None if one is None else one.detach() for one in recording.gradients])
        return tuple(next(gradients) if is_needed else None for is_needed in ctx.needs_input_grad)


class _Called(nn.Module):
    """Makes of a function of a module a module, whose parameters may be others for a call."""

    def __init__(self, module: nn.Module, function: Function):
        super().__init__()
        self.module, self.function = module, function

    def forward(self, *inputs: Optional[Tensor]) -> tuple[Tensor, ...]:
        return self.function(*inputs)


class _Recording:
    """Both passes of one shape, and the tensors that they read and write."""

    def __init__(
        self,
        function: Function,
        inputs: Sequence[Optional[Tensor]],
        module: nn.Module,
        recorder: CudaRecorder,
    ):
        self.inputs = [
            None if one is None else one.detach().clone().requires_grad_(one.requires_grad)
            for one in inputs
        ]
        self.places = [one.detach() for one in self.inputs if one is not None]
        self.parameters = [one for one in module.parameters() if one.requires_grad]
        # The same numbers under another name: autograd adds up the gradients of a parameter on the
        # stream on which it was first used, as long as anything waits for them there.
        aliases: dict[str, Tensor] = {
            f"module.{name}": nn.Parameter(one.detach(), one.requires_grad)
            for name, one in module.named_parameters()
        }
        sources = [
            one
            for one in (*self.inputs, *aliases.values())
            if one is not None and one.requires_grad
        ]
        called = _Called(module, function)
        computed: list[Tensor] = []
        self.output_gradient = torch.zeros(())

        def forward() -> tuple[Tensor, ...]:
            computed.clear()
            computed.extend(functional_call(called, aliases, tuple(self.inputs)))
            return tuple(computed)

        def backward() -> tuple[Optional[Tensor], ...]:
            return torch.autograd.grad(
                computed[0], sources, self.output_gradient, allow_unused=True
            )

        def both() -> None:
            # Each time anew, as it is recorded: no copy of a weight that autocast made before.
            torch.clear_autocast_cache()
            self.output_gradient = torch.zeros_like(forward()[0])
            backward()
            computed.clear()
            torch.clear_autocast_cache()

        devices = [self.places[0].device.index] if self.places[0].is_cuda else []
        with _recording(), torch.random.fork_rng(devices):
            recorder.prepare(both)
            self.replay_forward, outputs = recorder.record(forward)
            self.replay_backward, self.gradients = recorder.record(backward)
        self.outputs = [output.detach() for output in outputs]

    def take(self, tensors: Sequence[Optional[Tensor]]) -> None:
        """Copy the inputs, which stand first among the tensors, to where they are read."""
        given = [one for one in tensors[: len(self.inputs)] if one is not None]
        torch._foreach_copy_(self.places, given)

    def release_gradients(self) -> None:
        """Move gradients away that still wait where those of the next batch will be written."""
        own = {gradient.data_ptr() for gradient in self.gradients if gradient is not None}
        for parameter in self.parameters:
            if parameter.grad is not None and parameter.grad.data_ptr() in own:
                parameter.grad = parameter.grad.clone()


class TrainingGraphs:
    """The graphs of a function of inputs and parameters, by the shapes of the inputs."""

    def __init__(self, recorder: Callable[[], CudaRecorder] = CudaRecorder):
        self.build_recorder = recorder
        self.recorder: Optional[CudaRecorder] = None
        self.recordings: dict[tuple, _Recording] = {}
        self.seen: Counter = Counter()
        self.has_failed = False
        self.awaited: Callable[[], Optional[_Awaited]] = lambda: None

    def __reduce__(self) -> tuple:
        """Copies and pickles hold no graphs."""
        return TrainingGraphs, (self.build_recorder,)

    def __call__(
        self,
        function: Function,
        inputs: Sequence[Optional[Tensor]],
        module: nn.Module,
        parameters: Sequence[Tensor],
        constants: Hashable = None,
    ) -> tuple[Tensor, ...]:
        """What the function returns, computed by graphs where there are some.

        ``module``: whose ``parameters`` it reads; ``constants``: what it depends on besides.
        """
        # Until the one batch has gone backward, another would overwrite what it needs.
        if _is_recording or self.awaited() is not None:
            return function(*inputs)
        key = (constants, *map(_kind, inputs), _autocast(parameters), *map(_place, parameters))
        recording = self._recording(key, function, inputs, module)
        if recording is None:
            return function(*inputs)
        awaited = _Awaited()
        self.awaited = weakref.ref(awaited)
        return _ReplayedPass.apply(recording, awaited, *inputs, *recording.parameters)

    def _recording(
        self,
        key: tuple,
        function: Function,
        inputs: Sequence[Optional[Tensor]],
        module: nn.Module,
    ) -> Optional[_Recording]:
        if key in self.recordings:
            return self.recordings[key]
        self.seen[key] += 1
        is_full = len(self.recordings) == MOST_SHAPES
        if self.seen[key] != SIGHTS or is_full or self.has_failed:
            return None
        self.recorder = self.recorder or self.build_recorder()
        try:
            recording = _Recording(function, inputs, module, self.recorder)
        except RuntimeError as error:
            # Nothing more is recorded into memory whose recording broke off.
            self.has_failed = True
            reason = str(error).strip().partition("\n")[0]
            shapes = [tuple(one.shape) for one in inputs if one is not None]
            logger.warning(f"no CUDA graphs for batches as of {shapes[0]} from here on: {reason}")
            return None
        self.recordings[key] = recording
        return recording


@contextlib.contextmanager
def _recording() -> Iterator[None]:
    """Graphs do not record graphs, and keep no copies of weights that autocast has made before."""
    global _is_recording
    _is_recording = True
    torch.clear_autocast_cache()
    try:
        yield
    finally:
        torch.clear_autocast_cache()
        _is_recording = False


def _kind(tensor: Optional[Tensor]) -> tuple:
    return () if tensor is None else (tensor.shape, tensor.dtype, tensor.requires_grad)


def _place(parameter: Tensor) -> tuple:
    return parameter.data_ptr(), parameter.requires_grad


def _autocast(parameters: Sequence[Tensor]) -> object:
    kind = parameters[0].device.type
    return torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind)
