"""Tell by what is logged of a run that it learns no more: it has diverged, or collapsed."""

import math
from typing import Any, Mapping, NamedTuple, Optional

from convbert_plugin.errors import counted

# From a mean loss so many times that of the first update none was seen to come back.
FAR_ABOVE = 3.0
# In nats. A run may begin with a loss near 0, beside which any other is large.
SMALLEST_START = 1.0
# What is judged is means over so many updates at least.
LOSS_UPDATES, SCORE_UPDATES = 20, 100
# A mean AUC over so many updates of a discriminator that learns nothing of texts: that, or so much
# more than one has that knows the special tokens, which are never replaced. Runs that learn well
# are below it for up to 200 updates, when the generator's words have become as frequent as those of
# texts, and rise from there as it learns more.
LOW_AUC, BESIDES = 0.53, 0.02
SPECIAL_TOKENS = 3
LOW_UPDATES = 600
# The share of its loss at the beginning of these that a generator is below which learns.
LEARNS = 0.9

LOSS, GENERATOR_LOSS = "loss", "generator_loss"
SCORES = "scores"


class Logged(NamedTuple):
    """Means over some updates, of which ``update`` is the last.

    ``auc``: the discriminator's, ``low``: one that is low there. Of runs without a discriminator
    these and the generator's loss are None.
    """

    update: int
    updates: int
    loss: float
    generator_loss: Optional[float] = None
    auc: Optional[float] = None
    low: Optional[float] = None


def low_auc(examples: float, tokens: float, replaced: float) -> float:
    """An AUC that says nothing of texts, where so many examples have so many tokens."""
    originals = max(tokens * (1 - replaced), 1)
    of_special_tokens = 0.5 + 0.5 * min(SPECIAL_TOKENS * examples / originals, 1)
    return max(LOW_AUC, of_special_tokens + BESIDES)


class _Scores(NamedTuple):
    """Means over so many updates."""

    updates: float
    auc: float
    low: float
    generator_loss: float


class Course:
    """How a run goes, judged from each thing that is logged.

    ``start``: the losses of its first update, by name. ``far``: how many times that of the start
    the loss is where it is far above. ``scores``: those of the last updates, as many as are judged.
    ``sound_until``: the last update by which nothing was wrong.
    """

    def __init__(self) -> None:
        self.start: dict[str, float] = {}
        self.far = 0.0
        self.scores: list[_Scores] = []
        self.sound_until = 0
        self._losses, self._scores = _Means(), _Means()

    def begin(self, first: Mapping[str, float]) -> None:
        """Begin with what was logged of the first update."""
        self.start = {name: first[name] for name in (LOSS, GENERATOR_LOSS) if name in first}

    def go_on(self, update: int, kept: Any) -> None:
        """Go on from an update of a run, and what ``kept`` returned there where that is known."""
        kept = kept if isinstance(kept, Mapping) else {}
        self.begin({name: value for name, value in kept.items() if _is_finite(value)})
        rows = kept.get(SCORES)
        for row in rows if isinstance(rows, list) else []:
            if (
                isinstance(row, list)
                and len(row) == len(_Scores._fields)
                and all(map(_is_finite, row))
            ):
                self._judge(_Scores(*row))
        self.sound_until = update if self.is_sound() else 0

    def kept(self) -> dict[str, Any]:
        """What a run that goes on has to know."""
        return {
            **self.start,
            **({SCORES: [list(row) for row in self.scores]} if self.scores else {}),
        }

    def add(self, logged: Logged) -> None:
        """Judge what was logged next."""
        self._losses.add(logged.updates, loss=logged.loss)
        if self._losses.updates >= LOSS_UPDATES:
            times = self.times(self._losses.take()[LOSS])
            # No comparison holds of what is not a number.
            self.far = 0.0 if times <= FAR_ABOVE else times
        if logged.auc is not None:
            self._add_scores(logged)
        if self.is_sound():
            self.sound_until = logged.update

    def times(self, loss: float) -> float:
        """How many times that of the start a loss is."""
        return loss / max(self.start.get(LOSS, math.inf), SMALLEST_START)

    def _add_scores(self, logged: Logged) -> None:
        scores = {"auc": logged.auc, "low": logged.low, GENERATOR_LOSS: logged.generator_loss}
        self._scores.add(logged.updates, **scores)
        if (updates := self._scores.updates) < SCORE_UPDATES:
            return
        self._judge(_Scores(updates, **self._scores.take()))

    def _judge(self, scores: _Scores) -> None:
        self.scores.append(scores)
        while sum(row.updates for row in self.scores[1:]) >= LOW_UPDATES:
            del self.scores[0]

    def is_sound(self, updates: int = 0, loss: float = 0.0) -> bool:
        """Whether nothing points to trouble, nor so many updates more of such a mean loss."""
        if self.words or (self.scores and self.scores[-1].auc < self.scores[-1].low):
            return False
        mean = self._losses.mean_with(updates, LOSS, loss)
        return self.times(mean) <= FAR_ABOVE

    @property
    def words(self) -> str:
        """What is wrong with the run; "" while nothing is for sure."""
        if self.far:
            first = self.start.get(LOSS, math.nan)
            if not math.isfinite(self.far):
                return f"the loss is not finite, of {first:.4g} in the first update"
            return f"the loss is {self.far:.3g} times that of the first update ({first:.4g})"
        updates = sum(row.updates for row in self.scores)
        if updates < LOW_UPDATES:
            return ""
        auc, low = (
            sum(row.updates * getattr(row, name) for row in self.scores) / updates
            for name in ("auc", "low")
        )
        first, last = self.scores[0].generator_loss, self.scores[-1].generator_loss
        if auc < low and last < LEARNS * first:
            return (
                f"for {counted(int(updates), 'update')} the discriminator has told replaced tokens "
                f"hardly better than chance (discriminator_auc {auc:.3f}), while the generator "
                f"learns (generator_loss {first:.3g} to {last:.3g})"
            )
        return ""


class _Means:
    """Means over updates that come in parts."""

    def __init__(self) -> None:
        self.updates = 0
        self.sums: dict[str, float] = {}

    def add(self, updates: int, **means: Any) -> None:
        self.updates += updates
        for name, mean in means.items():
            self.sums[name] = self.sums.get(name, 0.0) + updates * mean

    def mean_with(self, updates: int, name: str, mean: float) -> float:
        """The mean so far and of some updates more; 0 of none."""
        total = self.sums.get(name, 0.0) + (updates * mean if updates else 0.0)
        return total / max(self.updates + updates, 1)

    def take(self) -> dict[str, float]:
        """The means, which begin anew."""
        means = {name: total / self.updates for name, total in self.sums.items()}
        self.updates, self.sums = 0, {}
        return means


def _is_finite(value: Any) -> bool:
    # An integer may be too large for a float.
    return isinstance(value, (int, float)) and abs(value) < math.inf
