"""The task trains by graphs where the model says so; without a GPU, by what stands for them."""

import pytest
import torch
from fairseq import tasks
from fairseq.logging import metrics
from fairseq.trainer import Trainer

from convbert_plugin.criterions.graphed_loss import GraphedLoss
from convbert_plugin.modules.cuda_graphs import TrainingGraphs
from user_dir_tests.modules.test_cuda_graphs import StandIn

pytestmark = [
    pytest.mark.speed,
    pytest.mark.pretraining,
    pytest.mark.usefixtures("by_torch_alone"),
]

UPDATES = 8


@pytest.fixture
def train(corpus, config_of, tmp_path):
    """The parameters after a few updates, the last losses, and the task."""

    def run(is_graphed):
        cfg = config_of(
            corpus,
            *("--encoder-layers", "1", "--batch-size", "8", "--clip-norm", "1.0", "--seed", "3"),
            *("--lr-scheduler", "convbert_linear", "--max-update", "9", "--num-workers", "0"),
            *("--save-dir", str(tmp_path / "run"), "--update-freq", "2", "--full-blocks"),
        )
        task = tasks.setup_task(cfg.task)
        task.cfg.cuda_graphs = is_graphed
        task.graphed_loss = GraphedLoss(lambda: TrainingGraphs(StandIn))
        task.load_dataset("train")
        torch.manual_seed(1)
        model = task.build_model(cfg.model)
        criterion = task.build_criterion(cfg.criterion)
        trainer = Trainer(cfg, task, model, criterion)
        batches = iter(trainer.get_train_iterator(1).next_epoch_itr(shuffle=False))
        metrics.reset()
        with metrics.aggregate("train") as meters:
            for _ in range(UPDATES):
                trainer.train_step([next(batches), next(batches)])
            scores = {name: float(value) for name, value in meters.get_smoothed_values().items()}
        metrics.reset()
        return model.state_dict(), scores, task

    return run


def test_updates_are_those_without_graphs(train):
    """Bit for bit, with dropout, and two batches an update."""
    parameters, scores, task = train(is_graphed=True)
    expected, expected_scores, other = train(is_graphed=False)
    assert task.graphed_loss.graphs.recordings
    assert not other.graphed_loss.graphs.recordings
    for name, tensor in parameters.items():
        assert torch.equal(tensor, expected[name]), name
    for name in ("loss", "discriminator_auc", "generator_accuracy", "replaced_rate"):
        assert scores[name] == expected_scores[name]
