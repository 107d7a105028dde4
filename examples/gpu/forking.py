"""Processes forked from one that has imported everything, which takes long on a slow host.

The one that forks must not have touched a GPU.
"""

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Sequence

POLL_SECONDS = 0.05


def start(action: Callable[[], Optional[int]], log: Optional[Path] = None) -> int:
    """Start a process that does ``action`` and ends with the status that it returns; its id.

    With a ``log`` for all that it prints, it leads a group of its own.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        if log is not None:
            os.setsid()
            _redirect(log)
        status = int(action() or 0)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            stream.flush()
        # Python would take apart what was imported, and threads of a device may outlive that.
        os._exit(status)


def _redirect(log: Path) -> None:
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (written, 1), (written, 2)):
        os.dup2(source, target)
    # Whatever stands for these, such as what a test looks at.
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, closefd=False) for number in (1, 2))


def wait_for(process: int, seconds: float) -> Optional[int]:
    """The status of a process that leads a group, below 0 for a signal; None where it is late.

    Nothing of its group is left.
    """
    end, status = time.monotonic() + seconds, None
    while status is None and time.monotonic() < end:
        status = _status_of(process)
        time.sleep(POLL_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    if status is None:
        os.waitpid(process, 0)
    return status


def _status_of(process: int) -> Optional[int]:
    ended, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


Emit = Callable[[Any], None]


def spread(
    work: Callable[[Any, Emit], None], items: Sequence[Any], processes: int, seconds: float
) -> tuple[list[Any], int]:
    """What ``work`` emits of the items, in several processes; how many items are not done.

    It emits what JSON holds, at any time: what came before the seconds are over counts.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, str(number)) for number in range(min(processes, len(items)))]

        def share(number: int) -> None:
            with files[number].open("w") as file:
                for item in items[number :: len(files)]:
                    work(item, lambda result: print(json.dumps([result]), file=file, flush=True))
                    print(json.dumps([]), file=file, flush=True)

        running = [start(lambda number=number: share(number)) for number in range(len(files))]
        end = time.monotonic() + seconds
        while running and time.monotonic() < end:
            running = [process for process in running if _status_of(process) is None]
            time.sleep(POLL_SECONDS)
        for process in running:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        lines = [line for file in files if file.exists() for line in _whole_lines(file)]
    results = [line[0] for line in lines if line]
    return results, len(items) - sum(not line for line in lines)


def _whole_lines(file: Path) -> Iterator[list]:
    """The last one may have been broken off."""
    for line in file.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)
