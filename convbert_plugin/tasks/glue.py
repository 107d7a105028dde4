"""Fine-tuning on a task of GLUE, or on classes and scores of one's own."""

import logging
from dataclasses import dataclass, field
from functools import cached_property
from typing import Optional

from fairseq.dataclass import ChoiceEnum
from fairseq.tasks import register_task
from omegaconf import II, MISSING

from convbert_plugin.criterions.glue_loss import CONFUSION, GOLD, SCORES, SEEN
from convbert_plugin.criterions.summed_logs import log_exact_score
from convbert_plugin.data.glue.glue_dataset import GlueDataset, GlueOptions
from convbert_plugin.data.glue.glue_files import (
    DATA_MAKER,
    PreparedTask,
    load_vocabulary,
    open_rows,
    read_description,
)
from convbert_plugin.data.glue.glue_tasks import TRAIN, GlueTask
from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.errors import UserError
from convbert_plugin.files.run_record import RunRecord
from convbert_plugin.metrics.glue_scores import (
    METRICS_OF_CLASSES,
    METRICS_OF_SCORES,
    majority_scores,
)
from convbert_plugin.models.parts import CLASSIFICATION
from convbert_plugin.modules.heads import CLASSIFICATION_HEADS
from convbert_plugin.tasks.checkpoints import check_checkpoints, describe_start
from convbert_plugin.tasks.encoder_task import EncoderTask
from convbert_plugin.tasks.precision_flags import check_precision
from convbert_plugin.tasks.run_config import RunConfig

logger = logging.getLogger(__name__)


@dataclass
class GlueTaskConfig(RunConfig):
    data: str = field(default=MISSING, metadata={"help": "a folder made by convbert prepare-glue"})
    glue_task: Optional[str] = field(
        default=None, metadata={"help": "the task that the folder must hold (default: any)"}
    )
    tokens_per_sample: int = field(
        default=128, metadata={"help": "longest example, [CLS] and [SEP] counted"}
    )
    double_unordered: bool = field(
        default=False,
        metadata={"help": "train on every pair in both orders (as released: MRPC, STS-B)"},
    )
    classification_head: ChoiceEnum(list(CLASSIFICATION_HEADS)) = field(
        default="released",
        metadata={"help": "one linear layer on [CLS], or that of transformers with one more"},
    )
    distributed_rank: int = II("distributed_training.distributed_rank")
    valid_subset: str = II("dataset.valid_subset")
    best_checkpoint_metric: str = II("checkpoint.best_checkpoint_metric")
    maximize_best_checkpoint_metric: bool = II("checkpoint.maximize_best_checkpoint_metric")


@register_task("glue", dataclass=GlueTaskConfig)
class GlueFineTuningTask(EncoderTask):
    """Builds batches of texts or pairs, an encoder with a classification head, and the scores.

    Raises:
        UserError: data, vocabulary, checkpoint or options that do not go together.
    """

    data_maker = DATA_MAKER
    # [CLS], a token of each of two texts, and two separators.
    shortest_example = 5

    def __init__(self, cfg: GlueTaskConfig, prepared: PreparedTask, vocabulary: Vocabulary):
        super().__init__(cfg, vocabulary)
        self.prepared = prepared
        self.start = None
        self.state.merge_state_dict({"glue_task": prepared.task.name})

    @classmethod
    def setup_task(cls, cfg, from_checkpoint=False, **kwargs):
        prepared = read_description(cfg.data)
        cls.check_length(cfg)
        _check_options(cfg, prepared)
        vocabulary = load_vocabulary(cfg.data)
        task = cls(cfg, prepared, vocabulary)
        if not from_checkpoint:
            check_precision(cfg)
            _check_best(cfg, prepared.task)
            task.start = check_checkpoints(cfg, vocabulary)
            if task.start is not None and task.start.is_own:
                # Now, and not when another head's optimizer state fails to fit.
                task.load_state_dict(task.start.state)
        return task

    @property
    def row(self) -> GlueTask:
        """The row of the table of tasks."""
        return self.prepared.task

    def build_model(self, cfg, from_checkpoint=False):
        model = super().build_model(cfg, from_checkpoint)
        model.register_classification_head(
            self.row.head, self.row.outputs, str(self.cfg.classification_head)
        )
        self.model_description = {"arch": getattr(cfg, "_name", None), "layers": cfg.encoder_layers}
        return model

    def load_dataset(self, split, epoch=1, combine=False, **kwargs):
        rows = open_rows(self.cfg.data, self.prepared, split, self.vocabulary)
        if rows.targets is None:
            raise UserError(
                f"{self.cfg.data}: {split} has no labels: give it to convbert predict-glue"
            )
        options = GlueOptions(
            max_length=self.cfg.tokens_per_sample,
            double_unordered=self.cfg.double_unordered and split == TRAIN,
            pad_to_max_length=self.pad_to_max_length,
            output=f"{CLASSIFICATION}.{self.row.head}",
        )
        dataset = GlueDataset(rows, self.vocabulary, options)
        cut = int((dataset.full_lengths > options.max_length).sum())
        logger.info(
            f"{self.cfg.data}: {split} of {self.row.name}: {len(dataset):,} examples, {cut:,} of "
            f"them cut to {options.max_length} tokens"
        )
        self.datasets[split] = dataset

    def load_state_dict(self, state):
        super().load_state_dict(state)
        if (name := state.get("glue_task", self.row.name)) != self.row.name:
            raise UserError(
                f"{self.cfg.data}: holds {self.row.name}, the checkpoint is of a run on {name}: "
                "choose another --save-dir, or begin from it with --finetune-from-model"
            )

    def reduce_metrics(self, logging_outputs, criterion):
        """Log the loss, and the official metrics of the whole set so far."""
        super().reduce_metrics(logging_outputs, criterion)
        keys = logging_outputs[0].keys() if logging_outputs else ()
        for priority, name in enumerate(self.row.metrics, start=1):
            if CONFUSION in keys:
                log_exact_score(name, METRICS_OF_CLASSES[name], (CONFUSION,), priority)
            elif SCORES in keys:
                function = _of_those_seen(METRICS_OF_SCORES[name])
                log_exact_score(name, function, (SCORES, GOLD, SEEN), priority)

    def post_validate(self, model, stats, agg):
        """Write the scores down."""
        super().post_validate(model, stats, agg)
        subset = next(self._subsets)
        if self.cfg.distributed_rank == 0:
            scores = {name: stats[name] for name in ("loss", *self.row.metrics)}
            self.record.add(subset, stats["num_updates"], scores)

    def begin_valid_epoch(self, epoch, model):
        # fairseq does not say which one it has validated, but goes through them in this order.
        self._subsets = iter(self.cfg.valid_subset.split(","))

    @cached_property
    def record(self) -> RunRecord:
        """The scores of the run, in its folder."""
        is_resumed = self.start is not None and self.start.is_own
        description = {
            "glue_task": self.row.name,
            "metrics": list(self.row.metrics),
            "seed": self.cfg.seed,
            "model": self.model_description,
            "classification_head": str(self.cfg.classification_head),
            "start": describe_start(self.start),
            "majority": self._majority(),
        }
        return RunRecord(self.cfg.save_dir, description, is_resumed)

    def _majority(self) -> dict:
        """What the most frequent class of the training set would score on the others."""
        splits = self.prepared.splits
        if self.row.is_regression or TRAIN not in splits:
            return {}
        counts = splits[TRAIN].label_counts
        majority = counts.index(max(counts))
        return {
            name: majority_scores(split.label_counts, majority, self.row.metrics)
            for name, split in splits.items()
            if name != TRAIN and split.label_counts
        }


def _of_those_seen(function):
    """The metric of the examples that have been seen: not those of batches still to come."""

    def metric(scores, gold, seen):
        is_seen = seen > 0
        return function(scores[is_seen], gold[is_seen])

    return metric


def _check_best(cfg: GlueTaskConfig, row: GlueTask):
    metric, maximize = cfg.best_checkpoint_metric, cfg.maximize_best_checkpoint_metric
    if metric not in ("loss", *row.metrics):
        raise UserError(
            f"--best-checkpoint-metric {metric}: {row.name} has loss, {', '.join(row.metrics)}"
        )
    if maximize == (metric == "loss"):
        raise UserError(
            f"--best-checkpoint-metric {metric} goes "
            + ("with" if metric != "loss" else "without")
            + " --maximize-best-checkpoint-metric"
        )


def _check_options(cfg: GlueTaskConfig, prepared: PreparedTask):
    row = prepared.task
    if cfg.glue_task is not None and cfg.glue_task.lower() != row.name:
        raise UserError(
            f"--glue-task {cfg.glue_task}: {cfg.data} holds {row.name}: name its folder, or "
            f"prepare it with {DATA_MAKER}"
        )
    if cfg.double_unordered and not row.is_pair:
        raise UserError(f"--double-unordered: {row.name} has no pairs: leave it out")
