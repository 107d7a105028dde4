"""Several workers of one run: where one is gone, the others end in one line, as does all of it."""

import contextlib
import functools
import multiprocessing
import re
import signal
import sys
import time
from typing import Any, Callable, Iterator

from fairseq.distributed import utils as distributed_utils
from torch.distributed import DistError
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from convbert_plugin.errors import ANOTHER_IS_GONE, UserError, counted

# By which libraries of communication tell that they could not, as theirs alone are of a class.
OF_GLOO = "gloo/"
LOST = re.compile(
    r"connection (closed|reset|refused)|remote process exited|broken pipe|tim(ed |e)out",
    re.IGNORECASE,
)
# Before what they say: the place in their source. Behind it: advice.
PLACE = re.compile(r"^\[[^\]]*\] ")
# So that of workers that were started here, the one that is gone is seen to end first.
SECONDS_BEHIND = 5


class WorkerEnded(Exception):
    """The line of a worker that fairseq started: torch hands it to the one that started it."""


def tell_of_workers() -> None:
    """Let this process, and what fairseq starts from it, tell the ends of workers in one line."""
    distributed_utils.call_main = _told(distributed_utils.call_main)


@contextlib.contextmanager
def gone_workers_told() -> Iterator[None]:
    """For what waits for the other workers.

    Raises:
        UserError: one of them is gone.
    """
    try:
        yield
    except RuntimeError as error:
        words = str(error)
        if not (isinstance(error, DistError) or OF_GLOO in words) or not LOST.search(words):
            raise
        reason = PLACE.sub("", words.splitlines()[0]).partition(". ")[0]
        raise UserError(
            f"{ANOTHER_IS_GONE} ({reason}): its own last line says why; start all again, and they "
            "go on from the last checkpoint"
        ) from None


def share_place(trainer: Any, kept: dict) -> None:
    """Put the place in an epoch that so many workers have reached in terms of those there are now.

    fairseq counts the batches of each, and would pass over some, or see many again.
    """
    start, workers = trainer.task.start, trainer.data_parallel_world_size
    if start.workers in (0, workers):
        return
    place = kept["train_iterator"]
    batches = place["iterations_in_epoch"] * start.workers
    place["iterations_in_epoch"], again = divmod(batches, workers)
    if batches and trainer.is_data_parallel_master:
        line = (
            f"{start.path}: {counted(start.workers, 'worker')} got to this place of the epoch, and "
            f"{workers:,} go on from it"
        )
        trainer.task.tell(
            f"{line} (where {again:,} of its batches are seen again)" if again else line
        )


def _told(call_main: Callable) -> Callable:
    def call(cfg: Any, main: Callable, **kwargs: Any) -> Any:
        try:
            with gone_workers_told():
                return call_main(cfg, functools.partial(_main_of_worker, main), **kwargs)
        except ProcessRaisedException as error:
            _, mark, line = str(error).rpartition(f"{WorkerEnded.__name__}: ")
            if not mark:
                raise
            raise UserError(line.strip()) from None
        except ProcessExitedException as ended:
            # A status has been explained by the worker.
            if ended.exit_code < 0:
                name = signal.Signals(-ended.exit_code).name
                print(f"worker {ended.error_index} was killed by {name}", file=sys.stderr)
            sys.exit(ended.exit_code if ended.exit_code > 0 else 128 - ended.exit_code)

    return call


def _main_of_worker(main: Callable, cfg: Any, **kwargs: Any) -> None:
    try:
        with gone_workers_told():
            main(cfg, **kwargs)
    except UserError as mistake:
        if multiprocessing.parent_process() is None:
            raise
        if ANOTHER_IS_GONE in str(mistake):
            time.sleep(SECONDS_BEHIND)
        raise WorkerEnded(str(mistake)) from None
