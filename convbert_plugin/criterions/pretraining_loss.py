"""The loss of pretraining, and what is logged of it."""

from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

import torch
from fairseq.criterions import register_criterion
from fairseq.dataclass import FairseqDataclass
from fairseq.tasks import FairseqTask
from torch import nn

from convbert_plugin.criterions.summed_logs import Counts, log_ratio, log_score, log_sums
from convbert_plugin.criterions.task_loss import TaskLoss
from convbert_plugin.metrics.replaced_tokens import SCORES, logit_histogram

# What the logs are made of: name -> (numerator, denominator), sums over tokens; losses in nats.
RATIOS = {
    "loss": ("loss", "sample_size"),
    "generator_loss": ("generator_loss", "sample_size"),
    "generator_accuracy": ("generator_correct", "sample_size"),
    "sampled_accuracy": ("sampled_correct", "sample_size"),
    "discriminator_loss": ("discriminator_loss", "ntokens"),
    "replaced_rate": ("replaced", "ntokens"),
    "masked_lm_loss": ("masked_lm_loss", "sample_size"),
    "masked_lm_accuracy": ("masked_lm_correct", "sample_size"),
}
HISTOGRAM = "discriminator_histogram"
MASKED_LM = "masked_lm"


def logged_scores(objective: str) -> list[str]:
    """The names of what is logged with the one objective or the other."""
    of_masked_lm = [name for name in RATIOS if name.startswith(MASKED_LM)]
    if objective == MASKED_LM:
        return ["loss", *of_masked_lm]
    ratios = [name for name in RATIOS if name not in of_masked_lm]
    return [*ratios, *(f"discriminator_{name}" for name in SCORES)]


@dataclass
class ReplacedTokenDetectionConfig(FairseqDataclass):
    generator_weight: float = field(default=1.0, metadata={"help": "weight of the generator loss"})
    discriminator_weight: float = field(
        default=50.0, metadata={"help": "weight of the discriminator loss"}
    )


@register_criterion("replaced_token_detection", dataclass=ReplacedTokenDetectionConfig)
class ReplacedTokenDetectionCriterion(TaskLoss):
    """Masked-LM loss of the generator plus 50 times the loss of the discriminator.

    The sample size is the number of masked tokens. The discriminator's sum is weighed by the
    masked tokens per token of a full example, so that the sums of any split of a batch add up to
    the same gradient, and on full examples the quotient is the released loss: the mean over masked
    tokens plus 50 times the mean over real tokens (run_pretraining.py:129-222, without its 1e-6
    in the denominators). With ``--objective masked_lm`` it is the masked-LM loss alone.
    """

    def __init__(self, task: FairseqTask, generator_weight: float, discriminator_weight: float):
        super().__init__(task)
        self.generator_weight = generator_weight
        self.discriminator_weight = discriminator_weight * task.masked_tokens_per_token

    def forward(
        self, model: nn.Module, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[torch.Tensor, float, dict[str, Any]]:
        """Loss summed over the masked tokens, their number, and sums to log."""
        output = model(**sample["net_input"])
        log = {
            "sample_size": sample["target"].numel(),
            "ntokens": sample["ntokens"],
            "nsentences": sample["nsentences"],
            "slots": sample["slots"],
        }
        masked_lm_loss = output.masked_lm_loss
        correct = output.guessed.eq(sample["target"]).sum()
        if output.replaced_logits is None:
            loss = masked_lm_loss
            log.update(masked_lm_loss=masked_lm_loss.detach(), masked_lm_correct=correct)
        else:
            rtd_loss, rtd_log = self._replaced_token_detection(output, sample)
            loss = self.generator_weight * masked_lm_loss + self.discriminator_weight * rtd_loss
            log.update(generator_loss=masked_lm_loss.detach(), generator_correct=correct, **rtd_log)
        return loss, log["sample_size"], {"loss": loss.detach(), **log}

    def _replaced_token_detection(
        self, output: Any, sample: Mapping[str, Any]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss, logits = output.replaced_loss, output.replaced_logits
        histogram = logit_histogram(logits.detach(), output.replaced, output.real)
        return loss, {
            "discriminator_loss": loss.detach(),
            "sampled_correct": output.sampled.eq(sample["target"]).sum(),
            "replaced": output.replaced.sum(),
            HISTOGRAM: histogram.as_subclass(Counts),
        }

    @classmethod
    def reduce_metrics(cls, logging_outputs: Sequence[Mapping[str, Any]]) -> None:
        """Log every ratio and score that the outputs hold the sums of."""
        sums = log_sums(logging_outputs)
        for priority, (name, (numerator, denominator)) in enumerate(RATIOS.items()):
            if numerator in sums:
                log_ratio(name, numerator, denominator, priority)
        if HISTOGRAM in sums:
            for priority, (name, function) in enumerate(SCORES.items(), start=len(RATIOS)):
                log_score(f"discriminator_{name}", function, (HISTOGRAM,), priority)
