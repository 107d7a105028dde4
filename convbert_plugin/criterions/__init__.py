"""Losses with stated denominators, and logs that sum over batches and workers."""

from convbert_plugin.criterions import glue_loss, pretraining_loss, squad_loss  # noqa: F401
