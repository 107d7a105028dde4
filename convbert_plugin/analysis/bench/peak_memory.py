"""The most memory that a variant takes, each in a process of its own that has done nothing else."""

import multiprocessing
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Callable, Optional

import torch

Find = Callable[[str], Callable[[], Any]]
"""How to build a variant, by its name; it goes to another process by its own name there."""

# The second call of a step has the state of its optimizer already.
CALLS = 2
# What all children would import one by one.
IMPORTED = ["convbert_plugin.analysis.bench.hushed_imports"]
KIB = 1024


def peak_bytes(find: Find, name: str, threads: Optional[int] = None) -> Optional[int]:
    """What it takes to build a variant and call it, beyond what its process had before.

    None where that process came to no end, such as for want of memory.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    receiver, sender = context.Pipe(duplex=False)
    threads = threads or torch.get_num_threads()
    process = context.Process(target=_measure, args=(sender, find, name, threads), daemon=True)
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        return None
    finally:
        process.kill()
        process.join()


def _measure(sender: Connection, find: Find, name: str, threads: int) -> None:
    # Who interrupts the command interrupts this process too, and hears of it there.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(threads)
    build = find(name)
    before = _memory("VmRSS")
    workload = build()
    for _ in range(CALLS):
        workload.run()
    sender.send(_memory("VmHWM") - before)


def _memory(kind: str) -> int:
    """Bytes of this process: ``VmRSS`` resident now, ``VmHWM`` resident at most so far."""
    status = Path("/proc/self/status").read_text()
    words = dict(line.split(":", 1) for line in status.splitlines())
    return int(words[kind].split()[0]) * KIB
