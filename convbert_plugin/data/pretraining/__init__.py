"""Documents to masked batches."""
