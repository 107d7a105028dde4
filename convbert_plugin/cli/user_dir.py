"""Print the plugin's folder, so that `--user-dir $(convbert user-dir)` works from anywhere."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(arguments: argparse.Namespace) -> None:
    """Print one line."""
    print(Path(__file__).resolve().parents[1])
