"""Epochs of batches that end a run in one line where their data cannot be read any more."""

import contextlib
from typing import Any, Callable, Iterator, Optional

from fairseq.data.iterators import CountingIterator, EpochBatchIterator

from convbert_plugin.data.indexed_reading import UnreadableLine
from convbert_plugin.errors import UserError

# Of what torch says where a process that reads examples has gone.
WORKER = "DataLoader worker"
# What comes of one that goes while it hands a batch over.
CUT_OFF = (ConnectionError, EOFError)


Around = Callable[[], contextlib.AbstractContextManager]


class ToldEpochs(EpochBatchIterator):
    """What fairseq's epochs become: see ``tell``. An error is raised within ``around``."""

    around: Around = contextlib.nullcontext

    def _get_iterator_for_epoch(
        self, *arguments: Any, **options: Any
    ) -> Optional[CountingIterator]:
        batches = super()._get_iterator_for_epoch(*arguments, **options)
        if batches is not None:
            batches._itr = _Told(batches._itr, self.around)
        return batches


def tell(epochs: EpochBatchIterator) -> ToldEpochs:
    """Let epochs of fairseq do what ``ToldEpochs`` do beside."""
    epochs.__class__ = ToldEpochs
    return epochs


def ending_after(epochs: Any, around: Around) -> Any:
    """The same epochs; what a trainer does where an error of theirs passes it is ``around``."""
    epochs.around = around
    return epochs


class _Told:
    """Batches in the thread that trains, to which others hand on what they could not read."""

    # Not the epochs: in a circle with them, the processes that read would outlive a validation.
    def __init__(self, batches: Iterator, around: Around):
        self._batches = batches
        self._around = around

    def __iter__(self) -> "_Told":
        return self

    def __next__(self) -> Any:
        try:
            return next(self._batches)
        except UnreadableLine as error:
            line = error.line
        except UserError as error:
            line = str(error)
        except (RuntimeError, *CUT_OFF) as error:
            if WORKER not in str(error) and not isinstance(error, CUT_OFF):
                raise
            line = (
                f"a process of --num-workers has gone ({_first_line(error)}): start the run again, "
                "with less of them where memory was short"
            )
        with self._around():
            raise UserError(line)

    # What fairseq asks for of its own.
    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
