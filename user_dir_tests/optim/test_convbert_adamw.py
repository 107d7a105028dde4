"""The optimizer against float64 numpy, written from the released formula alone."""

import io

import numpy as np
import pytest
import torch
from fairseq.optim import FP16Optimizer, build_optimizer
from fairseq.optim.amp_optimizer import AMPOptimizer
from fairseq.optim.lr_scheduler import build_lr_scheduler
from omegaconf import OmegaConf

from convbert_plugin.errors import UserError
from convbert_plugin.optim import convbert_adamw
from convbert_plugin.optim.convbert_adamw import layer_rate_factor

# Relative to a parameter's largest number, at every one of 50 updates. float64 is rounding of some
# hundred operations; float32 rounds the parameter itself, 6e-8, at each update.
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5}

# name: shape, depth of 4 (a model of 3 layers), decayed; depth None is a parameter without a tag
PARAMETERS = {
    "embedding": ((13, 7), 0, True),
    "embedding LayerNorm": ((7,), 0, False),
    "layer 0 kernel": ((5, 3, 2), 1, True),
    "layer 2 weight": ((11, 7), 3, True),
    "layer 2 bias": ((11,), 3, False),
    "head weight": ((1, 7), 4, True),
    "head bias": ((1,), 4, False),
    "untagged weight": ((3, 2), None, True),
    "untagged bias": ((3,), None, False),
}
MAX_DEPTH = 4

# depth: factor with a decay of 0.8 for 12 layers, in full so that nothing is computed alike
INTENDED_FACTORS = {
    0: 0.0549755813888,
    1: 0.068719476736,
    2: 0.08589934592,
    3: 0.1073741824,
    4: 0.134217728,
    5: 0.16777216,
    6: 0.2097152,
    7: 0.262144,
    8: 0.32768,
    9: 0.4096,
    10: 0.512,
    11: 0.64,
    12: 0.8,
    13: 1.0,
}
RELEASED_FACTORS = {
    0: 0.04398046511104,
    1: 0.0549755813888,
    2: 0.068719476736,
    3: 0.08589934592,
    4: 0.1073741824,
    5: 0.134217728,
    6: 0.16777216,
    7: 0.2097152,
    8: 0.262144,
    9: 0.32768,
    10: 0.4096,
    11: 0.512,
    12: 0.64,
    13: 1.0,
}


def make_parameters(dtype=torch.float32, names=PARAMETERS):
    generator = torch.Generator().manual_seed(3)
    parameters = {}
    for name in names:
        shape, depth, decay = PARAMETERS[name]
        values = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        parameters[name] = torch.nn.Parameter(values)
        if depth is not None:
            tag = {"depth": depth, "max_depth": MAX_DEPTH, "decay": decay}
            parameters[name].optim_overrides = {"convbert_adamw": tag}
    return parameters


def make_gradients(updates, dtype=torch.float32):
    """Gradients whose joint norm is about 0.5 at even updates and 5 at odd ones."""
    generator = torch.Generator().manual_seed(4)
    sizes = [0.03, 0.3]
    return [
        {
            name: (sizes[update % 2] * torch.randn(shape, generator=generator)).to(dtype)
            for name, (shape, _, _) in PARAMETERS.items()
        }
        for update in range(updates)
    ]


def build(parameters, **fields):
    fields = {"_name": "convbert_adamw", "lr": [1e-2], **fields}
    return build_optimizer(OmegaConf.create(fields), list(parameters.values()))


def build_schedule(optimizer, **fields):
    fields = {"_name": "convbert_linear", "lr": [1e-2], **fields}
    return build_lr_scheduler(OmegaConf.create(fields), optimizer)


def in_numpy(tensors):
    return {name: tensor.detach().double().numpy().copy() for name, tensor in tensors.items()}


def numpy_adam(parameters, gradients, rates, max_norm, decays, factors, bias_correction=False):
    """Yield the parameters after each update, and whether it was clipped."""
    mean = {name: np.zeros_like(values) for name, values in parameters.items()}
    square = {name: np.zeros_like(values) for name, values in parameters.items()}
    for count, (update_gradients, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        norm = np.sqrt(sum((values**2).sum() for values in update_gradients.values()))
        scale = min(1.0, max_norm / norm)
        for name, gradient in update_gradients.items():
            gradient = gradient * scale
            mean[name] = 0.9 * mean[name] + 0.1 * gradient
            square[name] = 0.999 * square[name] + 0.001 * gradient**2
            first, second = mean[name], square[name]
            if bias_correction:
                first, second = first / (1 - 0.9**count), second / (1 - 0.999**count)
            step = first / (np.sqrt(second) + 1e-6)
            if decays[name]:
                step = step + 0.01 * parameters[name]
            parameters[name] = parameters[name] - rate * factors[name] * step
        yield parameters, scale < 1


def largest_error(parameters, expected):
    return max(
        np.abs(values - expected[name]).max() / np.abs(expected[name]).max()
        for name, values in in_numpy(parameters).items()
    )


@pytest.fixture(params=("fused", "unfused"))
def kernel(request, monkeypatch):
    if request.param == "unfused":
        monkeypatch.setattr(convbert_adamw, "FUSED_DEVICES", frozenset())
    return request.param


@pytest.mark.parametrize(("released", "lowest_power"), [(False, 0), (True, 1)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_released_update_with_schedule_clipping_and_layer_rates(
    dtype, released, lowest_power, kernel
):
    updates, warmup = 50, 10
    parameters = make_parameters(dtype)
    gradients = make_gradients(updates, dtype)
    optimizer = build(parameters, layer_lr_decay=0.7, released_layer_lr_decay=released)
    schedule = build_schedule(optimizer, max_update=updates, warmup_updates=warmup)
    assert optimizer.optimizer.param_groups[0]["fused"] is (True if kernel == "fused" else None)

    factors = {
        name: 1.0 if depth in (None, MAX_DEPTH) else 0.7 ** (MAX_DEPTH - depth + lowest_power)
        for name, (_, depth, _) in PARAMETERS.items()
    }
    decays = {name: decay for name, (_, _, decay) in PARAMETERS.items()}
    rates = [1e-2 * (1 - n / updates) * min(1, n / warmup) for n in range(updates)]
    expected = numpy_adam(
        in_numpy(parameters), map(in_numpy, gradients), rates, 1.0, decays, factors
    )
    clipped = []
    for done, (update_gradients, (values, was_clipped)) in enumerate(
        zip(gradients, expected, strict=True)
    ):
        for name, gradient in update_gradients.items():
            parameters[name].grad = gradient.clone()
        optimizer.clip_grad_norm(1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step_update(done + 1)
        assert largest_error(parameters, values) <= TOLERANCES[dtype]
        clipped.append(was_clipped)
    assert clipped == [False, True] * 25


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_usual_update_is_torchs_and_the_formulas(dtype, kernel):
    updates = 50
    parameters, torchs = make_parameters(dtype), make_parameters(dtype)
    gradients = make_gradients(updates, dtype)
    optimizer = build(parameters, bias_correction=True)
    decays = {name: decay for name, (_, _, decay) in PARAMETERS.items()}
    reference = torch.optim.AdamW(
        [
            {"params": [torchs[name]], "weight_decay": 0.01 if decay else 0.0}
            for name, decay in decays.items()
        ],
        lr=1e-2,
        betas=(0.9, 0.999),
        eps=1e-6,
        foreach=False,
    )
    expected = numpy_adam(
        in_numpy(parameters),
        map(in_numpy, gradients),
        [1e-2] * updates,
        np.inf,
        decays,
        dict.fromkeys(PARAMETERS, 1.0),
        bias_correction=True,
    )
    for update_gradients, (values, _) in zip(gradients, expected, strict=True):
        for name, gradient in update_gradients.items():
            parameters[name].grad, torchs[name].grad = gradient.clone(), gradient.clone()
        optimizer.step()
        reference.step()
        assert largest_error(parameters, values) <= TOLERANCES[dtype]
        assert largest_error(parameters, in_numpy(torchs)) <= TOLERANCES[dtype]


@pytest.mark.parametrize("default_dtype", [torch.float32, torch.float64], ids=str)
def test_the_corrections_are_exactly_one_and_stay_so(default_dtype, kernel):
    # With m = v = 0 before, gradient 1 and eps 0 the step is 0.1 / sqrt(0.001), were it not for
    # the corrections; beta2 is the largest that anyone uses.
    torch.set_default_dtype(default_dtype)
    try:
        parameter = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        fields = {"adam_betas": [0.9, 0.999999], "adam_eps": 0.0, "weight_decay": 0.0}
        optimizer = build({"only": parameter}, **fields)
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    finally:
        torch.set_default_dtype(torch.float32)
    expected = -1e-2 * (1 - 0.9) / np.sqrt(1 - 0.999999)
    assert parameter.item() == pytest.approx(expected, rel=1e-15, abs=0)
    count = optimizer.state_dict()["state"][0]["step"]
    for _ in range(1000):
        count += 1
    assert count == 2.0**30


@pytest.mark.parametrize(
    ("factors", "released"), [(INTENDED_FACTORS, False), (RELEASED_FACTORS, True)]
)
def test_layer_rates_of_twelve_layers(factors, released):
    for depth, factor in factors.items():
        assert layer_rate_factor(depth, 13, 0.8, released) == pytest.approx(factor, rel=1e-12)
        assert layer_rate_factor(depth, 13, 1.0, released) == 1.0


def test_the_rate_set_by_a_schedule_keeps_the_factors():
    parameters = make_parameters()
    optimizer = build(parameters, layer_lr_decay=0.5)
    optimizer.set_lr(8.0)
    assert optimizer.get_lr() == 8.0
    rate_of = {
        id(parameter): group["lr"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    rates = {name: rate_of[id(parameter)] for name, parameter in parameters.items()}
    assert rates == {
        "embedding": 0.5,
        "embedding LayerNorm": 0.5,
        "layer 0 kernel": 1.0,
        "layer 2 weight": 4.0,
        "layer 2 bias": 4.0,
        "head weight": 8.0,
        "head bias": 8.0,
        "untagged weight": 8.0,
        "untagged bias": 8.0,
    }


def test_groups_are_as_few_as_rates_and_decays():
    assert len(build(make_parameters()).param_groups) == 2
    assert len(build(make_parameters(), layer_lr_decay=0.8).param_groups) == 7
    assert len(list(build(make_parameters(), layer_lr_decay=0.8).params)) == len(PARAMETERS)


def set_gradients(parameters, gradients):
    for name, parameter in parameters.items():
        parameter.grad = gradients[name].clone().to(parameter.dtype)


@pytest.mark.parametrize(("size", "clipped"), [(0.1, False), (10.0, True)])
def test_clipping_is_that_of_tensorflow(size, clipped):
    parameters = {
        "a": torch.nn.Parameter(torch.zeros(2, 1)),
        "b": torch.nn.Parameter(torch.zeros(1)),
    }
    optimizer = build(parameters)
    set_gradients(
        parameters, {"a": size * torch.tensor([[3.0], [0.0]]), "b": size * torch.tensor([4.0])}
    )
    before = in_numpy({name: parameter.grad for name, parameter in parameters.items()})
    norm = optimizer.clip_grad_norm(2.0)
    assert norm.shape == ()
    assert norm.item() == pytest.approx(5 * size, rel=1e-6)
    scale = 2 / (5 * size) if clipped else 1.0
    for name, parameter in parameters.items():
        assert parameter.grad.numpy() == pytest.approx(scale * before[name], rel=1e-6)
    if not clipped:
        assert parameters["b"].grad.item() == before["b"]


def test_measuring_only_joining_workers_and_nothing_to_measure():
    parameters = make_parameters()
    optimizer = build(parameters)
    assert optimizer.clip_grad_norm(1.0).item() == 0.0
    gradients = make_gradients(1)[0]
    set_gradients(parameters, gradients)
    optimizer.clip_grad_norm(0)
    assert all(torch.equal(p.grad, gradients[name]) for name, p in parameters.items())
    # Two workers with the same shard: the joint norm is sqrt(2) times as large.
    alone = optimizer.clip_grad_norm(0)
    joint = optimizer.clip_grad_norm(0.1, aggregate_norm_fn=lambda norm: (2 * norm**2) ** 0.5)
    assert joint.item() == pytest.approx(2**0.5 * alone.item(), rel=1e-6)
    assert optimizer.clip_grad_norm(0).item() == pytest.approx(0.1 / 2**0.5, rel=1e-5)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_a_norm_that_is_not_finite_spoils_all_gradients_as_in_tensorflow(bad):
    parameters = make_parameters()
    optimizer = build(parameters)
    set_gradients(parameters, make_gradients(1)[0])
    parameters["head bias"].grad.fill_(bad)
    assert not torch.isfinite(optimizer.clip_grad_norm(1.0))
    assert all(parameter.grad.isnan().all() for parameter in parameters.values())


def test_the_norm_of_a_large_embedding_is_accurate():
    # Plain float32 on a CPU misses the norm of this many numbers by 1e-3.
    generator = torch.Generator().manual_seed(0)
    gradient = 1e-3 * torch.randn(30_522, 256, generator=generator)
    norm = convbert_adamw.global_norm([gradient]).item()
    assert norm == pytest.approx(np.linalg.norm(gradient.double().numpy()), rel=1e-6)


def through_a_file(state_dict):
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def run(optimizer, schedule, parameters, gradients, first, last):
    for update in range(first, last):
        schedule.step_update(update)
        set_gradients(parameters, gradients[update])
        optimizer.clip_grad_norm(1.0)
        optimizer.step()


@pytest.mark.parametrize("bias_correction", [False, True])
@pytest.mark.parametrize("resumed_unfused", [False, True])
def test_a_resumed_run_continues_exactly(bias_correction, resumed_unfused, monkeypatch):
    fields = {"layer_lr_decay": 0.8, "bias_correction": bias_correction}
    gradients = make_gradients(20)
    whole = make_parameters()
    optimizer = build(whole, **fields)
    run(optimizer, build_schedule(optimizer, max_update=20), whole, gradients, 0, 20)

    halves = make_parameters()
    optimizer = build(halves, **fields)
    run(optimizer, build_schedule(optimizer, max_update=20), halves, gradients, 0, 9)
    saved = through_a_file(optimizer.state_dict())

    if resumed_unfused:
        monkeypatch.setattr(convbert_adamw, "FUSED_DEVICES", frozenset())
    optimizer = build(halves, **fields)
    optimizer.load_state_dict(saved)
    run(optimizer, build_schedule(optimizer, max_update=20), halves, gradients, 9, 20)
    for name, parameter in halves.items():
        if resumed_unfused:
            torch.testing.assert_close(parameter, whole[name], rtol=1e-6, atol=1e-7)
        else:
            assert torch.equal(parameter, whole[name])


def test_after_loading_the_present_configuration_holds():
    parameters = make_parameters()
    optimizer = build(parameters, layer_lr_decay=0.9, bias_correction=True)
    set_gradients(parameters, make_gradients(1)[0])
    optimizer.step()
    saved = through_a_file(optimizer.state_dict())

    optimizer = build(parameters, layer_lr_decay=0.5, weight_decay=0.3, lr=[4.0])
    optimizer.load_state_dict(saved)
    embedding = optimizer.param_groups[0]
    assert (embedding["lr"], embedding["weight_decay"], embedding["lr_factor"]) == (
        0.25,
        0.3,
        1 / 16,
    )
    assert optimizer.param_groups[1]["weight_decay"] == 0.0
    assert all(state["step"] == 2.0**30 for state in optimizer.optimizer.state.values())

    optimizer.load_state_dict(saved, optimizer_overrides={"lr": 16.0, "eps": 0.5})
    assert (optimizer.get_lr(), embedding["lr"]) == (16.0, 0.25)
    assert {group["eps"] for group in optimizer.param_groups} == {0.5}
    assert optimizer.param_groups[0]["lr"] == 1.0


def test_a_state_that_was_grouped_otherwise_is_refused():
    saved = build(make_parameters(), layer_lr_decay=0.8).state_dict()
    with pytest.raises(UserError, match="--reset-optimizer"):
        build(make_parameters()).load_state_dict(saved)


def test_parameters_without_gradient_stay_as_they_are():
    parameters = make_parameters()
    optimizer = build(parameters)
    before = in_numpy(parameters)
    gradients = make_gradients(1)[0]
    parameters["head weight"].grad = gradients["head weight"]
    optimizer.step()
    assert len(optimizer.state_dict()["state"]) == 1
    for name, values in in_numpy(parameters).items():
        assert np.array_equal(values, before[name]) == (name != "head weight")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"adam_betas": [0.9]}, "--adam-betas"),
        ({"adam_betas": [0.9, 1.0]}, "--adam-betas"),
        ({"adam_eps": -1e-6}, "--adam-eps"),
        ({"weight_decay": -0.1}, "--weight-decay"),
        ({"layer_lr_decay": 0.0}, "--layer-lr-decay"),
    ],
)
def test_mistakes_are_told_in_one_line(fields, words):
    with pytest.raises(UserError, match=words):
        build(make_parameters(), **fields)


def fp16_config(**common):
    defaults = {
        "fp16_init_scale": 128,
        "fp16_scale_window": 256,
        "fp16_scale_tolerance": 0.0,
        "threshold_loss_scale": None,
        "min_loss_scale": 1e-4,
    }
    optimizer = {"_name": "convbert_adamw", "lr": [1e-2], "layer_lr_decay": 0.5}
    return OmegaConf.create({"common": {**defaults, **common}, "optimizer": optimizer})


def test_flattened_fp16_is_refused_with_the_flag_that_helps(monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    parameters = list(make_parameters(torch.float16).values())
    with pytest.raises(UserError, match="--fp16-no-flatten-grads"):
        FP16Optimizer.build_optimizer(fp16_config(), parameters)


def test_fp16_without_flattening_keeps_rates_and_decays():
    parameters = make_parameters(torch.float16)
    copies = FP16Optimizer.build_optimizer(
        fp16_config(fp16_no_flatten_grads=True), list(parameters.values())
    )
    direct = build(make_parameters(), layer_lr_decay=0.5)
    described = [
        [(g["lr"], g["weight_decay"], [p.shape for p in g["params"]]) for g in groups]
        for groups in (copies.optimizer.param_groups, direct.param_groups)
    ]
    assert described[0] == described[1]
    copies.zero_grad()
    before = in_numpy(parameters)
    copies.backward(sum((parameter.float() ** 2).sum() for parameter in parameters.values()))
    assert torch.isfinite(copies.clip_grad_norm(1.0))
    copies.step()
    assert all(not np.array_equal(v, before[name]) for name, v in in_numpy(parameters).items())


def test_memory_efficient_and_flat_parameters_are_not_promised():
    optimizer = build(make_parameters())
    assert not optimizer.supports_memory_efficient_fp16
    assert not optimizer.supports_flat_params
    assert not optimizer.supports_step_with_scale
    assert not optimizer.supports_groups


@pytest.fixture
def cpu_grad_scaler(monkeypatch):
    monkeypatch.setattr(
        torch.cuda.amp, "GradScaler", lambda **options: torch.amp.GradScaler("cpu", **options)
    )


def test_under_amp_gradients_are_unscaled_once(cpu_grad_scaler):
    parameters, plain = make_parameters(), make_parameters()
    scaled = AMPOptimizer.build_optimizer(fp16_config(), list(parameters.values()))
    optimizer = build(plain, layer_lr_decay=0.5)
    for update_gradients in make_gradients(4):
        for wrapped, members in ((scaled, parameters), (optimizer, plain)):
            wrapped.zero_grad()
            wrapped.backward(sum((update_gradients[n] * p).sum() for n, p in members.items()))
            wrapped.clip_grad_norm(1.0)
            wrapped.step()
    for name, parameter in parameters.items():
        # The scale is a power of two.
        assert torch.equal(parameter, plain[name])


def test_under_amp_an_overflow_skips_the_update(cpu_grad_scaler):
    parameters = make_parameters()
    scaled = AMPOptimizer.build_optimizer(fp16_config(), list(parameters.values()))
    before = in_numpy(parameters)
    loss = sum(parameter.sum() for parameter in parameters.values())
    scaled.backward(loss * float("inf"))
    assert not torch.isfinite(scaled.clip_grad_norm(1.0))
    scaled.step()
    assert scaled.scaler.get_scale() == 64
    assert all(np.array_equal(v, before[name]) for name, v in in_numpy(parameters).items())
