"""A disk that takes no more does not end a run: it is told, and tried again with what comes next.

Only where nothing comes next, a run whose last checkpoint is not on the disk ends with an error.
"""

import contextlib
import logging
import math
import os
import sys
from pathlib import Path
from types import FrameType
from typing import Any, Callable, Iterator, NamedTuple, Optional, Union

from fairseq import checkpoint_utils

from convbert_plugin.errors import UserError
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.files.whole_output import whole_copy
from convbert_plugin.formats.wholeness import version_of

logger = logging.getLogger(__name__)

# Where fairseq keeps the best score so far, of its function's attributes.
BEST = "best"
NotWritten = Union[UserError, OSError]


class Unwritten(NamedTuple):
    """A checkpoint that is not on the disk: of which update, and why.

    ``best``: where it is, and its score, if it is the best one and only a copy is missing.
    """

    update: int
    reason: str
    best: Optional[tuple[Path, float]] = None


def save_or_go_on(
    save: Callable, cfg: Any, trainer: Any, epochs: Any, score: Optional[float]
) -> Optional[str]:
    """Save as fairseq does; where nothing can be written, tell so, with ``trainer.unwritten``.

    What was there stays, and the best score is the best of those on the disk.

    Raises:
        UserError: nothing could be written, and no update follows.
    """
    scores = vars(checkpoint_utils.save_checkpoint)
    place = Path(cfg.save_dir, f"checkpoint_best{trainer.checkpoint_suffix}.pt")
    late = trainer.unwritten.best if trainer.unwritten else None
    before, version, trainer.written = scores.copy(), _version(place), None
    try:
        trainer.task.keep_folder()
        if late and late[0].exists():
            whole_copy(late[0], place)
            scores[BEST] = late[1]
            before, version, late = scores.copy(), _version(place), None
        path = save(cfg, trainer, epochs, score)
    except (UserError, OSError) as error:
        reason = reason_of(error)
        if _version(place) == version:
            if trainer.written and scores.get(BEST) != before.get(BEST):
                late = trainer.written, scores[BEST]
            scores.clear()
            scores.update(before)
        trainer.unwritten = Unwritten(trainer.get_num_updates(), reason, late)
        if trains_no_more():
            raise _lost(trainer.unwritten) from None
        logger.warning(
            f"update {trainer.unwritten.update:,} is not saved, training goes on and tries again: "
            f"{reason}"
        )
        return None
    trainer.unwritten = None
    return path


def save_what_is_left(trainer: Any, next_epoch: int) -> None:
    """Where no epoch follows, save what could not be saved before.

    Raises:
        UserError: it still cannot be.
    """
    options = trainer.cfg.optimization
    is_over = next_epoch > (options.max_epoch or math.inf)
    if trainer.unwritten and (is_over or trainer.get_lr() <= options.stop_min_lr):
        if trainer.unwritten.update < trainer.get_num_updates():
            saving = trainer.cfg.checkpoint
            checkpoint_utils.save_checkpoint(saving, trainer, trainer.epochs, None)
        if trainer.unwritten:
            raise _lost(trainer.unwritten)


@contextlib.contextmanager
def going_on(tell: Callable[[str], None]) -> Iterator[None]:
    """Tell of what cannot be written while a run lasts, and go on."""
    try:
        yield
    except (UserError, OSError) as error:
        tell(f"training goes on: {reason_of(error)}")


def reason_of(error: NotWritten) -> str:
    """What the system said, in a line; raises an error that is not of the system."""
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    if isinstance(error.__context__, OSError):
        return str(error)
    raise error


def _lost(unwritten: Unwritten) -> UserError:
    return UserError(
        f"update {unwritten.update:,}, the last one, is not saved: {unwritten.reason} (the same "
        "command goes on from the newest checkpoint)"
    )


def _version(path: PathLike) -> Optional[tuple]:
    return version_of(path) if os.path.exists(path) else None


def trains_no_more() -> bool:
    """Whether fairseq, which saves after it has decided that, tells nobody else."""
    frame: Optional[FrameType] = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "validate_and_save":
            return bool(frame.f_locals["should_stop"])
        frame = frame.f_back
    return False
