"""What the losses here share: each is that of the task of its name."""

from typing import Any, Optional

from fairseq.criterions import CRITERION_REGISTRY, FairseqCriterion
from fairseq.tasks import FairseqTask

from convbert_plugin.errors import UserError


class TaskLoss(FairseqCriterion):
    """A loss for the task of its name, which its batches are made for."""

    @classmethod
    def build_criterion(cls, cfg: Any, task: FairseqTask) -> "TaskLoss":
        check_pair(cfg._name, getattr(task.cfg, "_name", None), f"--task {cfg._name}")
        return super().build_criterion(cfg, task)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """True: what is told of one example alone stands in a place of its own."""
        return True


def check_pair(criterion: str, task: Optional[str], remedy: str) -> None:
    """Raise UserError unless a criterion is the loss of a task, or one made from it."""
    loss = CRITERION_REGISTRY.get(str(task))
    if loss is None or not issubclass(CRITERION_REGISTRY[criterion], loss):
        raise UserError(f"--criterion {criterion} does not go with --task {task}: give {remedy}")
