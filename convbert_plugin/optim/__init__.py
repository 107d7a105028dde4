"""The optimizer and the schedule: importing this package registers both with fairseq."""

from convbert_plugin.optim.convbert_adamw import ConvBertAdamW, ConvBertAdamWConfig
from convbert_plugin.optim.convbert_linear import ConvBertLinearConfig, ConvBertLinearSchedule

__all__ = [
    "ConvBertAdamW",
    "ConvBertAdamWConfig",
    "ConvBertLinearConfig",
    "ConvBertLinearSchedule",
]
