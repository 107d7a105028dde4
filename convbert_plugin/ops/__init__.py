"""Tensor functions: no modules, no configs; each beside its slow, obvious reference."""
