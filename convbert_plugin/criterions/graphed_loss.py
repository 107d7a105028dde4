"""A loss whose batches of one shape are computed by CUDA graphs, the model's forward pass in it."""

from typing import Any, Callable, Mapping, NamedTuple

import torch
from torch import Tensor, nn

from convbert_plugin.modules.cuda_graphs import TrainingGraphs

INPUT = "net_input"

Loss = tuple[Tensor, float, dict[str, Any]]
"""As criterions return it: the loss, its sample size, what is logged."""


class _Layout(NamedTuple):
    """What a loss of one shape has beside numbers on the device."""

    sample_size: float
    logged: dict[str, type]


class GraphedLoss:
    """Stands for a criterion while it trains one model on one GPU.

    What the criterion logs are tensors, the names of numbers in the batch, or the sample size.
    """

    def __init__(self, graphs: Callable[[], TrainingGraphs] = TrainingGraphs) -> None:
        self.graphs = graphs()
        # Of one model, whose parts stay: to look for them again takes as long as many launches.
        self.parameters: list[Tensor] = []
        self.layouts: dict[tuple, _Layout] = {}

    def __call__(self, criterion: nn.Module, model: nn.Module, sample: dict[str, Any]) -> Loss:
        """The criterion's loss of a batch, for a backward pass to come."""
        tensors = _tensors_of(sample)
        constants = tuple(
            (name, value) for name, value in sample[INPUT].items() if name not in tensors
        )
        shape = (constants, *(tensor.shape for tensor in tensors.values()))

        def function(*inputs: Tensor) -> tuple[Tensor, ...]:
            batch = _with(sample, dict(zip(tensors, inputs, strict=True)))
            loss, sample_size, log = criterion(model, batch)
            logged = {name: value for name, value in log.items() if torch.is_tensor(value)}
            kinds = {name: type(value) for name, value in logged.items()}
            self.layouts[shape] = _Layout(sample_size, kinds)
            return loss, *(value.as_subclass(Tensor) for value in logged.values())

        self.parameters = self.parameters or list(model.parameters())
        loss, *values = self.graphs(
            function, list(tensors.values()), model, self.parameters, constants
        )
        layout = self.layouts[shape]
        log = {name: value for name, value in sample.items() if isinstance(value, (int, float))}
        logged: dict[str, Tensor] = {
            name: value.as_subclass(kind)
            for (name, kind), value in zip(layout.logged.items(), values, strict=True)
        }
        return loss, layout.sample_size, {**log, "sample_size": layout.sample_size, **logged}


def _tensors_of(sample: Mapping[str, Any]) -> dict[str, Tensor]:
    """Those of the batch and of the model's input, by names that are never the same."""
    named = {**sample, **sample[INPUT]}
    return {name: value for name, value in named.items() if torch.is_tensor(value)}


def _with(sample: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The same batch of other tensors."""
    batch = {name: tensors.get(name, value) for name, value in sample.items()}
    inputs = {name: tensors.get(name, value) for name, value in sample[INPUT].items()}
    return {**batch, INPUT: inputs}
