"""What the outputs of a fine-tuned head mean: a checkpoint keeps it beside the tensors."""

import contextlib
from math import isfinite
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple, Optional

from convbert_plugin.errors import UserError, listed, shown
from convbert_plugin.files.json_files import typed
from convbert_plugin.files.text_files import PathLike

if TYPE_CHECKING:
    from torch import Tensor

# What the state of a task calls them.
ANSWERS = "answers"


class Answers(NamedTuple):
    """The words of the classes in the order of the outputs, or the range of the scores.

    Neither where nothing says it. ``length``: to how many tokens the examples of its training were
    cut, None where nothing says that.
    """

    labels: tuple[str, ...] = ()
    score_range: Optional[tuple[float, float]] = None
    length: Optional[int] = None

    @property
    def are_known(self) -> bool:
        return bool(self.labels or self.score_range)

    def __str__(self) -> str:
        if self.score_range:
            return "scores from {:g} to {:g}".format(*self.score_range)
        return f"the classes {listed(self.labels)}"

    def scores(self, outputs: "Tensor") -> "Tensor":
        """Scores [...] in float64 and in their range, of outputs [...] of which 0 to 1 is all."""
        lowest, highest = self.score_range or (0.0, 1.0)
        return (lowest + outputs.double() * (highest - lowest)).clamp(lowest, highest)

    def words(self, logits: "Tensor") -> list[str]:
        """The words of the likeliest classes, of logits [n, classes]."""
        return [self.labels[place] for place in logits.argmax(-1).tolist()]


UNKNOWN = Answers()


def to_keep(answers: Mapping[str, Answers]) -> dict[str, Any]:
    """The answers by the scopes of their heads, as the state of a task keeps them."""
    plain = {
        scope: {name: list(value) if isinstance(value, tuple) else value for name, value in fields}
        for scope, fields in ((scope, held._asdict().items()) for scope, held in answers.items())
    }
    return {ANSWERS: plain}


def answers_kept(state: Mapping, path: PathLike) -> dict[str, Answers]:
    """The answers that a task's state in a checkpoint keeps, by the scopes of their heads.

    Raises:
        UserError: something else in their place.
    """
    held = state.get(ANSWERS, {})
    with contextlib.suppress(ValueError, OverflowError):
        answers = typed(dict[str, Answers], held)
        if all(map(_are_sound, answers.values())):
            return answers
    raise UserError(f"{path}: its answers are {shown(held)}: damaged, or not written here")


def _are_sound(answers: Answers) -> bool:
    labels, score_range, length = answers
    return (
        all(word and word.isprintable() for word in labels)
        and len(set(labels)) == len(labels) != 1
        and not (labels and score_range)
        and (
            not score_range or (score_range[0] < score_range[1] and all(map(isfinite, score_range)))
        )
        and (length is None or length > 0)
    )


def told_apart(
    kept: Answers, asked: Answers, path: PathLike, data: PathLike, is_scored: bool
) -> Optional[str]:
    """What to tell where data asks for other answers than a checkpoint keeps; None where not.

    The same classes in another order, and scores in another range, are brought to those of the
    checkpoint. Classes that are numbers, as official files have them, are the places of those of
    the checkpoint. ``is_scored``: the data's own labels are compared with what the checkpoint
    answers.

    Raises:
        UserError: other classes, or scores beyond those of the checkpoint.
    """
    if not asked.are_known:
        return None
    if not kept.are_known:
        return f"{path}: says nothing of {asked}: those of {data} are taken"
    if (kept.labels, kept.score_range) == (asked.labels, asked.score_range):
        return None
    is_mapped = set(kept.labels) == set(asked.labels)
    if not is_mapped and asked.labels == tuple(map(str, range(len(kept.labels)))):
        return f"{data}: {asked}, taken for the places of those of {path}: {kept}"
    if is_scored and kept.score_range and asked.score_range:
        (lowest, highest), (first, last) = kept.score_range, asked.score_range
        is_mapped = lowest <= first and last <= highest
    if not is_mapped:
        option = "--score-range" if kept.score_range else "--labels"
        raise UserError(
            f"{path}: was trained for {kept}, and {data} holds {asked}: prepare the data with the "
            f"{option} of the checkpoint, or under another name"
        )
    return f"{data}: {asked}, brought to those of {path}: {kept}"
