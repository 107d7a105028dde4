"""Training by CUDA graphs against the same training without.

A graph reads and writes the same memory at every replay, and what it needs no more may hold numbers
of others by then: so does what stands for it where there is no GPU.
"""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from convbert_plugin.modules.cuda_graphs import MOST_SHAPES, CudaRecorder, TrainingGraphs
from user_dir_tests.models.building import PAD, UNKNOWN, masked_batch, randomize, toy_model
from user_dir_tests.ops.dropping import go
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = [
    pytest.mark.speed,
    pytest.mark.slow,
    pytest.mark.usefixtures("by_torch_alone"),
]

SIZE, OTHER_SIZE = (3, 19), (5, 37)


@pytest.fixture(autouse=True)
def _operations_of_torch(monkeypatch):
    """Those alone are what a tape records."""
    go("torch", monkeypatch)


class Tape(TorchDispatchMode):
    """The operations that ran, in order, with the tensors that they read and wrote."""

    def __init__(self):
        super().__init__()
        self.calls, self.own = [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given = {memory_of(tensor) for tensor in tensors_of((*args, *(kwargs or {}).values()))}
        self.own += [tensor for tensor in tensors_of(result) if memory_of(tensor) not in given]
        self.calls.append((function, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self):
        for function, args, kwargs, result in self.calls:
            fresh = function(*args, **kwargs)
            for place, tensor in zip(tensors_of(result), tensors_of(fresh), strict=True):
                # What was written in place, and views, are there already.
                if memory_of(place) != memory_of(tensor):
                    place.copy_(tensor)

    @torch.no_grad()
    def spoil(self):
        """Overwrite all that the operations made, as others do that share the memory."""
        for tensor in self.own:
            tensor.fill_(float("nan") if tensor.is_floating_point() else 0)


def tensors_of(result):
    if torch.is_tensor(result):
        return [result]
    several = result if isinstance(result, (tuple, list)) else ()
    return [tensor for one in several for tensor in tensors_of(one)]


def memory_of(tensor):
    return tensor.untyped_storage().data_ptr()


class StandIn:
    """Does the operations of a function once more, from and into the same memory: no Python."""

    def __init__(self):
        self.tapes = []

    def prepare(self, function):
        function()

    def record(self, function):
        is_forward = len(self.tapes) % 2 == 0
        with Tape() as tape:
            result = function()
        self.tapes.append(tape)

        def replay():
            # Between the two passes of a batch, memory is its own.
            for each in self.tapes if is_forward else ():
                each.spoil()
            tape.replay()

        return replay, result


RECORDERS = {"cpu": StandIn, "cuda": CudaRecorder}


class Trained:
    """A model and the sum of two losses of it, by graphs or without."""

    def __init__(self, model, graphs=None):
        self.model, self.graphs = model, graphs

    def loss(self, size, has_pads=True):
        batch = masked_batch(*size)
        if not has_pads:
            batch["src_tokens"][batch["src_tokens"] == PAD] = UNKNOWN
        device = self.model.embeddings.tokens.weight.device
        inputs = [batch[name].to(device) for name in ("src_tokens", "masked_positions")]

        def losses(tokens, positions):
            guessed = self.model.masked_lm_log_probs(tokens, None, positions, has_pads)
            judged = self.model.replaced_logits(tokens, has_pads=has_pads)
            return guessed.square().mean() + judged.square().mean(), judged.detach()

        if self.graphs is None:
            return losses(*inputs)
        parameters = list(self.model.parameters())
        return self.graphs(losses, inputs, self.model, parameters, has_pads)

    def train(self, *batches, seed=1):
        """Losses and logits of the batches, and the gradients of the sum of the losses."""
        torch.manual_seed(seed)
        self.model.zero_grad()
        results = []
        for batch in batches:
            loss, logits = self.loss(*batch)
            loss.backward()
            results += [loss.detach(), logits]
        return [*results, *(parameter.grad.clone() for parameter in self.model.parameters())]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    return request.param


@pytest.fixture
def pair(device):
    """The same model twice: with graphs and without."""
    model = randomize(toy_model(generator=True, dropout=0.2, attention_dropout=0.1), std=0.3)
    model = model.to(device).double().train()
    return Trained(copy.deepcopy(model), TrainingGraphs(RECORDERS[device])), Trained(model)


def assert_same(pair, *batches, seed=1):
    graphed, expected = (each.train(*batches, seed=seed) for each in pair)
    for result, oracle in zip(graphed, expected, strict=True):
        assert torch.allclose(result, oracle, rtol=1e-9, atol=1e-12)


def recordings(pair):
    return len(pair[0].graphs.recordings)


def test_every_update_is_the_one_without_graphs(pair):
    """With the same random numbers, from the first sight of a shape on."""
    for seed in range(5):
        assert_same(pair, (SIZE,), seed=seed)
    assert recordings(pair) == 1


@pytest.mark.parametrize("context", ["around", "within"])
def test_weights_are_cast_anew_in_every_update(pair, device, context):
    """Under autocast, which keeps copies of them as long as its context lasts."""
    for each in pair:
        each.model.float().cfg.autocast_dtype = "bfloat16" if context == "within" else "float32"
    for seed in range(5):
        for each in pair:
            randomize(each.model, seed=seed, std=0.2)
        with torch.autocast(device, torch.bfloat16, enabled=context == "around"):
            graphed, expected = (each.train((SIZE,), (SIZE,)) for each in pair)
        for result, oracle in zip(graphed, expected, strict=True):
            assert relative_error(result, oracle) <= TOLERANCES[torch.bfloat16]["rounding"]
    assert recordings(pair) == 1


def test_gradients_add_up_over_batches_of_several_shapes(pair):
    batches = [(SIZE,), (SIZE,), (OTHER_SIZE,), (SIZE,), (OTHER_SIZE,), (SIZE, False)]
    for _ in range(4):
        assert_same(pair, *batches)
    # Recorded where the gradient of another batch waits.
    for _ in range(3):
        assert_same(pair, (SIZE,), ((4, 17),), (SIZE,))
    assert recordings(pair) == 4


def test_a_batch_that_waits_for_its_backward_pass_is_not_written_over(pair):
    """Of two batches that go backward together, the second is computed without graphs."""
    for _ in range(3):
        assert_same(pair, (SIZE,))
    results = []
    for each in pair:
        torch.manual_seed(1)
        each.model.zero_grad()
        (each.loss(SIZE)[0] + each.loss(SIZE)[0] * 2).backward()
        results.append([parameter.grad for parameter in each.model.parameters()])
    for result, oracle in zip(*results, strict=True):
        assert torch.allclose(result, oracle, rtol=1e-9, atol=1e-12)


def test_a_batch_that_never_goes_backward_is_forgotten(pair):
    for _ in range(3):
        assert_same(pair, (SIZE,))
    pair[0].loss(SIZE)
    assert pair[0].graphs.awaited() is None
    assert_same(pair, (SIZE,))


def test_a_pass_goes_backward_once(pair):
    for _ in range(3):
        assert_same(pair, (SIZE,))
    loss, _ = pair[0].loss(SIZE)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="leave --cuda-graphs out"):
        loss.backward()


def test_moved_parameters_are_recorded_anew(pair):
    for _ in range(3):
        assert_same(pair, (SIZE,))
    for each in pair:
        for parameter in each.model.parameters():
            parameter.data = parameter.data.clone()
    for _ in range(3):
        assert_same(pair, (SIZE,))
    assert recordings(pair) == 2


def test_frozen_parameters_get_no_gradient(pair):
    for each in pair:
        for parameter in each.model.generator.parameters():
            parameter.requires_grad = False
    for _ in range(3):
        for each in pair:
            each.model.zero_grad()
            each.loss(SIZE)[0].backward()
        gradients = [[p.grad for p in each.model.parameters()] for each in pair]
        assert [one is None for one in gradients[0]] == [one is None for one in gradients[1]]
    assert recordings(pair) == 1


def test_few_shapes_are_recorded(pair):
    for rows in range(1, MOST_SHAPES + 4):
        for _ in range(3):
            assert_same(pair, ((rows, 17),))
    assert recordings(pair) == MOST_SHAPES


def told(caplog):
    return [record.message for record in caplog.records if "CUDA graph" in record.message]


def test_what_cannot_be_recorded_goes_on_without(pair, device, caplog, monkeypatch):
    """The line tells the first of several errors."""

    def fail(self, function):
        try:
            raise RuntimeError("CUDA error: out of memory\nmore")
        finally:
            raise RuntimeError("a later one")

    monkeypatch.setattr(RECORDERS[device], "record", fail)
    for size in (SIZE, OTHER_SIZE) * 4:
        assert_same(pair, (size,))
    assert len(told(caplog)) == 1
    assert told(caplog)[0].endswith("from here on: CUDA error: out of memory")


class Forgetful(StandIn):
    """Leaves the last operation of every pass out."""

    def record(self, function):
        replay, result = super().record(function)
        self.tapes[-1].calls.pop()
        return replay, result


class Unlucky(StandIn):
    """Draws random numbers that the operations do not draw."""

    def record(self, function):
        replay, result = super().record(function)
        return lambda: (replay(), torch.rand(1)), result


@pytest.mark.parametrize("recorder", [Forgetful, Unlucky])
def test_graphs_that_compute_something_else_are_not_used(pair, device, caplog, recorder):
    if device == "cuda":
        pytest.skip("what stands for graphs runs on a CPU")
    pair[0].graphs.build_recorder = recorder
    for _ in range(4):
        assert_same(pair, (SIZE,))
    assert recordings(pair) == 0
    assert len(told(caplog)) == 1
