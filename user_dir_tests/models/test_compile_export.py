"""torch.export and torch.compile at any batch and length, and models in half precision."""

import copy
import functools
import io
import shutil

import pytest
import torch
from torch.export import Dim

from user_dir_tests.models.building import (
    PAD,
    SEPARATOR,
    TOY_VOCABULARY,
    model_of,
    random_tokens,
    randomize,
    toy_model,
)
from user_dir_tests.ops.dropping import go_as_compiled
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = [
    pytest.mark.slow,
    pytest.mark.weights,
    # torch's own modules, imported where it compiles
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
]

TRACED = (3, 19)
# Batch and length; torch compiles code of its own for a size of one.
OTHER_SIZES = ((5, 37), (2, 9), (7, 3))
SIZES_OF_ONE = {"batch": ((1, 19), (1, 37), (1, 5)), "length": ((3, 1), (6, 1)), "both": ((1, 1),)}
ALL_SIZES = (TRACED, *OTHER_SIZES, *sum(SIZES_OF_ONE.values(), ()), (1, 2), (2, 2))
# Beside the usual one.
OTHER_VARIANTS = {
    **{kind: {"conv_type": kind} for kind in ("dynamic", "light", "conv", "none")},
    "visible pads": {"pads_visible": True},
    "autocast": {"autocast_dtype": "bfloat16"},
}
WITH_SEGMENTS = pytest.mark.parametrize("with_segments", [False, True], ids=["tokens", "segments"])
ROUNDING = TOLERANCES[torch.float32]["padding"]


@pytest.fixture(autouse=True)
def _forget_compiled_code():
    torch.compiler.reset()


@pytest.fixture(autouse=True)
def _rounds_as_compiled(request, monkeypatch):
    """What runs uncompiled rounds less often: in bfloat16 that shows."""
    if "autocast" in request.node.name:
        go_as_compiled(monkeypatch)


def toy_encoder(**changes):
    return randomize(toy_model(encoder_layers=1, **changes), std=0.3).eval()


def inputs_of(size, with_segments=True, vocabulary=TOY_VOCABULARY):
    """Tokens with separators, each row with more pads than the row above it, and any segments."""
    rows, length = size
    tokens = random_tokens(rows, length, vocabulary=vocabulary)
    tokens[:, length // 2] = SEPARATOR
    tokens[torch.arange(length) >= length - torch.arange(rows)[:, None]] = PAD
    return (tokens, random_tokens(rows, length, seed=2) % 2) if with_segments else (tokens,)


@torch.no_grad()
def assert_equal_at(sizes, result_of, model, with_segments=True):
    for size in sizes:
        inputs = inputs_of(size, with_segments, len(model.vocabulary))
        assert relative_error(result_of(*inputs), model(*inputs)) <= ROUNDING, size


def exported(model, strict=False, with_segments=True):
    sizes = {0: Dim("batch"), 1: Dim("length", max=model.max_positions())}
    names = ("src_tokens", "segments")[: 1 + with_segments]
    inputs = inputs_of(TRACED, with_segments)
    return torch.export.export(
        model, inputs, dynamic_shapes=dict.fromkeys(names, sizes), strict=strict
    )


@functools.cache
def exported_once():
    """The toy encoder by itself, and as it is exported."""
    model = toy_encoder()
    return model, exported(model)


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "not strict"])
def test_an_exported_encoder_runs_without_segments(strict):
    model = toy_encoder()
    program = exported(model, strict, with_segments=False)
    assert_equal_at(ALL_SIZES, program.module(), model, with_segments=False)


def test_a_strictly_exported_encoder_runs_at_every_size():
    model = toy_encoder()
    assert_equal_at(ALL_SIZES, exported(model, strict=True).module(), model)


def test_an_exported_encoder_runs_at_every_size():
    model, program = exported_once()
    assert_equal_at(ALL_SIZES, program.module(), model)


@pytest.mark.parametrize("changes", OTHER_VARIANTS.values(), ids=OTHER_VARIANTS.keys())
def test_every_other_variant_is_exported(changes):
    model = toy_encoder(**changes)
    assert_equal_at(ALL_SIZES, exported(model).module(), model)


def test_a_real_encoder_is_exported():
    model = randomize(model_of("convbert_medium", TOY_VOCABULARY)).eval()
    assert_equal_at([(1, 1), (1, 2), (4, 9), (2, 128), (1, 512)], exported(model).module(), model)


def test_an_exported_encoder_is_saved_and_loaded():
    (model, program), file = exported_once(), io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    assert_equal_at(ALL_SIZES, torch.export.load(file).module(), model)


def test_every_operation_of_an_exported_graph_reads_a_tensor():
    """What is computed from dtypes alone, other runtimes have no operation for."""
    operations = [n for n in exported_once()[1].graph.nodes if n.op == "call_function"]
    assert operations
    assert [str(n.target) for n in operations if not n.all_input_nodes] == []


def compiled_by(backend, model):
    return torch.compile(model, backend=backend, fullgraph=True, dynamic=True)


def assert_compiled_once(compiled, model, first, others, with_segments=True):
    assert_equal_at([first], compiled, model, with_segments)
    with torch.compiler.set_stance("fail_on_recompile"):
        assert_equal_at(others, compiled, model, with_segments)


@WITH_SEGMENTS
def test_a_compiled_encoder_runs_at_every_size(with_segments):
    model = toy_encoder()
    compiled = compiled_by("eager", model)
    for first, *others in ((TRACED, *OTHER_SIZES, (2, 2)), *SIZES_OF_ONE.values()):
        assert_compiled_once(compiled, model, first, others, with_segments)


@pytest.mark.parametrize("changes", OTHER_VARIANTS.values(), ids=OTHER_VARIANTS.keys())
def test_every_other_variant_is_compiled_once(changes):
    model = toy_encoder(**changes)
    assert_compiled_once(compiled_by("eager", model), model, TRACED, OTHER_SIZES)


@pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="inductor needs a C++ compiler"
)
def test_an_encoder_compiled_to_machine_code():
    model = toy_encoder()
    assert_compiled_once(compiled_by("inductor", model), model, TRACED, OTHER_SIZES)


def gradients_of(forward, model, size):
    model.zero_grad()
    output = forward(*inputs_of(size))
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    (output * weights).sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def test_a_compiled_encoder_trains_with_the_same_gradients():
    model = toy_encoder().double().train()
    compiled = compiled_by("aot_eager", model)
    gradients_of(compiled, model, TRACED)
    with torch.compiler.set_stance("fail_on_recompile"):
        for size in (TRACED, *OTHER_SIZES):
            result = gradients_of(compiled, model, size)
            expected = gradients_of(model, model, size)
            scale = max(grad.abs().max() for grad in expected.values())
            for name, grad in expected.items():
                error = (result[name] - grad).abs().max() / scale
                assert error <= TOLERANCES[torch.float64]["block"], (name, size)


@pytest.mark.parametrize("architecture", ["toy", "convbert_medium"])
@pytest.mark.parametrize("backend", ["auto", "eager", "fairseq"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@torch.no_grad()
def test_half_precision_stays_close_to_float32(dtype, backend, architecture):
    if architecture == "toy":
        model = toy_encoder(conv_backend=backend)
    else:
        model = randomize(model_of(architecture, TOY_VOCABULARY, conv_backend=backend)).eval()
    half = copy.deepcopy(model).to(dtype)
    for size in (TRACED, (2, 1), (1, 37)):
        tokens, segments = inputs_of(size)
        tokens[-1] = PAD
        states = half.hidden_states(tokens, segments)
        expected = model.hidden_states(tokens, segments)
        for result, oracle in zip(states, expected, strict=True):
            assert result.dtype == dtype
            assert relative_error(result, oracle) <= TOLERANCES[dtype]["model"]
