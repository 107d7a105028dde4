"""Scores of the tasks: numbers in, numbers out, and none of them a numpy scalar."""
