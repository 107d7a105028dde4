"""Scores of whole dev sets, from logs of any batches and workers, against other libraries."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fairseq.logging import metrics
from omegaconf import OmegaConf
from scipy import stats
from sklearn import metrics as sklearn_metrics

from convbert_plugin.data.glue.glue_preparing import prepare
from convbert_plugin.data.glue.glue_tasks import TASKS, VALID
from convbert_plugin.tasks.glue import GlueFineTuningTask, GlueTaskConfig
from convbert_plugin.tokenization.tokenizer import load_tokenizer

pytestmark = pytest.mark.glue

EXACT = 1e-9
OFFICIAL = ("CoLA", "SST-2", "MRPC", "STS-B", "RTE")
PREDICTIONS = ("random", "one class")


@pytest.fixture(scope="module")
def dev_set(real_data, tmp_path_factory):
    """The task of a real dev set, prepared when it is first asked for, with an id a row."""
    made = {}

    def get(name):
        if name not in made:
            source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("out")
            (source / "dev.tsv").symlink_to(real_data / "glue" / name / "dev.tsv")
            vocabulary = real_data / "vocab" / "bert-base-uncased.txt"
            prepare(TASKS[name.lower()], source, out, load_tokenizer(vocabulary))
            config = GlueTaskConfig(_name="glue", data=str(out), seed=1)
            made[name] = GlueFineTuningTask.setup_task(config, from_checkpoint=True)
            made[name].load_dataset(VALID)
        return made[name]

    return get


class Answers:
    """Stands for a model: the logits of each row, which its criterion asks for by the batch."""

    training = False

    def __init__(self, logits):
        self.logits = logits
        self.ids = None

    def __call__(self, output, **inputs):
        return self.logits[self.ids]


def criterion_of(task, batch_size, workers):
    options = {"loss_reduction": "sum", "batch_size": batch_size, "update_freq": [1]}
    return task.build_criterion(
        OmegaConf.create({"_name": "glue", **options, "distributed_world_size": workers})
    )


def logged(task, logits, batch_size, workers):
    """What fairseq logs at the end of a validation of these answers."""
    criterion = criterion_of(task, batch_size, workers)
    model = Answers(logits)
    dataset = task.dataset(VALID)
    batches = dataset.batch_by_size(dataset.ordered_indices(), max_sentences=batch_size)
    metrics.reset()
    with metrics.aggregate(new_root=True) as aggregator:
        for first in range(0, len(batches), workers):
            logs = []
            for batch in batches[first : first + workers]:
                sample = dataset.collater([dataset[int(index)] for index in batch])
                model.ids = sample["id"]
                logs.append(criterion(model, sample)[2])
            # As the trainer adds up what the workers have to say.
            summed = {key: sum(log[key] for log in logs) for key in logs[0]}
            task.reduce_metrics([summed], criterion)
    return {name: float(value) for name, value in aggregator.get_smoothed_values().items()}


def answers_of(task, kind, targets):
    rng = np.random.default_rng(5)
    if task.row.is_regression:
        scores = {
            "random": rng.random(len(targets)),
            "one class": np.full(len(targets), 0.25),
        }[kind]
        return torch.from_numpy(scores)[:, None]
    classes = {
        "random": rng.integers(0, 2, len(targets)),
        "one class": np.ones(len(targets), dtype=np.int64),
        "right": targets,
    }[kind]
    return F.one_hot(torch.from_numpy(classes), 2).double()


def expected_of(task, logits, targets):
    if task.row.is_regression:
        scores = logits[:, 0].numpy()
        if (scores == scores[0]).all():
            # Not defined.
            return {"pearson": 0.0, "spearman": 0.0}
        return {
            "pearson": stats.pearsonr(scores, targets)[0],
            "spearman": stats.spearmanr(scores, targets)[0],
        }
    classes = logits.argmax(-1).numpy()
    scores = {
        "accuracy": sklearn_metrics.accuracy_score(targets, classes),
        "f1": sklearn_metrics.f1_score(targets, classes),
        "mcc": sklearn_metrics.matthews_corrcoef(targets, classes),
    }
    return {name: scores[name] for name in task.row.metrics}


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (7, 1), (32, 1), (7, 2)])
@pytest.mark.parametrize("kind", PREDICTIONS)
@pytest.mark.parametrize("name", OFFICIAL)
def test_the_official_metrics_of_a_real_dev_set(dev_set, name, kind, batch_size, workers):
    task = dev_set(name)
    targets = task.dataset(VALID).rows.targets
    logits = answers_of(task, kind, targets)
    values = logged(task, logits, batch_size, workers)
    for metric, value in expected_of(task, logits, targets).items():
        assert values[metric] == pytest.approx(value, abs=EXACT), metric
    assert values["loss"] == pytest.approx(loss_of(task, logits, targets), abs=1e-4)


def loss_of(task, logits, targets):
    """The mean loss from its definition, rounded where it is logged."""
    if task.row.is_regression:
        return float(((logits[:, 0].numpy() - targets) ** 2).mean())
    # One-hot logits: 1 for the class answered and 0 for the other.
    right = logits.argmax(-1).numpy() == targets
    return float(np.where(right, math.log(1 + math.exp(-1)), math.log(1 + math.e)).mean())


def test_a_single_example(dev_set):
    task = dev_set("MRPC")
    dataset = task.dataset(VALID)
    criterion = criterion_of(task, 1, 1)
    sample = dataset.collater([dataset[3]])
    model = Answers(torch.eye(2)[torch.from_numpy(dataset.rows.targets)])
    model.ids = sample["id"]
    with metrics.aggregate(new_root=True) as aggregator:
        task.reduce_metrics([criterion(model, sample)[2]], criterion)
    values = aggregator.get_smoothed_values()
    assert float(values["accuracy"]) == 1.0
    assert float(values["f1"]) == float(dataset.rows.targets[3])
