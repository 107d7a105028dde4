"""What the losses of fine-tuning share: one denominator, which makes them additive."""

from dataclasses import dataclass, field
from typing import Any, List, Mapping, Optional, Sequence

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.tasks import FairseqTask
from omegaconf import II
from torch import Tensor, nn

from convbert_plugin.criterions.summed_logs import log_ratio, log_sums
from convbert_plugin.criterions.task_loss import TaskLoss
from convbert_plugin.errors import UserError


@dataclass
class FineTuningLossConfig(FairseqDataclass):
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


def full_batch(batch_size: int, update_freq: Sequence[int], workers: int) -> int:
    """The examples of an update: those of all micro-batches of all workers."""
    return batch_size * update_freq[0] * max(1, workers)


class FineTuningLoss(TaskLoss):
    """A loss that is a sum over examples.

    The sample size is the number of examples, so that any split of a batch over --update-freq and
    workers gives the same gradient. For the released sum over the batch it is their share of a
    full batch: 1 for a full one. Source: run_finetuning.py:59-61.
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
        self.full_batch = 1
        if str(loss_reduction) == "sum":
            if batch_size is None:
                raise UserError(
                    "--loss-reduction sum needs --batch-size, not --max-tokens: give it, or take "
                    "--loss-reduction mean"
                )
            self.full_batch = full_batch(batch_size, update_freq, distributed_world_size)

    def summed_loss(
        self, model: nn.Module, sample: Mapping[str, Any]
    ) -> tuple[Tensor, dict[str, Any]]:
        """Loss [] summed over the examples, and what to log that scores are made of."""
        raise NotImplementedError

    def forward(
        self, model: nn.Module, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, float, dict[str, Any]]:
        """Loss summed over the examples, their number, and sums to log."""
        loss, scored = self.summed_loss(model, sample)
        log = {
            "loss": loss.detach(),
            "sample_size": sample["nsentences"] / self.full_batch,
            "nsentences": sample["nsentences"],
            "ntokens": sample["ntokens"],
            **scored,
        }
        return loss, log["sample_size"], log

    @classmethod
    def reduce_metrics(cls, logging_outputs: Sequence[Mapping[str, Any]]) -> None:
        """Log the mean loss, and the sums that the task makes its scores of."""
        if "nsentences" in log_sums(logging_outputs):
            log_ratio("loss", "loss", "nsentences", priority=0)
