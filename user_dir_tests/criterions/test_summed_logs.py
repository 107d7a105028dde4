"""What is logged, summed over batches and workers as fairseq sums, against scikit-learn."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fairseq.distributed import utils as distributed_utils
from fairseq.logging import metrics
from fairseq.logging.progress_bar import format_stat
from fairseq.trainer import Trainer
from sklearn.metrics import accuracy_score, log_loss, precision_score, recall_score, roc_auc_score

from convbert_plugin.criterions.pretraining_loss import HISTOGRAM

pytestmark = pytest.mark.pretraining

LENGTHS_OF_WORKERS = [[[3, 29, 9], [14, 30, 5]], [[21, 2, 30], [7, 7, 28], [11, 30, 16]]]
ROUNDING = 0.5001e-4
AUC_TOLERANCE = 0.005
SHOWN = {
    *("loss", "generator_loss", "generator_accuracy", "sampled_accuracy", "replaced_rate"),
    *("discriminator_loss", "discriminator_accuracy", "discriminator_precision"),
    *("discriminator_recall", "discriminator_auc"),
}


class Observed:
    """Every token that the networks judged, flat."""

    def __init__(self):
        self.chances, self.labels, self.losses = [], [], []
        self.guessed_right, self.sampled_right = [], []

    def add(self, model, sample):
        inputs = sample["net_input"]
        output, vocabulary = model(**inputs), model.vocabulary
        log_probs = model.masked_lm_log_probs(
            inputs["src_tokens"].clone(), inputs["segments"], inputs["masked_positions"]
        )
        original = inputs["src_tokens"].flatten()
        original[inputs["masked_positions"]] = sample["target"]
        real = original != vocabulary.pad()
        self.labels += (output.corrupted.flatten() != original)[real].tolist()
        self.chances += output.replaced_logits.flatten().sigmoid()[real].tolist()
        self.losses += (-log_probs[range(len(log_probs)), sample["target"]]).tolist()
        self.guessed_right += (log_probs.argmax(-1) == sample["target"]).tolist()
        self.sampled_right += (output.sampled == sample["target"]).tolist()

    def expected(self):
        judged = [chance > 0.5 for chance in self.chances]
        return {
            "generator_loss": np.mean(self.losses),
            "generator_accuracy": np.mean(self.guessed_right),
            "sampled_accuracy": np.mean(self.sampled_right),
            "discriminator_loss": log_loss(self.labels, self.chances),
            "discriminator_accuracy": accuracy_score(self.labels, judged),
            "discriminator_precision": precision_score(self.labels, judged),
            "discriminator_recall": recall_score(self.labels, judged),
            "replaced_rate": np.mean(self.labels),
        }


def logs_of_workers(bench, observed):
    """The logging outputs of each worker's batches."""
    workers = []
    for lengths_of_batches in LENGTHS_OF_WORKERS:
        batches = [bench.batches(lengths)[0] for lengths in lengths_of_batches]
        workers.append([bench.criterion(bench.model, batch)[2] for batch in batches])
        with torch.no_grad():
            for batch in batches:
                observed.add(bench.model, batch)
    return workers


def reduced(workers, monkeypatch):
    """What the last worker's trainer gets from the sum over all of them."""
    trainer = SimpleNamespace(device=torch.device("cpu"), data_parallel_process_group=None)
    sums = {}

    def all_reduce(buffer, group):
        buffer += sums.get(len(buffer), 0)
        sums[len(buffer)] = buffer.clone()

    monkeypatch.setattr(distributed_utils, "all_reduce", all_reduce)
    for worker in workers:
        outputs, _ = Trainer._fast_stat_sync_sum(trainer, worker, 1.0)
    # A checkpoint keeps some of the sums, and is loaded without the plugin's classes.
    assert {type(value) for value in outputs[0].values()} == {torch.Tensor}
    return outputs


def spread_logits(model):
    """Put the logits on both sides of 0, so that tokens are judged to be replaced and not."""
    model.replaced_token_head.output.weight.data *= 3


@pytest.fixture
def shown():
    """Reduce logging outputs and give what is shown of them."""
    metrics.reset()

    def show(criterion, logging_outputs):
        with metrics.aggregate(new_root=True) as aggregator:
            criterion.reduce_metrics(logging_outputs)
        values = aggregator.get_smoothed_values()
        return {name: float(value) for name, value in values.items()}

    yield show
    metrics.reset()


@pytest.mark.parametrize("workers", [1, 2])
def test_logs_of_several_batches_and_workers_are_scikit_learns(bench, shown, monkeypatch, workers):
    bench, observed = bench(), Observed()
    spread_logits(bench.model)
    logs = logs_of_workers(bench, observed)
    outputs = reduced(logs, monkeypatch) if workers == 2 else [log for part in logs for log in part]
    values = shown(bench.criterion, outputs)

    assert set(values) == SHOWN
    expected = observed.expected()
    for name in ("discriminator_precision", "discriminator_recall", "sampled_accuracy"):
        assert 0.02 < expected[name] < 0.98, name
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, abs=ROUNDING), name
    auc = roc_auc_score(observed.labels, observed.chances)
    assert values["discriminator_auc"] == pytest.approx(auc, abs=AUC_TOLERANCE)
    assert abs(auc - 0.5) > 4 * AUC_TOLERANCE
    total = sum(float(log["loss"]) for part in logs for log in part)
    assert values["loss"] == pytest.approx(total / len(observed.losses), abs=ROUNDING)


def test_meters_that_were_reset_show_no_number_until_something_is_logged(bench):
    bench = bench()
    outputs = [bench.criterion(bench.model, batch)[2] for batch in bench.batches([9, 30, 4])]
    metrics.reset()
    with metrics.aggregate("train_inner"):
        bench.criterion.reduce_metrics(outputs)
        first = metrics.get_smoothed_values("train_inner")
        metrics.reset_meters("train_inner")
        empty = metrics.get_smoothed_values("train_inner")
        bench.criterion.reduce_metrics(outputs)
        again = metrics.get_smoothed_values("train_inner")
    metrics.reset()
    assert set(empty) == SHOWN
    assert all(math.isnan(value) for value in empty.values())
    assert again == first


def test_no_logging_output_at_all_shows_nothing(bench, shown):
    assert shown(bench().criterion, []) == {}


def test_masked_language_modelling_logs_its_own_values(bench, shown):
    bench = bench(objective="masked_lm")
    logs = [bench.criterion(bench.model, batch)[2] for batch in bench.batches([9, 30, 4, 17], 2)]
    values = shown(bench.criterion, logs)
    assert set(values) == {"loss", "masked_lm_loss", "masked_lm_accuracy"}
    guesses = sum(log["sample_size"] for log in logs)
    loss = sum(float(log["masked_lm_loss"]) for log in logs) / guesses
    correct = sum(int(log["masked_lm_correct"]) for log in logs)
    assert values["loss"] == values["masked_lm_loss"] == pytest.approx(loss, abs=ROUNDING)
    assert values["masked_lm_accuracy"] == pytest.approx(correct / guesses, abs=ROUNDING)


def test_a_log_line_does_not_spell_the_histogram_out(bench):
    bench = bench()
    (batch,) = bench.batches([9, 30, 4])
    log = bench.criterion(bench.model, batch)[2]
    assert format_stat(log[HISTOGRAM]) == "[4096 counts]"
    assert log[HISTOGRAM].sum() == 9 + 30 + 4 + 2 * 3


def test_meters_are_saved_without_classes_of_the_plugin(bench, tmp_path):
    bench = bench()
    (batch,) = bench.batches([9, 30, 4])
    with metrics.aggregate(new_root=True) as aggregator:
        bench.criterion.reduce_metrics([bench.criterion(bench.model, batch)[2]])
    torch.save(aggregator.state_dict(), tmp_path / "meters.pt")
    torch.load(tmp_path / "meters.pt", weights_only=True)


def test_an_update_of_a_training_computes_no_score_that_nobody_reads(bench):
    """fairseq asks for all of them in meters of the update alone, and reads none."""
    built = bench()
    log = built.criterion(built.model, built.batches([9, 20])[0])[2]
    asked = []
    with metrics.aggregate("train"), metrics.aggregate("train_inner") as kept:
        for _ in range(2):
            with metrics.aggregate() as passing:
                built.criterion.reduce_metrics([log])
                asked.append(passing.get_smoothed_values())
    alone = score_of([log], built.criterion)
    for name in SHOWN - {"loss"}:
        assert all(math.isnan(values[name]) for values in asked)
        assert float(kept.get_smoothed_values()[name]) == pytest.approx(alone[name])
    assert float(asked[0]["loss"]) == pytest.approx(alone["loss"])
    metrics.reset()


def score_of(logs, criterion):
    """Outside of a training."""
    with metrics.aggregate(new_root=True) as meters:
        criterion.reduce_metrics(logs)
        return {name: float(value) for name, value in meters.get_smoothed_values().items()}
