"""What attention heads and span kernels of a model look at in a text."""
