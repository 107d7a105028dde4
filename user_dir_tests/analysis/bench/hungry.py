"""Workloads that take a known amount of memory, for processes that measure it."""

import os
import signal

import torch

MEBIBYTES = {"little": 32, "much": 160}


class Hungry:
    def __init__(self, name):
        self.name = name

    def run(self):
        if self.name not in MEBIBYTES:
            os.kill(os.getpid(), signal.SIGKILL)
        torch.ones(MEBIBYTES[self.name] << 20, dtype=torch.uint8)


def find_hungry(name):
    return lambda: Hungry(name)
