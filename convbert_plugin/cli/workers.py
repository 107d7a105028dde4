"""Work in order on several processes, each of which loads what it works with by itself."""

import itertools
import os
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Callable, Iterable, Iterator, TypeVar

from convbert_plugin.errors import UserError

MOST_DEFAULT_WORKERS = 4
MOST_WORKERS = 256
# Items read ahead for each worker: enough that none waits, few enough that memory stays small.
ITEMS_AHEAD = 2

Item = TypeVar("Item")
Result = TypeVar("Result")


def default_workers() -> int:
    """How many processes are started where nothing is said."""
    return min(MOST_DEFAULT_WORKERS, os.cpu_count() or 1)


def in_order(
    work: Callable[[Item], Result],
    load: Callable[[], Callable[[Item], Result]],
    items: Iterable[Item],
    workers: int,
) -> Iterator[Result]:
    """The results of ``work``, in order, from several processes where there is more than one item.

    ``load`` makes ``work`` anew in each worker. At most ``ITEMS_AHEAD`` items a worker are in
    flight.
    """
    items = iter(items)
    first = list(itertools.islice(items, 2))
    items = itertools.chain(first, items)
    if workers == 1 or len(first) < 2:
        yield from map(work, items)
        return
    # Forking a process that has threads may hang it; spawned workers import this file, and that of
    # ``load``.
    from multiprocessing import get_context

    executor = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (load,))
    in_flight: deque[Future[Result]] = deque()
    try:
        for item in items:
            in_flight.append(executor.submit(_work, item))
            if len(in_flight) >= workers * ITEMS_AHEAD:
                yield in_flight.popleft().result()
        for future in in_flight:
            yield future.result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process died, perhaps for want of memory: try --workers 1"
        ) from None
    finally:
        executor.shutdown(cancel_futures=True)


_work_of_process: Callable[[Any], Any]


def _start_worker(load: Callable[[], Callable[[Any], Any]]) -> None:
    import signal
    import threading
    from multiprocessing import parent_process

    global _work_of_process
    # The parent ends the workers, also when Ctrl-C reaches the whole group of processes.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if (parent := parent_process()) is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    # The workers are the parallelism.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _work_of_process = load()


def _end_with(sentinel: int) -> None:
    from multiprocessing import connection

    connection.wait([sentinel])
    os._exit(1)


def _work(item: Any) -> Any:
    return _work_of_process(item)
