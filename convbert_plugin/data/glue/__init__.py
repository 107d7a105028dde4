"""Rows of GLUE, or of one's own, to prepared data and batches."""
