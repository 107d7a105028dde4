"""The optimizer and the schedule: importing this package registers both with fairseq."""

from convbert_plugin.optim import convbert_adamw, convbert_linear  # noqa: F401
