"""Pretraining runs: read, grouped over seeds, drawn, and what they cost."""
