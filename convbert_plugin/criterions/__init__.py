"""Losses with stated denominators, and logs that sum over batches and workers."""

from convbert_plugin.criterions import glue, replaced_token_detection  # noqa: F401
