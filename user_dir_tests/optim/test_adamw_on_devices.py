"""The fused update on every device, over many updates, against the formula in float64 numpy."""

import numpy as np
import pytest
import torch
from fairseq.optim import build_optimizer
from omegaconf import OmegaConf

pytestmark = pytest.mark.speed

UPDATES, RATE, MAX_NORM = 50, 1e-2, 1.0
# Of a parameter's largest number: fp32 rounds the parameter itself, 6e-8, at each update.
TOLERANCE = 1e-5
# Shape, depth among layers, decay: with sizes that no block of a kernel divides.
PARAMETERS = {
    "embedding": ((1031, 17), 0, True),
    "weight": ((67, 33), 1, True),
    "bias": ((67,), 1, False),
    "head": ((1, 67), 2, True),
}
HEAD_DEPTH, LAYER_DECAY = 2, 0.8


def parameters_on(device):
    generator = torch.Generator().manual_seed(1)
    parameters = {}
    for name, (shape, depth, decay) in PARAMETERS.items():
        parameter = torch.nn.Parameter(torch.randn(shape, generator=generator).to(device))
        tag = {"depth": depth, "max_depth": HEAD_DEPTH, "decay": decay}
        parameter.optim_overrides = {"convbert_adamw": tag}
        parameters[name] = parameter
    return parameters


def gradients():
    """Some above the norm that they are brought down to, some below it."""
    generator = torch.Generator().manual_seed(2)
    for update in range(UPDATES):
        size = 0.3 if update % 2 else 1e-3
        yield {
            name: size * torch.randn(shape, generator=generator)
            for name, (shape, _, _) in PARAMETERS.items()
        }


def expected_numbers(parameters, corrected):
    values = {name: p.detach().cpu().double().numpy() for name, p in parameters.items()}
    means = {name: np.zeros_like(value) for name, value in values.items()}
    squares = {name: np.zeros_like(value) for name, value in values.items()}
    for count, update in enumerate(gradients(), start=1):
        exact = {name: gradient.double().numpy() for name, gradient in update.items()}
        norm = np.sqrt(sum((gradient**2).sum() for gradient in exact.values()))
        for name, (_, depth, decay) in PARAMETERS.items():
            gradient = exact[name] * min(1, MAX_NORM / norm)
            means[name] = 0.9 * means[name] + 0.1 * gradient
            squares[name] = 0.999 * squares[name] + 0.001 * gradient**2
            mean, square = means[name], squares[name]
            if corrected:
                mean, square = mean / (1 - 0.9**count), square / (1 - 0.999**count)
            step = mean / (np.sqrt(square) + 1e-6) + 0.01 * decay * values[name]
            values[name] = values[name] - RATE * LAYER_DECAY ** (HEAD_DEPTH - depth) * step
    return values


@pytest.mark.parametrize("corrected", [False, True], ids=["released", "bias correction"])
def test_many_updates(device, corrected):
    parameters = parameters_on(device)
    expected = expected_numbers(parameters, corrected)
    fields = {"lr": [RATE], "layer_lr_decay": LAYER_DECAY, "bias_correction": corrected}
    config = OmegaConf.create({"_name": "convbert_adamw", **fields})
    optimizer = build_optimizer(config, list(parameters.values()))
    for update in gradients():
        for name, gradient in update.items():
            parameters[name].grad = gradient.to(device)
        optimizer.clip_grad_norm(MAX_NORM)
        optimizer.step()
    assert all(group["fused"] for group in optimizer.param_groups)
    for name, oracle in expected.items():
        result = parameters[name].detach().cpu().double().numpy()
        assert np.abs(result - oracle).max() <= TOLERANCE * np.abs(oracle).max(), name


def test_a_gradient_that_is_not_finite_is_seen_on_the_device(device):
    """fairseq reads the norm: whatever the clipping did, it says so."""
    parameters = parameters_on(device)
    config = OmegaConf.create({"_name": "convbert_adamw", "lr": [RATE]})
    optimizer = build_optimizer(config, list(parameters.values()))
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    parameters["bias"].grad[3] = torch.inf
    norm = optimizer.clip_grad_norm(MAX_NORM)
    assert norm.device.type == device.type
    assert not torch.isfinite(norm)
