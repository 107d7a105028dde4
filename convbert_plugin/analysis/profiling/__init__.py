"""What a model has, computes and keeps, by formulas: none is built, and torch is not imported."""
