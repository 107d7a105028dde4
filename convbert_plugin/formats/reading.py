"""How a model reads contexts and answers questions on them: a checkpoint keeps it."""

import contextlib
import math
from typing import Any, Mapping, NamedTuple, Optional

from convbert_plugin.errors import UserError, shown
from convbert_plugin.files.json_files import typed
from convbert_plugin.files.text_files import PathLike

# What the state of a task calls it.
READING = "reading"


class Reading(NamedTuple):
    """A context goes through the model in windows, and a span of one of them is the answer.

    ``length``: tokens of a window, [CLS] and [SEP] counted. ``doc_stride``: from where a window of
    the context begins to where the next one does. Of a question stay its first
    ``max_query_length`` tokens, and an answer has at most ``max_answer_length``. ``n_best_size``:
    how many spans of a question are told apart. ``has_impossible``: whether there were questions
    without an answer among those of the training, None where nothing says that.
    ``null_threshold``: a question whose null odds are above it has no answer; None takes that of
    the head. Source: configure_finetuning.py:72-85.
    """

    length: int = 512
    doc_stride: int = 128
    max_query_length: int = 64
    max_answer_length: int = 30
    n_best_size: int = 20
    has_impossible: Optional[bool] = None
    null_threshold: Optional[float] = None

    def threshold(self, of_head: float, has_impossible: bool = False) -> float:
        """The null odds above which a question has no answer: infinite where each has one.

        ``of_head``: that of the kind of head. ``has_impossible``: whether there may be questions
        without an answer, where nothing says that of the training.
        """
        if not (has_impossible if self.has_impossible is None else self.has_impossible):
            return math.inf
        return of_head if self.null_threshold is None else self.null_threshold


def to_keep(reading: Reading) -> dict[str, Any]:
    """The reading as the state of a task keeps it."""
    return {READING: reading._asdict()}


def reading_kept(state: Mapping, path: PathLike) -> Optional[Reading]:
    """The reading that a task's state in a checkpoint keeps, None where it keeps none.

    Raises:
        UserError: something else in its place.
    """
    if READING not in state:
        return None
    held = state[READING]
    with contextlib.suppress(ValueError, OverflowError):
        reading: Reading = typed(Reading, held)
        if _is_sound(reading):
            return reading
    raise UserError(f"{path}: its reading is {shown(held)}: damaged, or not written here")


def _is_sound(reading: Reading) -> bool:
    *sizes, _, threshold = reading
    return all(size > 0 for size in sizes) and not (threshold and math.isnan(threshold))
