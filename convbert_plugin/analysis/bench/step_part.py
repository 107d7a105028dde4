"""A whole step of pretraining: both networks, both losses, backward, clipping, optimizer."""

from functools import partial
from typing import Any, Callable, Iterator, Mapping

import torch
from torch import Tensor

from convbert_plugin.analysis.bench import peers
from convbert_plugin.analysis.bench.comparing import (
    ALLOWED,
    Comparison,
    Difference,
    Work,
    farthest,
)
from convbert_plugin.analysis.bench.encoder_part import HERE, in_mode, worst
from convbert_plugin.analysis.bench.machine import step_clock
from convbert_plugin.analysis.bench.own_models import OwnTraining
from convbert_plugin.analysis.bench.plan import (
    MODES,
    Plan,
    Setting,
    generator_shape_of,
    shape_of,
)
from convbert_plugin.analysis.profiling.operations import step_flops
from convbert_plugin.data.pretraining.masking import masked_count

PART = "step"
THEIRS = {False: "ConvBERT of transformers", True: "ELECTRA of transformers"}
MASK_PROBABILITY = 0.15
MODES_UNCHECKED = "{}: losses and gradients are compared without dropout alone"
NARROWED = (
    "{}: its generator has a head of half the width of the released one: it is timed as it is, and "
    "was checked on a generator here that is narrowed likewise"
)


def step_comparisons(plan: Plan) -> Iterator[Comparison]:
    """Without and with dropout, in every size."""
    for arch in plan.archs:
        for dropout in plan.dropouts:
            yield _comparison(plan, plan.setting(arch, dropout=dropout))


def _comparison(plan: Plan, setting: Setting) -> Comparison:
    builds: dict[str, Callable[[], Any]] = {}
    works: dict[str, Work] = {}
    notes: list[str] = []
    for electra, each in {False: setting, True: setting.electra()}.items():
        names = [HERE[electra]]
        builds[names[0]] = partial(OwnTraining, each)
        for mode in plan.modes:
            names.append(in_mode(HERE[electra], mode))
            builds[names[-1]] = partial(OwnTraining, each.run_as(mode))
        if reason := peers.left_out(each, plan.with_peers):
            notes.append(f"{THEIRS[electra]}: {reason}")
        else:
            names.append(THEIRS[electra])
            builds[names[-1]] = partial(peers.ComposedTraining, each)
            if peers.why_not(generator_shape_of(each)):
                notes.append(NARROWED.format(THEIRS[electra]))
        works |= dict.fromkeys(names, step_work(each))
    if plan.modes and setting.dropout:
        notes.append(MODES_UNCHECKED.format("; ".join(plan.modes)))
    return Comparison(
        part=PART,
        title=f"{setting.words}, dropout {setting.dropout:g}",
        work=step_work(setting),
        build=builds,
        baseline=THEIRS[False] if THEIRS[False] in builds else HERE[False],
        check=lambda workloads: _check(workloads, setting),
        clock=step_clock(setting.device),
        device=setting.device,
        works=works,
        notes=tuple(notes),
        arch=setting.arch,
    )


def step_work(setting: Setting) -> Work:
    """Of one step."""
    shape, generator = shape_of(setting), generator_shape_of(setting)
    batch, length = setting.batch, setting.length
    masked = batch * masked_count(length, MASK_PROBABILITY, length)
    vocabulary = setting.sizes.vocabulary
    flops = step_flops(shape, generator, vocabulary, batch, length, masked)
    return Work(batch * length, flops)


def _check(workloads: Mapping[str, Any], setting: Setting) -> dict[str, Difference]:
    """Losses, and the gradient of the token table, to which all parts contribute."""
    differences = {}
    for electra, name in HERE.items():
        if name not in workloads:
            continue
        own = workloads[name]
        if THEIRS[electra] in workloads:
            found = _peer_difference(workloads[THEIRS[electra]], own)
            differences[THEIRS[electra]] = worst(found, ALLOWED[setting.dtype], name)
        # What is evaluated is neither compiled nor in graphs.
        modes = () if setting.dropout else MODES
        for other in {in_mode(name, mode) for mode in modes} & workloads.keys():
            training = workloads[other]
            torch.nn.Module.load_state_dict(training.model, own.model.state_dict())
            found = _far(_own_results(training), _own_results(own))
            differences[other] = worst(found, ALLOWED[setting.dtype], name)
    return differences


Results = tuple[Tensor, Tensor]
"""The two mean losses, and a gradient."""


def _far(results: Results, expected: Results) -> tuple[float, float]:
    losses, gradients = ([pair] for pair in zip(results, expected, strict=True))
    return farthest(losses), farthest(gradients)


def _own_results(training: OwnTraining) -> Results:
    """Of the step as it is timed, or in evaluation where there is dropout, which that turns off."""
    model = training.model
    training.optimizer.zero_grad()
    if training.setting.dropout:
        loss, sample_size, log = training.criterion(model.eval(), training.batch.sample)
        (loss / sample_size).backward()
    else:
        log = training.loss_and_gradients()
    means = log["generator_loss"] / log["sample_size"], log["discriminator_loss"] / log["ntokens"]
    return torch.stack(means).detach(), _gradient(model.embeddings.tokens.weight)


def _peer_difference(peer: peers.ComposedTraining, own: OwnTraining) -> tuple[float, float]:
    """With our weights, and with our sampled tokens before the discriminator."""
    generator = own.model.generator
    if peers.why_not(generator_shape_of(own.setting)):
        own.model.generator = peers.narrow_generator(own.model)
    try:
        peer.fill(own.model)
        peer.networks.train(own.setting.dropout == 0)
        peer.networks.zero_grad()
        expected = _own_results(own)
        with torch.no_grad():
            corrupted = own.model(**own.batch.sample["net_input"]).corrupted
        losses = peer.losses(corrupted)
        (losses[0] + peers.DISCRIMINATOR_WEIGHT * losses[1]).backward()
        results = torch.stack(losses).detach(), _gradient(peer.table)
        return _far(results, expected)
    finally:
        own.model.generator = generator
        peer.networks.train()


def _gradient(table: Tensor) -> Tensor:
    assert table.grad is not None
    return table.grad.clone()
