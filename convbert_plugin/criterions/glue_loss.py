"""The loss of fine-tuning on GLUE, and what its scores are made of."""

from dataclasses import dataclass
from typing import Any, Mapping

import torch
import torch.nn.functional as F
from fairseq.criterions import register_criterion
from torch import Tensor, nn

from convbert_plugin.criterions.fine_tuning_loss import FineTuningLoss, FineTuningLossConfig
from convbert_plugin.criterions.summed_logs import Counts, of_all_rows
from convbert_plugin.metrics.glue_scores import confusion

CONFUSION, SCORES, GOLD, SEEN = "confusion", "scores", "gold", "seen"


@dataclass
class GlueConfig(FineTuningLossConfig):
    """Options of its own it has none."""


@register_criterion("glue", dataclass=GlueConfig)
class GlueCriterion(FineTuningLoss):
    """Cross-entropy of the classes, or squared error of scores brought to 0 to 1.

    Source: classification_tasks.py:209-290.
    """

    def summed_loss(
        self, model: nn.Module, sample: Mapping[str, Any]
    ) -> tuple[Tensor, dict[str, Any]]:
        logits = model(**sample["net_input"])
        target = sample["target"]
        if classes := len(self.task.row.labels):
            loss = F.cross_entropy(logits, target, reduction="sum")
            counts = confusion(logits.detach().argmax(-1), target, classes)
            return loss, {CONFUSION: counts.as_subclass(Counts)}
        scores = logits.squeeze(-1)
        loss = F.mse_loss(scores, target.to(scores.dtype), reduction="sum")
        if model.training:
            return loss, {}
        values = {SCORES: scores.detach(), GOLD: target, SEEN: torch.ones_like(scores)}
        return loss, {
            name: of_all_rows(value.double(), sample["id"], sample["rows"])
            for name, value in values.items()
        }
