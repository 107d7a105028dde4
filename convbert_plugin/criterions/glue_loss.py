"""The loss of fine-tuning on GLUE, and what its scores are made of."""

from dataclasses import dataclass, field
from typing import Any, List, Mapping, Optional, Sequence

import torch
import torch.nn.functional as F
from fairseq.criterions import register_criterion
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.tasks import FairseqTask
from omegaconf import II
from torch import nn

from convbert_plugin.criterions.summed_logs import Counts, log_ratio, log_sums
from convbert_plugin.criterions.task_loss import TaskLoss
from convbert_plugin.errors import UserError
from convbert_plugin.metrics.glue_scores import confusion

CONFUSION, SCORES, GOLD, SEEN = "confusion", "scores", "gold", "seen"


@dataclass
class GlueConfig(FairseqDataclass):
    loss_reduction: ChoiceEnum(["sum", "mean"]) = field(
        default="sum",
        metadata={
            "help": "gradient of the sum over a full batch, as released, or of its mean (a shorter "
            "batch counts like a full one): a difference where gradients are clipped"
        },
    )
    batch_size: Optional[int] = II("dataset.batch_size")
    update_freq: List[int] = II("optimization.update_freq")
    distributed_world_size: int = II("distributed_training.distributed_world_size")


@register_criterion("glue", dataclass=GlueConfig)
class GlueCriterion(TaskLoss):
    """Cross-entropy of the classes, or squared error of scores brought to 0 to 1.

    The sample size is the number of examples, so that any split of a batch over --update-freq and
    workers gives the same gradient. For the released sum over the batch it is their share of a
    full batch: 1 for a full one. Source: classification_tasks.py:209-290.
    """

    def __init__(
        self,
        task: FairseqTask,
        loss_reduction: str,
        batch_size: Optional[int],
        update_freq: List[int],
        distributed_world_size: int,
    ):
        super().__init__(task)
        self.classes = len(task.row.labels)
        self.full_batch = 1
        if str(loss_reduction) == "sum":
            if batch_size is None:
                raise UserError(
                    "--loss-reduction sum needs --batch-size, not --max-tokens: give it, or take "
                    "--loss-reduction mean"
                )
            self.full_batch = batch_size * update_freq[0] * max(1, distributed_world_size)

    def forward(
        self, model: nn.Module, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[torch.Tensor, float, dict[str, Any]]:
        """Loss summed over the examples, their number, and sums to log."""
        logits = model(**sample["net_input"])
        target = sample["target"]
        log = {
            "sample_size": sample["nsentences"] / self.full_batch,
            "nsentences": sample["nsentences"],
            "ntokens": sample["ntokens"],
        }
        if self.classes:
            loss = F.cross_entropy(logits, target, reduction="sum")
            counts = confusion(logits.detach().argmax(-1), target, self.classes)
            log[CONFUSION] = counts.as_subclass(Counts)
        else:
            scores = logits.squeeze(-1)
            loss = F.mse_loss(scores, target.to(scores.dtype), reduction="sum")
            if not model.training:
                log.update(_by_example(scores.detach(), sample))
        return loss, log["sample_size"], {"loss": loss.detach(), **log}

    @classmethod
    def reduce_metrics(cls, logging_outputs: Sequence[Mapping[str, Any]]) -> None:
        """Log the mean loss, and the sums that the task makes its scores of."""
        if "nsentences" in log_sums(logging_outputs):
            log_ratio("loss", "loss", "nsentences", priority=0)


def _by_example(scores: torch.Tensor, sample: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Scores, targets and whether an example was seen [rows], 0 for those of other batches."""
    rows, index = sample["rows"], sample["id"]
    values = {SCORES: scores, GOLD: sample["target"], SEEN: torch.ones_like(scores)}
    return {
        name: torch.zeros(rows, dtype=torch.float64, device=scores.device)
        .index_add_(0, index, value.double())
        .as_subclass(Counts)
        for name, value in values.items()
    }
