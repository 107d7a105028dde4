"""The two ways of dropout on a CPU, and which numbers each drops, by definition."""

import numpy as np
import pytest
import torch

from convbert_plugin.ops import attention, cpu_rows, dropout, residual_norm
from convbert_plugin.ops.cpu_library import library

WAYS = ("rows", "torch")
LEVELS = 1 << 16


def go(way, monkeypatch):
    """Make the ops go that way: by C++, or by torch as where there is no compiler."""
    if way == "torch":
        monkeypatch.setattr(cpu_rows, "computes", lambda states: False)
    elif library().lacks:
        pytest.skip(library().lacks)


def go_as_compiled(monkeypatch):
    """Make the ops do what compilers see of them: torch's own operations, its dropout too."""
    go("torch", monkeypatch)
    for module in (dropout, attention, residual_norm):
        monkeypatch.setattr(module, "is_cheap", lambda states, rate: False)


def kept_numbers(way, shape, rate):
    """True for the numbers that are kept by torch's generator, which draws what it would draw."""
    count = int(np.prod(shape))
    words = -(-count // 4)
    if way == "torch":
        drawn = torch.empty(words, dtype=torch.int64).random_(-(1 << 63), None).numpy()
    else:
        drawn = split_mix(int(torch.empty((), dtype=torch.int64).random_()), words)
    bits = drawn.view(np.int16)[:count].astype(int) + LEVELS // 2
    return torch.from_numpy(bits >= round(rate * LEVELS)).view(shape)


def split_mix(seed, count):
    """SplitMix64, from its definition."""
    with np.errstate(over="ignore"):
        word = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(
            0x9E3779B97F4A7C15
        )
        word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return word ^ (word >> np.uint64(31))


def scale(rate):
    return 1 / (1 - round(rate * LEVELS) / LEVELS)
