"""Checkpoints of other libraries in and out: models and formats joined."""
