"""Training by CUDA graphs against the same training without.

A graph reads and writes the same memory at every replay: so does what stands for it where there is
no GPU.
"""

import copy
import pickle

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from convbert_plugin.modules import cuda_graphs
from convbert_plugin.modules.cuda_graphs import MOST_SHAPES, TrainingGraphs
from convbert_plugin.modules.training_passes import TrainingPass
from user_dir_tests.models.building import PAD, UNKNOWN, masked_batch, randomize, toy_model
from user_dir_tests.ops.dropping import go
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.speed

ON_GPU = torch.cuda.is_available()
SIZE, OTHER_SIZE = (3, 19), (5, 37)


@pytest.fixture(autouse=True)
def _operations_of_torch(monkeypatch):
    """Those alone are what a tape records."""
    go("torch", monkeypatch)


class Tape(TorchDispatchMode):
    """The operations that ran, in order, with the tensors that they read and wrote."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
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


def tensors_of(result):
    results = result if isinstance(result, (tuple, list)) else (result,)
    return [one for one in results if torch.is_tensor(one)]


def memory_of(tensor):
    return tensor.untyped_storage().data_ptr()


class StandIn:
    """Does the operations of a function once more, from and into the same memory: no Python."""

    def prepare(self, function):
        function()

    def record(self, function):
        with Tape() as tape:
            result = function()
        return tape.replay, result


class GraphedPass(TrainingPass):
    """By graphs alone, without a compiler."""

    def __init__(self, recorder):
        super().__init__(is_compiled=False, is_recomputed=False, is_graphed=False)
        self.graphs = TrainingGraphs(recorder)

    def __call__(self, stack, embedded, padding):
        def run(embedded, padding):
            return (self._through_layers(stack, embedded, padding),)

        return self.graphs(run, (embedded, padding), stack, list(stack.parameters()))[0]


def recorder_of(device):
    return StandIn if device == "cpu" else cuda_graphs.CudaRecorder


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    if request.param == "cuda" and not ON_GPU:
        pytest.skip("there is no GPU")
    return request.param


@pytest.fixture
def models(device):
    """The same model twice: with graphs and without."""
    expected = randomize(toy_model(generator=True, dropout=0.2, attention_dropout=0.1), std=0.3)
    expected = expected.to(device).double().train()
    model = copy.deepcopy(expected)
    for stack in (model.encoder, model.generator.stack):
        stack.training_pass = GraphedPass(recorder_of(device))
    return model, expected


def loss_of(model, size, has_pads=True):
    batch = masked_batch(*size)
    if not has_pads:
        batch["src_tokens"][batch["src_tokens"] == PAD] = UNKNOWN
    device = model.embeddings.tokens.weight.device
    tokens, positions = (batch[name].to(device) for name in ("src_tokens", "masked_positions"))
    guessed = model.masked_lm_log_probs(tokens, None, positions, has_pads)
    judged = model.replaced_logits(tokens, has_pads=has_pads)
    return guessed.square().mean() + judged.square().mean()


def train(model, *batches, seed=1):
    """The losses, and the gradients of their sum."""
    torch.manual_seed(seed)
    model.zero_grad()
    losses = []
    for batch in batches:
        loss = loss_of(model, *batch)
        loss.backward()
        losses.append(loss.detach())
    return [*losses, *(parameter.grad.clone() for parameter in model.parameters())]


def assert_same(models, *batches, seed=1):
    results = [train(model, *batches, seed=seed) for model in models]
    for result, expected in zip(*results, strict=True):
        assert torch.allclose(result, expected, rtol=1e-9, atol=1e-12)


def recordings(model):
    return [len(s.training_pass.graphs.recordings) for s in (model.encoder, model.generator.stack)]


def test_every_update_is_the_one_without_graphs(models):
    """With the same random numbers, from the first sight of a shape on."""
    for seed in range(5):
        assert_same(models, (SIZE,), seed=seed)
    assert recordings(models[0]) == [1, 1]


@pytest.mark.parametrize("context", ["around", "within"])
def test_weights_are_cast_anew_in_every_update(models, device, context):
    """Under autocast, which keeps copies of them as long as its context lasts."""
    for model in models:
        model.float()
        model.cfg.autocast_dtype = "bfloat16" if context == "within" else "float32"
    for seed in range(5):
        for model in models:
            randomize(model, seed=seed, std=0.2)
        with torch.autocast(device, torch.bfloat16, enabled=context == "around"):
            results = [train(model, (SIZE,), (SIZE,)) for model in models]
        for result, expected in zip(*results, strict=True):
            assert relative_error(result, expected) <= TOLERANCES[torch.bfloat16]["rounding"]
    assert recordings(models[0]) == [1, 1]


def test_gradients_add_up_over_batches_of_several_shapes(models):
    batches = [(SIZE,), (SIZE,), (OTHER_SIZE,), (SIZE,), (OTHER_SIZE,), (SIZE, False)]
    for _ in range(3):
        assert_same(models, *batches)
    assert recordings(models[0]) == [3, 3]


def test_a_batch_that_waits_for_its_backward_pass_is_not_written_over(models):
    """Of two batches that go backward together, the second is computed without graphs."""
    for _ in range(3):
        assert_same(models, (SIZE,))
    results = []
    for model in models:
        torch.manual_seed(1)
        model.zero_grad()
        (loss_of(model, SIZE) + loss_of(model, SIZE) * 2).backward()
        results.append([parameter.grad for parameter in model.parameters()])
    for result, expected in zip(*results, strict=True):
        assert torch.allclose(result, expected, rtol=1e-9, atol=1e-12)


def test_a_batch_that_never_goes_backward_is_forgotten(models):
    model, _ = models
    for _ in range(3):
        assert_same(models, (SIZE,))
    loss_of(model, SIZE)
    assert model.encoder.training_pass.graphs.awaited() is None
    assert_same(models, (SIZE,))


def test_a_pass_goes_backward_once(models):
    for _ in range(3):
        assert_same(models, (SIZE,))
    loss = loss_of(models[0], SIZE)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="leave --cuda-graphs out"):
        loss.backward()


def test_changed_parameters_are_read(models):
    for _ in range(3):
        assert_same(models, (SIZE,))
    for model in models:
        randomize(model, seed=2, std=0.2)
    assert_same(models, (SIZE,))
    assert recordings(models[0]) == [1, 1]


def test_moved_parameters_are_recorded_anew(models):
    for _ in range(3):
        assert_same(models, (SIZE,))
    for model in models:
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
    for _ in range(3):
        assert_same(models, (SIZE,))
    assert recordings(models[0]) == [2, 2]


def test_few_shapes_are_recorded(models):
    model, _ = models
    for rows in range(1, MOST_SHAPES + 4):
        for _ in range(3):
            assert_same(models, ((rows, 17),))
    assert recordings(model) == [MOST_SHAPES] * 2


def test_what_cannot_be_recorded_goes_on_without(models, caplog, monkeypatch):
    model, _ = models

    def fail(self, function):
        raise RuntimeError("CUDA error: out of memory\nmore")

    monkeypatch.setattr(model.encoder.training_pass.graphs.build_recorder, "record", fail)
    for size in (SIZE, OTHER_SIZE) * 4:
        assert_same(models, (size,))
    warnings = [record.message for record in caplog.records if "CUDA graph" in record.message]
    # One of each stack.
    assert len(warnings) == 2
    assert "out of memory" in warnings[0]


def test_copies_and_pickles_hold_no_graphs(models):
    for _ in range(3):
        assert_same(models, (SIZE,))
    for copied in (copy.deepcopy(models[0]), pickle.loads(pickle.dumps(models[0]))):
        assert recordings(copied) == [0, 0]
        assert_same((copied, models[1]), (SIZE,))
