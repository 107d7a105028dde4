"""The encoder: this project's, transformers', and its own matrix products alone."""

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
    Workload,
    farthest,
)
from convbert_plugin.analysis.bench.machine import DTYPES, step_clock
from convbert_plugin.analysis.bench.own_models import OwnEncoder
from convbert_plugin.analysis.bench.plan import COMPILED, SEED, Plan, Setting, shape_of
from convbert_plugin.analysis.profiling.operations import (
    Product,
    stack_flops,
    stack_products,
    with_backward,
)
from convbert_plugin.formats.keys import transformers_names
from convbert_plugin.models.parts import KEYS

PART = "encoder"
HERE = {False: "ConvBERT here", True: "ELECTRA here"}
THEIRS = {False: "ConvBertModel of transformers", True: "ElectraModel of transformers"}
PRODUCTS = "the matrix products alone"
DIRECTIONS = {"forward": False, "forward + backward": True}


def in_mode(name: str, mode: str) -> str:
    """What a variant is called that is run as ``mode`` names it."""
    return f"{name}, {mode}"


class Encoding(Workload):
    """Features of a batch, without gradients, or with those of all weights; ``run`` is timed."""

    def __init__(self, encoder: Any, backward: bool):
        self.encoder, self.backward = encoder, backward
        # Dropout is 0 in both modes; who evaluates has asked for no gradients either.
        encoder.model.train(backward)

    def run(self) -> Tensor:
        if not self.backward:
            with torch.no_grad():
                return self.encoder.features()
        self.encoder.model.zero_grad()
        features = self.encoder.features()
        features.backward(_direction(features))
        return features

    def results(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Features, and gradients by their names."""
        features = self.run()
        parameters = self.encoder.model.named_parameters()
        return features.detach(), {
            name: weight.grad.detach() for name, weight in parameters if weight.grad is not None
        }


def _direction(features: Tensor) -> Tensor:
    """A gradient of the features, and no constant: LayerNorm gives them a mean of 0."""
    width = features.size(-1)
    wave = torch.arange(width, device=features.device, dtype=torch.float32).sin() / width
    return wave.to(features.dtype).expand_as(features)


class Products(Workload):
    """The matrix products of the encoder, between tensors that stand ready; ``run`` is timed."""

    def __init__(self, setting: Setting, backward: bool):
        torch.manual_seed(SEED)
        self.products = stack_products(shape_of(setting), setting.batch, setting.length)
        self.backward = backward
        self.tensors = {
            product: self._tensors(product, setting) for product in dict.fromkeys(self.products)
        }

    def _tensors(self, product: Product, setting: Setting) -> tuple[Tensor, Tensor, Tensor]:
        number, rows, inner, columns = product
        sizes = (rows, inner), (inner, columns), (rows, columns)
        return tuple(  # type: ignore[return-value]
            torch.randn(number, *size, device=setting.device).to(DTYPES[setting.dtype])
            for size in sizes
        )

    def run(self) -> None:
        for product in self.products:
            left, right, gradient = self.tensors[product]
            torch.bmm(left, right)
            if self.backward:
                torch.bmm(gradient, right.transpose(1, 2))
                torch.bmm(left.transpose(1, 2), gradient)


def encoder_comparisons(plan: Plan) -> Iterator[Comparison]:
    """Forward, and forward with backward, in every size."""
    for arch in plan.archs:
        for direction, backward in DIRECTIONS.items():
            setting = plan.setting(arch)
            title = f"{direction}, {setting.words}"
            yield encoder_comparison(PART, title, setting, backward, plan)


def encoder_comparison(
    part: str, title: str, setting: Setting, backward: bool, plan: Plan
) -> Comparison:
    """Of one setting."""
    pair = {False: setting, True: setting.electra()}
    works = {electra: _work(each, backward) for electra, each in pair.items()}
    builds: dict[str, Callable[[], Any]] = {}
    work_of: dict[str, Work] = {}
    notes: list[str] = []
    for electra, each in pair.items():
        names = [HERE[electra]]
        builds[names[0]] = partial(_own, each, backward)
        # Graphs hold a loss too.
        if COMPILED in plan.modes and backward and part == PART:
            names.append(in_mode(HERE[electra], COMPILED))
            builds[names[-1]] = partial(_own, each.run_as(COMPILED), backward)
        if reason := peers.left_out(each, plan.with_peers, backward):
            notes.append(f"{THEIRS[electra]}: {reason}")
        else:
            names.append(THEIRS[electra])
            builds[names[-1]] = partial(_theirs, each, backward)
        work_of |= dict.fromkeys(names, works[electra])
    builds[PRODUCTS] = lambda: Products(setting, backward)
    return Comparison(
        part=part,
        title=title,
        work=works[False],
        build=builds,
        baseline=THEIRS[False] if THEIRS[False] in builds else HERE[False],
        check=lambda workloads: _check(workloads, setting.dtype),
        clock=step_clock(setting.device),
        device=setting.device,
        works=work_of,
        length=setting.length,
        notes=tuple(notes),
    )


def _work(setting: Setting, backward: bool) -> Work:
    forward = stack_flops(shape_of(setting), setting.batch, setting.length)
    flops = with_backward(forward) if backward else forward
    return Work(setting.batch * setting.length, flops)


def _own(setting: Setting, backward: bool) -> Encoding:
    return Encoding(OwnEncoder(setting), backward)


def _theirs(setting: Setting, backward: bool) -> Encoding:
    return Encoding(peers.PeerEncoder(setting), backward)


def _check(workloads: Mapping[str, Any], dtype: str) -> dict[str, Difference]:
    """Each model of transformers, and each compiled one, against ours of the same weights."""
    differences = {}
    for electra, name in HERE.items():
        if name not in workloads:
            continue
        own = workloads[name]
        features, gradients = own.results()
        for other in (THEIRS[electra], in_mode(name, COMPILED)):
            if other in workloads:
                found = _differences(workloads[other], own, features, gradients)
                differences[other] = worst(found, ALLOWED[dtype], name)
    return differences


def _differences(
    other: Encoding, own: Encoding, features: Tensor, gradients: Mapping[str, Tensor]
) -> tuple[float, float]:
    """Of the features, and of the gradients as far as there are any."""
    model = own.encoder.model
    is_peer = isinstance(other.encoder, peers.PeerEncoder)
    if is_peer:
        peers.fill_encoder(other.encoder.model, model)
    else:
        torch.nn.Module.load_state_dict(other.encoder.model, model.state_dict())
    their_features, their_gradients = other.results()
    if is_peer and gradients:
        their_gradients = KEYS.to_own(their_gradients, gradients, transformers_names(""))
    pairs = [(their_gradients[name], gradient) for name, gradient in gradients.items()]
    return (
        farthest([(their_features, features)]),
        farthest(pairs) if pairs else 0.0,
    )


def worst(found: tuple[float, float], allowed: tuple[float, float], name: str) -> Difference:
    """Of outputs and gradients, the one that is farther beyond or nearer to what is allowed."""
    index = max((0, 1), key=lambda place: found[place] / allowed[place])
    return Difference(name, found[index], allowed[index])
