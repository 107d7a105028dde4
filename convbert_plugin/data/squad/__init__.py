"""Questions and contexts of SQuAD, from its files to batches of windows."""
