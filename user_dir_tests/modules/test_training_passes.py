"""Stacks that are compiled or recomputed while they train, against themselves as they are."""

import copy
import pickle
import shutil

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from convbert_plugin.errors import UserError
from convbert_plugin.modules import training_passes
from user_dir_tests.models.building import PAD, UNKNOWN, masked_batch, randomize, toy_model
from user_dir_tests.ops.dropping import go_as_compiled

pytestmark = [
    pytest.mark.speed,
    # torch's own modules, imported where it compiles
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
]

DROPOUT = {"dropout": 0.2, "attention_dropout": 0.1}
# Batch and length, as many as torch is not willing to compile for one by one.
SIZES = tuple((rows, 13 + 2 * rows) for rows in range(2, 12))


@pytest.fixture
def compiles(monkeypatch):
    """How often something is compiled, by what keeps the operations and their order."""
    # What it is compared with, bit for bit, does the same.
    go_as_compiled(monkeypatch)
    torch.compiler.reset()
    counter = CompileCounterWithBackend("eager")
    monkeypatch.setattr(training_passes, "BACKEND", counter)
    yield lambda: counter.frame_count
    torch.compiler.reset()


def in_training(**changes):
    return randomize(toy_model(generator=True, **changes), std=0.3).double().train()


def batch_of(size, has_pads=True):
    batch = masked_batch(*size)
    batch["uniforms"] = batch["uniforms"].double()
    if not has_pads:
        batch["src_tokens"][batch["src_tokens"] == PAD] = UNKNOWN
    return {**batch, "has_pads": has_pads}


def losses_and_gradients(model, batch):
    torch.manual_seed(5)
    model.zero_grad()
    inputs = [batch["src_tokens"], None, batch["masked_positions"], batch["has_pads"]]
    losses = [
        model.masked_lm_log_probs(*inputs).square().mean(),
        model.replaced_logits(batch["src_tokens"], has_pads=batch["has_pads"]).square().mean(),
    ]
    sum(losses).backward()
    return [*losses, *(parameter.grad for parameter in model.parameters())]


def assert_same(model, expected, batch):
    """Bit for bit."""
    results = losses_and_gradients(model, batch), losses_and_gradients(expected, batch)
    assert all(map(torch.equal, *results))


@pytest.mark.slow
def test_layers_of_equal_sizes_are_compiled_once_for_all_lengths(compiles):
    """Those of a generator and of a discriminator, with pads and without: four times."""
    model, expected = in_training(compile=True, **DROPOUT), in_training(**DROPOUT)
    for size in SIZES:
        assert_same(model, expected, batch_of(size, has_pads=True))
        assert_same(model, expected, batch_of(size, has_pads=False))
    assert compiles() == 4


def test_what_is_scored_is_not_compiled(compiles):
    model = in_training(compile=True)
    with torch.no_grad():
        model(**batch_of((3, 19)))
    model.eval()(**batch_of((3, 19)))
    assert compiles() == 0


@pytest.mark.slow
def test_names_copies_and_pickles_stay_as_they_are(compiles):
    model, expected = in_training(compile=True, **DROPOUT), in_training(**DROPOUT)
    losses_and_gradients(model, batch_of((3, 19)))
    assert model.state_dict().keys() == expected.state_dict().keys()
    assert [name for name, _ in model.named_modules()] == [n for n, _ in expected.named_modules()]
    assert_same(copy.deepcopy(model), expected, batch_of((3, 19)))
    assert_same(pickle.loads(pickle.dumps(model)), expected, batch_of((3, 19)))


@pytest.mark.slow
@pytest.mark.parametrize("autocast", ["float32", "bfloat16"])
@pytest.mark.parametrize("compiled", [False, True], ids=["as it is", "compiled"])
def test_recomputed_layers_have_the_same_random_numbers(request, compiled, autocast):
    if compiled:
        request.getfixturevalue("compiles")
    changes = {**DROPOUT, "autocast_dtype": autocast, "compile": compiled}
    model = in_training(checkpoint_activations=True, **changes)
    for has_pads in (True, False):
        expected = in_training(**DROPOUT, autocast_dtype=autocast)
        assert_same(model, expected, batch_of((3, 19), has_pads))


class Held(TorchDispatchMode):
    """The bytes that operations made and something still holds."""

    def __init__(self):
        super().__init__()
        self.storages = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if torch.is_tensor(tensor):
                storage = tensor.untyped_storage()
                self.storages[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        return result

    def bytes(self):
        return sum(size for storage, size in self.storages.values() if not storage.expired())


def held_before_the_backward_pass(**changes):
    stack = in_training(encoder_layers=4, **DROPOUT, **changes).encoder
    with Held() as held:
        output = stack(torch.randn(8, 37, 10, dtype=torch.float64), None)
    return held.bytes() / output.untyped_storage().nbytes()


def test_recomputed_layers_hold_their_inputs_alone():
    """In hidden states: those before and after the four layers, and little besides."""
    assert held_before_the_backward_pass() > 40
    assert held_before_the_backward_pass(checkpoint_activations=True) < 8


def test_a_machine_without_a_compiler(monkeypatch):
    """One line that says what to do."""

    def fail(graph, inputs):
        raise RuntimeError("No working C++ compiler found\nin many places")

    monkeypatch.setattr(training_passes, "BACKEND", fail)
    with pytest.raises(UserError) as error:
        training_passes.check_compiler("cpu")
    line = str(error.value)
    assert line.startswith("--compile: ")
    assert "No working C++ compiler" in line
    assert "install a C++ compiler" in line
    assert "\n" not in line


def test_a_machine_with_a_compiler(compiles):
    training_passes.check_compiler("cpu")
    assert compiles() == 1


def compiled_outputs(stack, embedded, seed):
    torch.manual_seed(seed)
    stack.zero_grad()
    output = stack(embedded, None)
    output.square().mean().backward()
    return [output.detach(), *(parameter.grad.clone() for parameter in stack.parameters())]


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="inductor needs a C++ compiler"
)
def test_dropout_in_machine_code_draws_what_the_seed_says():
    """Means of 200 rows of the same text differ from those of torch's own dropout by chance."""
    torch.compiler.reset()
    changes = {"encoder_layers": 1, "conv_type": "none", "ffn_groups": 1}
    changes |= {"dropout": 0.3, "attention_dropout": 0.3}
    expected = randomize(toy_model(**changes), std=0.3).encoder.train()
    stack = randomize(toy_model(**changes, compile=True), std=0.3).encoder.train()
    generator = torch.Generator().manual_seed(1)
    embedded = torch.randn(1, 7, 10, generator=generator).expand(200, -1, -1).contiguous()
    first, again, other = (compiled_outputs(stack, embedded, seed) for seed in (1, 1, 2))
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], other[0])
    output, eager = first[0], compiled_outputs(expected, embedded, 3)[0]
    assert len(output[:, 0, 0].unique()) > 190
    deviation = (output.var(dim=0) + eager.var(dim=0)).div(200).sqrt()
    chance = (output.mean(dim=0) - eager.mean(dim=0)).div(deviation)
    assert chance.abs().max() < 5
    assert float(chance.std()) == pytest.approx(1, abs=0.4)
    spread = [float(result.std(dim=0).mean()) for result in (output, eager)]
    assert spread[0] == pytest.approx(spread[1], rel=0.1)
    torch.compiler.reset()
