"""Fine-tuning on a task of GLUE, or on classes and scores of one's own."""

import logging
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from fairseq.dataclass import ChoiceEnum
from fairseq.tasks import register_task
from omegaconf import MISSING
from torch import Tensor

from convbert_plugin.criterions.glue_loss import CONFUSION, GOLD, SCORES, SEEN
from convbert_plugin.data.glue.glue_dataset import GlueDataset, GlueOptions
from convbert_plugin.data.glue.glue_description import DATA_MAKER, PreparedTask, read_description
from convbert_plugin.data.glue.glue_files import load_vocabulary, open_rows
from convbert_plugin.data.glue.glue_tasks import TRAIN, GlueTask
from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.errors import UserError
from convbert_plugin.formats.answers import Answers
from convbert_plugin.metrics.glue_scores import (
    METRICS_OF_CLASSES,
    METRICS_OF_SCORES,
    majority_scores,
)
from convbert_plugin.models.convbert import ConvBertModel
from convbert_plugin.models.parts import CLASSIFICATION
from convbert_plugin.modules.heads import CLASSIFICATION_HEADS
from convbert_plugin.tasks.fine_tuning import FineTuningConfig, FineTuningTask, Score

logger = logging.getLogger(__name__)


def _of_those_seen(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """The metric of the examples that have been seen: not those of batches still to come."""

    def metric(scores: Tensor, gold: Tensor, seen: Tensor) -> Tensor:
        is_seen = seen > 0
        return function(scores[is_seen], gold[is_seen])

    return metric


SCORES_OF = {
    **{name: Score(function, (CONFUSION,)) for name, function in METRICS_OF_CLASSES.items()},
    **{
        name: Score(_of_those_seen(function), (SCORES, GOLD, SEEN))
        for name, function in METRICS_OF_SCORES.items()
    },
}


@dataclass
class GlueTaskConfig(FineTuningConfig):
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


@register_task("glue", dataclass=GlueTaskConfig)
class GlueFineTuningTask(FineTuningTask):
    """Builds batches of texts or pairs, an encoder with a classification head, and the scores."""

    data_maker = DATA_MAKER
    # [CLS], a token of each of two texts, and two separators.
    shortest_example = 5

    def __init__(self, cfg: GlueTaskConfig, prepared: PreparedTask, vocabulary: Vocabulary):
        row = prepared.task
        scores = {name: SCORES_OF[name] for name in row.metrics}
        head = f"{CLASSIFICATION}.{row.head}"
        super().__init__(cfg, vocabulary, row.name, head, scores, prepared.answers)
        self.prepared = prepared

    @classmethod
    def open(cls, cfg: GlueTaskConfig) -> "GlueFineTuningTask":
        prepared = read_description(cfg.data)
        row = prepared.task
        if cfg.glue_task is not None and cfg.glue_task.lower() != row.name:
            raise UserError(
                f"--glue-task {cfg.glue_task}: {cfg.data} holds {row.name}: name its folder, or "
                f"prepare it with {DATA_MAKER}"
            )
        if cfg.double_unordered and not row.is_pair:
            raise UserError(f"--double-unordered: {row.name} has no pairs: leave it out")
        return cls(cfg, prepared, load_vocabulary(cfg.data))

    def begin(self) -> None:
        super().begin()
        # MNLI's recipe names both of its sets, and a folder may hold one of them.
        named = self.cfg.valid_subset.split(",")
        held = [split for split in named if split in self.prepared.splits]
        missing = [split for split in named if split not in held]
        if held and missing and set(missing) <= self.row.sources.keys():
            files = " and ".join(self.row.sources[split].file for split in missing)
            logger.warning(
                f"{self.cfg.data}: was prepared without {files}: validating on {', '.join(held)}"
            )
            # What fairseq goes through stands in the settings that those of the task belong to.
            self.cfg._get_root().dataset.valid_subset = ",".join(held)

    @property
    def row(self) -> GlueTask:
        """The row of the table of tasks."""
        return self.prepared.task

    def bring_data_to(self, answers: Answers) -> None:
        self.prepared = self.prepared.brought_to(answers)

    def add_head(self, model: ConvBertModel) -> None:
        model.register_classification_head(
            self.row.head, self.row.outputs, str(self.cfg.classification_head)
        )

    def description(self) -> dict:
        return {
            "classification_head": str(self.cfg.classification_head),
            "majority": self._majority(),
        }

    def load_dataset(
        self, split: str, epoch: int = 1, combine: bool = False, **kwargs: Any
    ) -> None:
        rows = open_rows(self.cfg.data, self.prepared, split, self.vocabulary)
        if rows.targets is None:
            raise UserError(
                f"{self.cfg.data}: {split} has no labels: give it to convbert predict-glue"
            )
        options = GlueOptions(
            max_length=self.cfg.tokens_per_sample,
            double_unordered=self.cfg.double_unordered and split == TRAIN,
            pad_to_max_length=self.pad_to_max_length,
            output=self.head,
        )
        dataset = GlueDataset(rows, self.vocabulary, options)
        cut = int((dataset.full_lengths > options.max_length).sum())
        logger.info(
            f"{self.cfg.data}: {split} of {self.row.name}: {len(dataset):,} examples, {cut:,} of "
            f"them cut to {options.max_length} tokens"
        )
        self.datasets[split] = dataset

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
