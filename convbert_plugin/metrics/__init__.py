"""Scores of the tasks: numbers in, Python floats out (a checkpoint must hold no numpy scalar)."""
