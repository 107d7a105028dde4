"""Forward and backward passes as CUDA graphs: one launch each, instead of one for every kernel.

As ``torch.cuda.make_graphed_callables``, but for several shapes, beside threads that pin memory,
under autocast, and where gradients are added up over several batches.
"""

import contextlib
import gc
import logging
import weakref
from collections import Counter
from typing import Any, Callable, Hashable, Iterator, Optional, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import get_total_norm

logger = logging.getLogger(__name__)

MOST_SHAPES = 8
"""So many shapes of batches have graphs."""

SIGHTS = 2
"""A shape is recorded where it is seen for this time: what comes once is not worth it."""

WARM_UPS = 3
"""Passes before one is recorded, in which libraries prepare and compilers choose."""

APART = 1e-2
"""By how much of their norm, results of graphs may differ from those that they are checked by.

The kernels are the same. Some add up in any order, whose roundings show in half precision.
"""

Function = Callable[..., tuple[Tensor, ...]]
"""Of tensors that need no gradient; the first of the results, a number, goes backward."""
Replay = Callable[[], object]
"""Computes once more what was recorded, from and into the same memory."""


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
        ctx: Any,
        recording: "_Recording",
        awaited: _Awaited,
        inputs: Sequence[Tensor],
        *parameters: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.recording, ctx.awaited = recording, awaited
        first, *others = [output.clone() for output in recording.forward(inputs)]
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
        gradients = recording.backward(gradient)
        # Tensors of their own, which autograd takes over as the gradients of the parameters.
        return None, None, None, *(None if one is None else one.detach() for one in gradients)


class _Called(nn.Module):
    """Makes of a function of a module a module, whose parameters may be others for a call."""

    def __init__(self, module: nn.Module, function: Function):
        super().__init__()
        self.module, self.function = module, function

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.function(*inputs)


class _Recording:
    """Both passes of one shape, and the tensors that they read and write.

    ``places``: where the gradient of each parameter that is trained is left, outside of the memory
    that recordings share: it may wait there while others are replayed.

    Raises:
        RuntimeError: what cannot be recorded, or is not what the function computes.
    """

    def __init__(
        self,
        function: Function,
        inputs: Sequence[Tensor],
        module: nn.Module,
        places: Sequence[Tensor],
        recorder: CudaRecorder,
    ):
        self.inputs = [one.clone() for one in inputs]
        self.parameters = [one for one in module.parameters() if one.requires_grad]
        self.places = places
        self.called = _Called(module, function)
        # The same numbers under another name: autograd adds up the gradients of a parameter on the
        # stream on which it was first used, as long as anything waits for them there.
        self.aliases: dict[str, Tensor] = {
            f"module.{name}": nn.Parameter(one.detach(), one.requires_grad)
            for name, one in module.named_parameters()
        }
        self.computed: list[Tensor] = []
        self.output_gradient = torch.ones(())
        self.release_gradients()
        with _aside(self.inputs[0].device):
            recorder.prepare(self._compute)
            self.replay_forward, self.outputs = recorder.record(self._compute_forward)
            self.replay_backward, self.has_gradient = recorder.record(self._compute_backward)
        self._check()
        self.computed.clear()

    def forward(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """What the function returns, where the next replay writes."""
        torch._foreach_copy_(self.inputs, list(inputs))
        self.replay_forward()
        return self.outputs

    def backward(self, gradient: Tensor) -> list[Optional[Tensor]]:
        """The gradients of the parameters, where the next replay writes; None of those unused."""
        self.output_gradient.copy_(gradient)
        self.replay_backward()
        return [
            place if has_gradient else None
            for place, has_gradient in zip(self.places, self.has_gradient, strict=True)
        ]

    def release_gradients(self) -> None:
        """Move gradients away that still wait where those of the next batch will be written."""
        for parameter, place in zip(self.parameters, self.places, strict=True):
            gradient = parameter.grad
            if gradient is not None and gradient.data_ptr() == place.data_ptr():
                parameter.grad = gradient.clone()

    def _compute_forward(self) -> tuple[Tensor, ...]:
        # Not by what autocast cast before.
        torch.clear_autocast_cache()
        self.computed.clear()
        self.computed += functional_call(self.called, self.aliases, tuple(self.inputs))
        return tuple(output.detach() for output in self.computed)

    def _compute_backward(self) -> list[bool]:
        trained = [alias for alias in self.aliases.values() if alias.requires_grad]
        gradients = torch.autograd.grad(
            self.computed[0], trained, self.output_gradient, allow_unused=True
        )
        for place, gradient in zip(self.places, gradients, strict=True):
            if gradient is not None:
                place.copy_(gradient)
        return [gradient is not None for gradient in gradients]

    def _compute(self) -> None:
        self.output_gradient = torch.ones_like(self._compute_forward()[0])
        self._compute_backward()
        self.computed.clear()

    def _check(self) -> None:
        launched, state = self._results(self._launch)
        replayed, state_after_replay = self._results(self._replay)
        if not torch.equal(state, state_after_replay):
            raise RuntimeError("a graph draws as many random numbers as the kernels, and did not")
        for name, part in (("loss", slice(1)), ("gradients", slice(1, None))):
            pairs = zip(launched[part], replayed[part], strict=True)
            apart = get_total_norm([one - other for one, other in pairs])
            if not apart <= APART * get_total_norm(launched[part]):
                raise RuntimeError(f"a graph computes other {name} than the kernels that it holds")

    def _results(self, run: Callable[[], Tensor]) -> tuple[list[Tensor], Tensor]:
        """Loss and gradients, and the state of the random numbers after them."""
        device = self.inputs[0].device
        with _aside(device):
            torch._foreach_zero_(list(self.places))
            loss = run()
            state = torch.cuda.get_rng_state(device) if loss.is_cuda else torch.get_rng_state()
            return [loss.clone(), *(place.clone() for place in self.places)], state

    def _launch(self) -> Tensor:
        loss = self._compute_forward()[0]
        self._compute_backward()
        return loss

    def _replay(self) -> Tensor:
        self.replay_forward()
        self.replay_backward()
        return self.outputs[0]


class TrainingGraphs:
    """The graphs of a function of a module and of inputs, by the shapes of the inputs."""

    def __init__(self, recorder: Callable[[], CudaRecorder] = CudaRecorder):
        self.build_recorder = recorder
        self.recorder: Optional[CudaRecorder] = None
        self.recordings: dict[tuple, _Recording] = {}
        self.places: dict[tuple, Tensor] = {}
        self.seen: Counter = Counter()
        self.has_failed = False
        self.awaited: Callable[[], Optional[_Awaited]] = lambda: None

    def __call__(
        self,
        function: Function,
        inputs: Sequence[Tensor],
        module: nn.Module,
        parameters: Sequence[Tensor],
        constants: Hashable = None,
    ) -> tuple[Tensor, ...]:
        """What the function returns, computed by graphs where there are some.

        ``module``: whose ``parameters`` it reads; ``constants``: what it depends on besides.
        """
        # Until the one batch has gone backward, another would overwrite what it needs.
        if self.awaited() is not None:
            return function(*inputs)
        key = (constants, *map(_kind, inputs), _autocast(parameters), *map(_place, parameters))
        recording = self._recording(key, function, inputs, module)
        if recording is None:
            return function(*inputs)
        awaited = _Awaited()
        self.awaited = weakref.ref(awaited)
        return _ReplayedPass.apply(recording, awaited, inputs, *recording.parameters)

    def _recording(
        self, key: tuple, function: Function, inputs: Sequence[Tensor], module: nn.Module
    ) -> Optional[_Recording]:
        if key in self.recordings:
            return self.recordings[key]
        self.seen[key] += 1
        is_full = len(self.recordings) == MOST_SHAPES
        if self.seen[key] != SIGHTS or is_full or self.has_failed:
            return None
        self.recorder = self.recorder or self.build_recorder()
        places = [self._place_of(one) for one in module.parameters() if one.requires_grad]
        try:
            recording = _Recording(function, inputs, module, places, self.recorder)
        except RuntimeError as error:
            # Nothing more is recorded into memory whose recording broke off.
            self.has_failed = True
            shape = tuple(inputs[-1].shape)
            told = f"no CUDA graphs for batches as of {shape} from here on"
            logger.warning(f"{told}: {_cause(error)}")
            return None
        self.recordings[key] = recording
        return recording

    def _place_of(self, parameter: Tensor) -> Tensor:
        """Where all recordings leave the gradient of a parameter."""
        kind = (id(parameter), parameter.dtype, parameter.device)
        if kind not in self.places:
            self.places[kind] = torch.zeros_like(parameter, requires_grad=False)
        return self.places[kind]


@contextlib.contextmanager
def _aside(device: torch.device) -> Iterator[None]:
    """What runs meanwhile leaves random numbers and autocast as they are; nothing is collected."""
    collects = gc.isenabled()
    gc.collect()
    gc.disable()
    torch.clear_autocast_cache()
    try:
        with torch.random.fork_rng([device.index] if device.type == "cuda" else []):
            yield
    finally:
        torch.clear_autocast_cache()
        if collects:
            gc.enable()


def _cause(error: BaseException) -> str:
    """The first line of the first of several errors."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error).strip().partition("\n")[0]


def _kind(tensor: Tensor) -> tuple:
    return tensor.shape, tensor.dtype


def _place(parameter: Tensor) -> tuple:
    return parameter.data_ptr(), parameter.requires_grad


def _autocast(parameters: Sequence[Tensor]) -> object:
    kind = parameters[0].device.type
    return torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind)
