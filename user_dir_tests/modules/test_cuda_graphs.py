"""Training by CUDA graphs against the same training without.

A graph reads and writes memory of its own, once more at every replay: so does what stands for it
where there is no GPU.
"""

import copy
import pickle

import pytest
import torch

from convbert_plugin.modules import cuda_graphs
from convbert_plugin.modules.cuda_graphs import MOST_SHAPES, TrainingGraphs
from convbert_plugin.modules.training_passes import TrainingPass
from user_dir_tests.models.building import PAD, UNKNOWN, masked_batch, randomize, toy_model

pytestmark = pytest.mark.speed

ON_GPU = torch.cuda.is_available()
SIZE, OTHER_SIZE = (3, 19), (5, 37)


class StandIn:
    """Runs a function anew, and copies its results to where the first ones stand."""

    def prepare(self, function):
        function()

    def record(self, function):
        result = function()

        @torch.enable_grad()
        def replay():
            for place, tensor in zip(as_tuple(result), as_tuple(function()), strict=True):
                place.data.copy_(tensor)

        return replay, result


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


class GraphedPass(TrainingPass):
    """By graphs alone, without a compiler."""

    def __init__(self, recorder):
        super().__init__(is_compiled=False, is_recomputed=False)
        self.graphs = TrainingGraphs(recorder)

    def __call__(self, stack, embedded, padding):
        def run(embedded, padding):
            return (self._through_layers(stack, embedded, padding),)

        return self.graphs(run, (embedded, padding), list(stack.parameters()))[0]


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
    with pytest.raises(RuntimeError, match="leave out --compile"):
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
    for _ in range(4):
        assert_same(models, (SIZE,))
    warnings = [record.message for record in caplog.records if "CUDA graph" in record.message]
    assert len(warnings) == 2
    assert "out of memory" in warnings[0]


def test_copies_and_pickles_hold_no_graphs(models):
    for _ in range(3):
        assert_same(models, (SIZE,))
    for copied in (copy.deepcopy(models[0]), pickle.loads(pickle.dumps(models[0]))):
        assert recordings(copied) == [0, 0]
        assert_same((copied, models[1]), (SIZE,))
