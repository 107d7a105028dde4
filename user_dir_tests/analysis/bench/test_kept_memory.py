"""Memory that was freed is there again without asking the system for it."""

import os
import subprocess
import sys

import pytest

from convbert_plugin.analysis.bench import kept_memory
from convbert_plugin.analysis.bench.kept_memory import ENVIRONMENT

pytestmark = pytest.mark.speed

# Prints how many pages the last of some equal calls asks for.
CALLS = """
import resource, torch
from convbert_plugin.analysis.bench.kept_memory import keep_freed_memory
{keep}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def call():
    return sum(float(each.sum()) for each in [torch.ones(7 << 20) for _ in range(9)])
for _ in range(4):
    call()
before = faults()
call()
print(faults() - before)
"""
# The nine blocks of 28 MiB have 64,512 of them.
ALL, NONE = 50_000, 1_000


def pages_of(keep, environment):
    command = [sys.executable, "-c", CALLS.format(keep=keep)]
    usual = {name: text for name, text in os.environ.items() if name not in ENVIRONMENT}
    done = subprocess.run(
        command, env={**usual, **environment}, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_it_is_kept():
    assert pages_of("", {}) > ALL
    assert pages_of("keep_freed_memory()", {}) < NONE
    assert pages_of("", ENVIRONMENT) < NONE


def test_another_library_than_glibc(monkeypatch):
    monkeypatch.setattr(kept_memory.ctypes, "CDLL", lambda name: object())
    kept_memory.keep_freed_memory()
