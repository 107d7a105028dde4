"""Trains on the CPUs of this machine by several processes: starts, watches and stops them all.

    python examples/distributed/launch.py 2 fairseq-train DATA [option of fairseq-train ...]

Lines of the first one are passed on as they are, those of the others behind their number. When one
fails, all end within half a minute: its last line is printed last, and its status (128 + the number
of the signal that killed it) is that of all. SIGINT, SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 are
passed on, and how long the workers take to leave is theirs.
"""

import argparse
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Optional, Sequence, TextIO

from convbert_plugin.errors import ANOTHER_IS_GONE

WORKER = Path(__file__).with_name("worker.sh")
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
# After one has failed: until the others are asked to end, and until they are ended.
STOPPING = ((10, signal.SIGTERM), (20, signal.SIGKILL))
POLL_SECONDS = 0.05
# For what a process that has ended had left in its pipe, which a child of its may keep open.
READING_SECONDS = 5
# Of prctl.
PR_SET_PDEATHSIG = 1


class Worker:
    """One process; the last line that it wrote to stderr is kept until it is known to be none."""

    def __init__(self, rank: int, workers: int, command: Sequence[str], environment: dict):
        self.rank = rank
        self.prefix = f"[{rank}] " if rank else ""
        self.last_line = ""
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(workers)}
        # What all do alike, fairseq tells by the first.
        quiet = {"LOGLEVEL": "WARNING"} if rank else {}
        self.process = subprocess.Popen(
            ["bash", str(WORKER), *command],
            env={**quiet, **environment, **place},
            stdout=subprocess.PIPE if rank else None,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # Ctrl-C in a terminal comes to all of a group: it is passed on, once.
            start_new_session=True,
            preexec_fn=end_with_this_process,
        )

    def read(self) -> None:
        """Pass on what it prints, from now on."""
        process = self.process
        streams = [(process.stdout, sys.stdout, False), (process.stderr, sys.stderr, True)]
        self.threads = [
            threading.Thread(target=self._pass_on, args=each, daemon=True)
            for each in streams
            if each[0]
        ]
        for thread in self.threads:
            thread.start()

    def _pass_on(self, source: IO[str], to: TextIO, keeps_last: bool) -> None:
        for line in source:
            if keeps_last:
                line, self.last_line = self.last_line, line
            if line:
                print(self.prefixed(line), file=to, flush=True)

    def prefixed(self, line: str) -> str:
        return f"{self.prefix}{line.rstrip()}"

    @property
    def status(self) -> Optional[int]:
        """As a shell has it, None while it runs."""
        status = self.process.poll()
        return 128 - status if status is not None and status < 0 else status

    def end_told(self, workers: int) -> str:
        """Why it failed, in a line."""
        if self.process.returncode < 0:
            name = signal.Signals(-self.process.returncode).name
            return f"worker {self.rank} of {workers} was killed by {name}: all were stopped"
        if not self.last_line:
            return f"worker {self.rank} of {workers} failed without a word"
        return self.prefixed(self.last_line)

    @property
    def only_follows(self) -> bool:
        """Whether it ended because another did."""
        return ANOTHER_IS_GONE in self.last_line


def end_with_this_process() -> None:
    """In a child, on Linux: it is asked to end where the one that watches it is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def start(workers: int, command: Sequence[str]) -> list[Worker]:
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    environment.setdefault("OMP_NUM_THREADS", str(threads))
    started = [Worker(rank, workers, command, environment) for rank in range(workers)]
    # A process with threads should not be forked from.
    for worker in started:
        worker.read()
    return started


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def send(number: int, workers: Sequence[Worker]) -> None:
    for worker in workers:
        worker.process.send_signal(number)


def pass_on_signals(workers: Sequence[Worker], passed: set[int]) -> None:
    """From now on, to those that ``workers`` will hold; which they were comes into ``passed``."""

    def pass_on(number: int, _: object) -> None:
        passed.add(number)
        send(number, workers)

    for number in PASSED_ON:
        # Under nohup.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, pass_on)


def watch(workers: Sequence[Worker], passed: set[int]) -> list[Worker]:
    """Wait until all have ended; those that failed by themselves, the first one first."""
    failed: list[Worker] = []
    since, steps = None, list(STOPPING)
    while True:
        statuses = [worker.status for worker in workers]
        if steps == list(STOPPING):
            failed += [worker for worker in workers if worker.status and worker not in failed]
        if None not in statuses:
            return failed
        # Of those that leave as they were told, one may have a checkpoint to write.
        if since is None and any(worker.status - 128 not in passed for worker in failed):
            since = time.monotonic()
        if since and steps and time.monotonic() > since + steps[0][0]:
            send(steps.pop(0)[1], workers)
        time.sleep(POLL_SECONDS)


def tell_end(workers: Sequence[Worker], failed: Sequence[Worker]) -> int:
    """Print what they said last, at the end that of the one because of which all ended.

    The status of that one.
    """
    for thread in (thread for worker in workers for thread in worker.threads):
        thread.join(READING_SECONDS)
    causes = [worker for worker in failed if not worker.only_follows] or failed
    known = causes[0].last_line if causes else ""
    for worker in workers:
        if not worker.only_follows and worker.last_line != known:
            print(worker.prefixed(worker.last_line), file=sys.stderr)
    if not causes:
        return 0
    print(causes[0].end_told(len(workers)), file=sys.stderr)
    return causes[0].status


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workers", type=int, metavar="N", help="how many processes")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND WORD ...")
    given = parser.parse_args()
    if given.workers < 1 or not given.command:
        parser.error("say how many processes, at least 1, and which command each runs")
    workers: list[Worker] = []
    passed: set[int] = set()
    pass_on_signals(workers, passed)
    workers += start(given.workers, given.command)
    for number in passed:
        send(number, workers)
    sys.exit(tell_end(workers, watch(workers, passed)))


if __name__ == "__main__":
    main()
