"""The loss of fine-tuning on SQuAD, and what its scores are made of."""

from dataclasses import dataclass
from typing import Any, Mapping, Optional

import torch
import torch.nn.functional as F
from fairseq.criterions import register_criterion
from torch import Tensor, nn

from convbert_plugin.criterions.fine_tuning_loss import FineTuningLoss, FineTuningLossConfig
from convbert_plugin.criterions.summed_logs import of_all_rows
from convbert_plugin.data.squad.squad_answers import window_table
from convbert_plugin.modules.span_heads import SpanLogits

# A row for each window of the set, as data/squad/squad_answers.py makes it.
WINDOW_TABLE = "window_table"
IMPOSSIBLE_WEIGHT = 0.5
# The best span of each window: the others are for lists of answers.
SPANS = 1


@dataclass
class SquadConfig(FineTuningLossConfig):
    """Options of its own it has none."""


@register_criterion("squad", dataclass=SquadConfig)
class SquadCriterion(FineTuningLoss):
    """What start and end of the answers cost, and to tell that there is none."""

    def summed_loss(
        self, model: nn.Module, sample: Mapping[str, Any]
    ) -> tuple[Tensor, dict[str, Any]]:
        logits = model(**sample["net_input"])
        # Pads that are visible are tokens like others.
        pads = None
        if not self.task.pad_to_max_length:
            pads = sample["net_input"]["src_tokens"].eq(self.task.vocabulary.pad())
        loss = answer_loss(logits, sample["target"], pads)
        if model.training:
            return loss, {}
        with torch.no_grad():
            longest = self.task.reading.max_answer_length
            parts = logits.start, logits.end, logits.tops, logits.impossible
            table = window_table(*parts, sample, longest, SPANS)
        return loss, {WINDOW_TABLE: of_all_rows(table, sample["id"], sample["rows"])}


def answer_loss(logits: SpanLogits, target: Mapping[str, Tensor], pads: Optional[Tensor]) -> Tensor:
    """The loss [] summed over windows, of the right ``start``, ``end`` and ``impossible`` [B].

    It is the mean of the cross-entropies of start and end, as that of transformers, and for a head
    that judges whether there is an answer half of the binary cross-entropy of that more. ``pads``
    [B, T] are no answers. Source: the released qa_tasks.py:406-520.
    """
    loss = torch.zeros((), dtype=logits.start.dtype, device=logits.start.device)
    for scores, right in ((logits.start, target["start"]), (logits.end_of_loss, target["end"])):
        possible = scores if pads is None else scores.masked_fill(pads, -torch.inf)
        loss = loss + F.cross_entropy(possible, right, reduction="sum") / 2
    if (impossible := logits.impossible) is not None:
        right = target["impossible"].to(impossible.dtype)
        loss = loss + IMPOSSIBLE_WEIGHT * F.binary_cross_entropy_with_logits(
            impossible, right, reduction="sum"
        )
    return loss
