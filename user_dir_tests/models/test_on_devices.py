"""Models on every device and in every precision, against themselves in float64 on the CPU."""

import copy
import shutil

import pytest
import torch
import torch.nn.functional as F

from user_dir_tests.models.building import (
    TOY_VOCABULARY,
    masked_batch,
    random_tokens,
    randomize,
    toy_model,
)
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.speed

# Of products under autocast, beside parameters and losses in fp32.
PRECISIONS = ("float32", "bfloat16", "float16")
VARIANTS = {
    **{kind: {"conv_type": kind} for kind in ("span_dynamic", "dynamic", "light", "conv", "none")},
    "fairseq": {"conv_backend": "fairseq"},
    "visible pads": {"pads_visible": True},
}
# A parameter with hardly any gradient has one made of roundings: its norm counts as at least this
# share of the largest.
SMALLEST_NORM = 0.03


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def model(request):
    return randomize(toy_model(generator=True, **request.param), std=0.15).train()


def on(device, model, precision):
    """A copy in fp32 whose products are of that precision."""
    copied = copy.deepcopy(model).to(device)
    copied.cfg.autocast_dtype = precision
    return copied


def moved(batch, device):
    return {name: x.to(device) if torch.is_tensor(x) else x for name, x in batch.items()}


def gradients_of(model, batch):
    """Of both losses, where no token is drawn: a rounding may draw another."""
    model.zero_grad()
    tokens, positions = batch["src_tokens"], batch["masked_positions"]
    log_probs = model.masked_lm_log_probs(tokens, None, positions)
    logits = model.replaced_logits(tokens)
    labels = torch.zeros_like(logits).view(-1).index_fill(0, positions, 1).view_as(logits)
    loss = F.nll_loss(log_probs, batch["masked_targets"], reduction="sum")
    (loss + F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("precision", PRECISIONS)
@torch.no_grad()
def test_every_level_of_hidden_states(device, model, precision):
    tokens = masked_batch()["src_tokens"]
    expected = copy.deepcopy(model).double().hidden_states(tokens)
    states = on(device, model, precision).hidden_states(tokens.to(device))
    for level, oracle in zip(states, expected, strict=True):
        error = relative_error(level, oracle)
        assert error <= TOLERANCES[getattr(torch, precision)]["model"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_gradient(device, model, precision):
    batch = masked_batch()
    expected = gradients_of(copy.deepcopy(model).double(), batch)
    result = gradients_of(on(device, model, precision), moved(batch, device))
    least = SMALLEST_NORM * max(gradient.norm() for gradient in expected.values())
    for name, oracle in expected.items():
        assert result[name].dtype == torch.float32
        error = (result[name].cpu() - oracle).norm() / max(oracle.norm(), least)
        assert error <= TOLERANCES[getattr(torch, precision)]["model"], name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@torch.no_grad()
def test_parameters_in_half_precision(device, model, dtype):
    tokens = masked_batch()["src_tokens"]
    expected = copy.deepcopy(model).double().hidden_states(tokens)
    states = copy.deepcopy(model).to(device, dtype).hidden_states(tokens.to(device))
    for level, oracle in zip(states, expected, strict=True):
        assert level.dtype == dtype
        assert relative_error(level, oracle) <= TOLERANCES[dtype]["model"]


@torch.no_grad()
def test_lengths_around_those_that_kernels_like(device):
    """Blocks of kernels end at multiples of 16 or 64."""
    model = randomize(toy_model(max_positions=300, encoder_layers=1), std=0.15).eval()
    precise, single = copy.deepcopy(model).double(), on(device, model, "float32")
    for length in (1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 257):
        tokens = random_tokens(2, length, vocabulary=TOY_VOCABULARY)
        error = relative_error(single(tokens.to(device)), precise(tokens))
        assert error <= TOLERANCES[torch.float32]["model"], length


def test_dropout_drops_its_share_and_nothing_in_evaluation(device):
    """The embeddings' own, whose places show as zeros."""
    embeddings = toy_model(dropout=0.25).to(device).train().embeddings
    tokens = random_tokens(64, 37, vocabulary=TOY_VOCABULARY).to(device)
    torch.manual_seed(3)
    dropped = embeddings(tokens, torch.zeros_like(tokens))
    # Six deviations of as many independent draws.
    bound = 6 * (0.25 * 0.75 / dropped.numel()) ** 0.5
    assert abs((dropped == 0).float().mean() - 0.25) <= bound
    kept = embeddings.eval()(tokens, torch.zeros_like(tokens))
    assert relative_error(dropped, (kept / 0.75).where(dropped != 0, 0)) <= 1e-6


@pytest.mark.slow
@pytest.mark.gpu
@pytest.mark.parametrize("precision", PRECISIONS)
def test_compiled_to_kernels_it_has_the_same_gradients(precision, monkeypatch):
    """Through inductor, which needs no C++ compiler on a GPU; the CPU's stands beside export."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    assert shutil.which("gcc") or shutil.which("cc"), "Triton builds its launcher with a C compiler"
    torch.compiler.reset()
    model, batch = randomize(toy_model(generator=True), std=0.15).train(), masked_batch()
    expected = gradients_of(copy.deepcopy(model).double(), batch)
    compiled = on("cuda", model, precision)
    compiled.encoder.compile(dynamic=True)
    result = gradients_of(compiled, moved(batch, "cuda"))
    least = SMALLEST_NORM * max(gradient.norm() for gradient in expected.values())
    for name, oracle in expected.items():
        error = (result[name].cpu() - oracle).norm() / max(oracle.norm(), least)
        assert error <= TOLERANCES[getattr(torch, precision)]["model"], name
