"""Forward and backward passes as CUDA graphs: one launch each, instead of one for every kernel.

As ``torch.cuda.make_graphed_callables``, but for several shapes, beside threads that pin memory, and
where gradients are added up over several batches. Autocast must keep no copies of weights meanwhile
(``cache_enabled=False``): graphs would go on with those of the first batch.
"""

import logging
import weakref
from collections import Counter
from typing import Any, Callable, Optional, Sequence

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

MOST_SHAPES = 8
"""So many shapes of batches have graphs; each holds the gradients of all parameters."""

SIGHTS = 2
"""A shape is recorded where it is seen for this time: what comes once is not worth it."""

WARM_UPS = 3
"""Passes before one is recorded, in which libraries prepare and compilers choose."""

Function = Callable[[Tensor, Optional[Tensor]], Tensor]
"""Shapes: states [B, T, E], padding [B, T] or None -> [B, T, C]."""
Replay = Callable[[], object]
"""Computes once more what was recorded, from and into the same memory."""


class CudaRecorder:
    """Records what functions launch; all that one recorder records shares its memory."""

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()

    def prepare(self, function: Callable[[], object]) -> None:
        """Run a function as often as it takes before it can be recorded."""
        torch.cuda.synchronize()
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(WARM_UPS):
                function()
        torch.cuda.synchronize()

    def record(self, function: Callable[[], Any]) -> tuple[Replay, Any]:
        """What replays a function, and the tensors that it returns then too."""
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as the one that pins the memory of batches, go on meanwhile.
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            result = function()
        return graph.replay, result


class _Awaited:
    """Lives until the backward pass of a replayed forward pass has come, or never can."""


class _ReplayedPass(torch.autograd.Function):
    """Copies inputs to where the graphs read them, and replays the graphs."""

    @staticmethod
    def forward(
        ctx: Any,
        recording: "_Recording",
        awaited: _Awaited,
        states: Tensor,
        padding: Optional[Tensor],
        *parameters: Tensor,
    ) -> Tensor:
        ctx.recording, ctx.awaited = recording, awaited
        recording.states.detach().copy_(states)
        if recording.padding is not None:
            recording.padding.copy_(padding)
        recording.replay_forward()
        return recording.output.detach()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Optional[Tensor], ...]:
        if ctx.awaited is None:
            raise RuntimeError("this pass went backward before: leave out --compile to repeat it")
        ctx.awaited = None
        recording: _Recording = ctx.recording
        recording.release_gradients()
        recording.output_gradient.copy_(gradient)
        recording.replay_backward()
        # Tensors of their own, which autograd takes over as the gradients of the parameters.
        gradients = iter([gradient.detach() for gradient in recording.gradients])
        return tuple(next(gradients) if is_needed else None for is_needed in ctx.needs_input_grad)


class _Recording:
    """Both passes of one shape, and the tensors that they read and write."""

    def __init__(
        self,
        function: Function,
        states: Tensor,
        padding: Optional[Tensor],
        parameters: Sequence[Tensor],
        recorder: CudaRecorder,
    ):
        self.states = states.detach().clone().requires_grad_(states.requires_grad)
        self.padding = None if padding is None else padding.clone()
        self.parameters = parameters
        inputs = [one for one in (self.states, *parameters) if one.requires_grad]
        self.output_gradient = torch.zeros(())

        computed: list[Tensor] = []

        def forward() -> Tensor:
            computed[:] = [function(self.states, self.padding)]
            return computed[0]

        def backward() -> tuple[Tensor, ...]:
            return torch.autograd.grad(computed, inputs, [self.output_gradient])

        def both() -> None:
            self.output_gradient = torch.zeros_like(forward())
            backward()

        devices = [states.device.index] if states.is_cuda else []
        with torch.random.fork_rng(devices):
            recorder.prepare(both)
            self.replay_forward, output = recorder.record(forward)
            self.replay_backward, self.gradients = recorder.record(backward)
        self.output = output.detach()

    def release_gradients(self) -> None:
        """Move gradients away that still wait where those of the next batch will be written."""
        own = {gradient.data_ptr() for gradient in self.gradients}
        for parameter in self.parameters:
            if parameter.grad is not None and parameter.grad.data_ptr() in own:
                parameter.grad = parameter.grad.clone()


class TrainingGraphs:
    """The graphs of a function of inputs and parameters, by the shapes of the inputs."""

    def __init__(self, recorder: Callable[[], CudaRecorder] = CudaRecorder):
        self.build_recorder, self.recorder = recorder, None
        self.recordings: dict[tuple, _Recording] = {}
        self.seen: Counter = Counter()
        self.awaited: Callable[[], Optional[_Awaited]] = lambda: None

    def __reduce__(self) -> tuple:
        """Copies and pickles hold no graphs."""
        return TrainingGraphs, (self.build_recorder,)

    def __call__(
        self,
        function: Function,
        states: Tensor,
        padding: Optional[Tensor],
        parameters: Sequence[Tensor],
    ) -> Tensor:
        """What the function returns, computed by graphs where there are some."""
        # Until the one batch has gone backward, another would overwrite what it needs.
        if self.awaited() is not None:
            return function(states, padding)
        recording = self._recording(function, states, padding, parameters)
        if recording is None:
            return function(states, padding)
        awaited = _Awaited()
        self.awaited = weakref.ref(awaited)
        return _ReplayedPass.apply(recording, awaited, states, padding, *recording.parameters)

    def _recording(
        self,
        function: Function,
        states: Tensor,
        padding: Optional[Tensor],
        parameters: Sequence[Tensor],
    ) -> Optional[_Recording]:
        key = _key(states, padding, parameters)
        if key in self.recordings:
            return self.recordings[key]
        self.seen[key] += 1
        if self.seen[key] != SIGHTS or len(self.recordings) == MOST_SHAPES:
            return None
        self.recorder = self.recorder or self.build_recorder()
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        try:
            recording = _Recording(function, states, padding, trained, self.recorder)
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0]
            logger.warning(f"no CUDA graph for batches of {tuple(states.shape[:2])}: {reason}")
            return None
        self.recordings[key] = recording
        return recording


def _key(states: Tensor, padding: Optional[Tensor], parameters: Sequence[Tensor]) -> tuple:
    """All by which recorded passes differ, where the parameters lie among it."""
    kind = states.device.type
    return (
        tuple(states.shape),
        states.dtype,
        states.requires_grad,
        padding is None,
        torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind),
        *((parameter.data_ptr(), parameter.requires_grad) for parameter in parameters),
    )
