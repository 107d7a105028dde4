"""Checkpoints as tensors and plain values: safe loading, one reversible key table, surgery."""
