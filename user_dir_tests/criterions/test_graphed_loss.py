"""Losses by graphs (by what stands for them without a GPU) against the same losses without."""

import copy

import pytest
import torch

from convbert_plugin.criterions.graphed_loss import GraphedLoss
from convbert_plugin.modules.cuda_graphs import TrainingGraphs
from user_dir_tests.modules.test_cuda_graphs import StandIn

pytestmark = [
    pytest.mark.speed,
    pytest.mark.pretraining,
    pytest.mark.usefixtures("by_torch_alone"),
]

LENGTHS = (32, 32, 30, 28)
OTHERS = (20, 17, 20, 12)


def steps(bench, loss_of):
    """Losses, sizes, logs and gradients of batches of several shapes, added up over two each."""
    model = copy.deepcopy(bench.model).train()
    found = []
    for number, lengths in enumerate([LENGTHS] * 4 + [OTHERS] * 4 + [LENGTHS]):
        bench.criterion.train()
        for batch in bench.batches(lengths, parts=2):
            torch.manual_seed(number)
            loss, sample_size, log = loss_of(bench.criterion, model, batch)
            loss.backward()
            found.append((loss.detach(), sample_size, log))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 1e-3 * parameter.grad
                parameter.grad = None
    return found, list(model.parameters())


@pytest.mark.parametrize("objective", ["replaced_token_detection", "masked_lm"])
def test_losses_and_logs_are_those_without_graphs(bench, objective):
    built = bench(objective=objective)
    graphed = GraphedLoss(lambda: TrainingGraphs(StandIn))
    found, parameters = steps(built, graphed)
    expected, expected_parameters = steps(built, lambda criterion, *batch: criterion(*batch))
    assert len(graphed.graphs.recordings) > 1
    for (loss, size, log), (other_loss, other_size, other_log) in zip(found, expected, strict=True):
        assert torch.allclose(loss, other_loss, rtol=1e-12)
        assert size == other_size
        assert log.keys() == other_log.keys()
        for name, value in log.items():
            assert type(value) is type(other_log[name])
            assert torch.allclose(torch.as_tensor(value), torch.as_tensor(other_log[name]))
    for parameter, other in zip(parameters, expected_parameters, strict=True):
        assert torch.allclose(parameter, other, rtol=1e-10)
