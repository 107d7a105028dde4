"""From configs to modules: the architectures, the model and its hub interface."""
