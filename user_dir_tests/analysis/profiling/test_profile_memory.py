"""The memory of profiles, beside what autograd keeps and what torch's allocator gives out."""

import pytest
import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile

from convbert_plugin.analysis.profiling import training_memory
from convbert_plugin.analysis.profiling.subjects import subject_of
from convbert_plugin.analysis.profiling.training_memory import (
    Precision,
    embeddings_kept,
    layer_kept,
)
from convbert_plugin.models.config import AUTOCAST_DTYPES
from convbert_plugin.modules.embeddings import Embeddings
from convbert_plugin.modules.layer import ConvBertLayer
from convbert_plugin.ops import early_gradients, vocabulary_loss
from convbert_plugin.ops.cpu_library import library
from user_dir_tests.analysis.profiling.profiled_models import (
    SWITCHES,
    TOY_OPTIONS,
    built,
    full_batch,
    loss_of,
    profile,
    words,
)
from user_dir_tests.models.building import TOY_VOCABULARY, random_tokens
from user_dir_tests.ops.dropping import go_as_compiled

pytestmark = pytest.mark.experiments

BATCH, LENGTH = 3, 19
DROPPED = {"dropout": 0.1, "attention_dropout": 0.1}


def kept_bytes(function, *inputs, parameters) -> int:
    """Of all storages that wait for the backward pass, inputs among them."""
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = tensor, storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = function(*inputs)
    assert output.requires_grad
    learned = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    return sum(size for pointer, (_, size) in kept.items() if pointer not in learned)


def needs_compiler():
    if library().lacks:
        pytest.skip(library().lacks)


def layer_keeps(shape, autocast):
    torch.manual_seed(1)
    layer = ConvBertLayer(shape)
    hidden = torch.randn(BATCH, LENGTH, shape.hidden, requires_grad=True)
    dtype = AUTOCAST_DTYPES[autocast]
    with torch.autocast("cpu", dtype, enabled=autocast != "float32"):
        return kept_bytes(layer, hidden, None, parameters=layer.parameters())


def shape_of(changes):
    return subject_of("convbert_small", {**TOY_OPTIONS, **changes}).shape


@pytest.mark.parametrize("autocast", ["float32", "bfloat16"])
@pytest.mark.parametrize("dropout", [{}, DROPPED], ids=words)
@pytest.mark.parametrize("changes", SWITCHES[:-4], ids=words)
def test_what_a_layer_keeps_on_a_cpu(changes, dropout, autocast):
    needs_compiler()
    shape = shape_of({**changes, **dropout})
    precision = Precision(4 if autocast == "float32" else 2, "cpu")
    expected = layer_kept(shape, LENGTH, precision).of(BATCH * LENGTH)
    assert layer_keeps(shape, autocast) == expected


@pytest.mark.parametrize("autocast", ["float32", "bfloat16"])
@pytest.mark.parametrize("changes", SWITCHES[:-4], ids=words)
def test_what_a_layer_keeps_by_operations_of_torch(changes, autocast, monkeypatch):
    """As on a GPU, but for what dropout keeps there."""
    go_as_compiled(monkeypatch)
    shape = shape_of(changes)
    precision = Precision(4 if autocast == "float32" else 2, "cuda")
    expected = layer_kept(shape, LENGTH, precision).of(BATCH * LENGTH)
    assert layer_keeps(shape, autocast) == expected


@pytest.mark.parametrize("dropout", [{}, DROPPED], ids=words)
def test_what_the_embeddings_keep(dropout):
    shape = shape_of(dropout)
    module = Embeddings(TOY_VOCABULARY, 37, shape.embedding_dim, shape.dropout)
    projection = torch.nn.Linear(shape.embedding_dim, shape.hidden)
    tokens = random_tokens(BATCH, LENGTH, vocabulary=TOY_VOCABULARY)
    parameters = [*module.parameters(), *projection.parameters()]
    found = kept_bytes(
        lambda *inputs: projection(module(*inputs)),
        *(tokens, torch.zeros_like(tokens)),
        parameters=parameters,
    )
    kept = embeddings_kept(shape, Precision(4, "cpu"))
    # Random bits come in words of eight bytes.
    assert 0 <= found - kept.of(BATCH * LENGTH) < 8


def peak_of_a_step(model, batch) -> int:
    """Bytes beyond weights and moments, of torch's allocator on the CPU."""
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step():
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()

    step()
    optimizer.zero_grad()
    with torch_profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = profiler.profiler.kineto_results.events()
    changes = sorted(
        (each.start_ns(), each.nbytes()) for each in events if each.name() == "[memory]"
    )
    now = most = 0
    for _, number in changes:
        now += number
        most = max(most, now)
    return most


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "batch", "length"),
    [
        ({}, 20, 128),
        ({}, 4, 128),
        ({"conv_type": "none", "head_ratio": 1, **dict.fromkeys(DROPPED, 0.0)}, 3, 256),
        ({"autocast_dtype": "bfloat16"}, 20, 128),
        ({"checkpoint_activations": True}, 20, 128),
        ({"objective": "masked_lm"}, 4, 128),
        ({"objective": "fine_tuning"}, 4, 128),
    ],
    ids=lambda value: words(value) if isinstance(value, dict) else value,
)
def test_the_peak_of_a_step(changes, batch, length):
    """Three layers of the small model's widths; beyond 2,048 tokens, in pieces."""
    needs_compiler()
    options = {**DROPPED, "encoder_layers": 3, "vocabulary": 7000, **changes}
    model = built("convbert_small", options)
    batch_of_masked = full_batch(batch, length, round(0.15 * length), 7000)
    options |= {"batch_size": batch, "tokens_per_sample": length}
    memory = profile("convbert_small", **options)["memory"]
    assert memory["weights"] == memory["gradients"] == memory["optimizer"] // 2
    expected = memory["peak"] - 3 * memory["weights"]
    # What recomputes a layer holds more than the layer, which matters beside three.
    most = 0.2 if options.get("checkpoint_activations") else 0.05
    assert expected == pytest.approx(peak_of_a_step(model, batch_of_masked), rel=most)


def test_the_limits_are_those_of_the_ops():
    assert training_memory.POSITIONS_AT_ONCE == early_gradients.POSITIONS_AT_ONCE
    assert training_memory.LOGITS_AT_ONCE == vocabulary_loss.LOGITS_AT_ONCE
