"""Pretraining runs on disk, one by one."""

import json
from pathlib import Path
from typing import Any, NamedTuple, Optional

from convbert_plugin.analysis.grouping import subsets_of
from convbert_plugin.data.splits import VALID
from convbert_plugin.files.pretraining_records import read_pretraining_record
from convbert_plugin.files.records import start_in_words

UPDATES, TOKENS, SLOTS, SECONDS = "updates", "tokens", "slots", "seconds"
# What tells where in a run a number was taken.
PLACES = (UPDATES, TOKENS, SLOTS, SECONDS)


class PretrainingRun(NamedTuple):
    """What a run left in its folder; ``points`` and ``validations`` in the order of updates."""

    folder: str
    seed: int
    objective: str
    start: dict
    model: dict
    settings: dict
    data: dict
    environment: dict
    points: list[dict]
    validations: list[dict]
    budget_minutes: Optional[float]
    ended: Optional[str]
    # Updates before the first whose tokens are counted.
    counted_from: int = 0

    @property
    def is_finished(self) -> bool:
        return self.ended is not None

    @property
    def updates(self) -> int:
        """The last of which it tells."""
        return int(self._reached(UPDATES))

    @property
    def tokens(self) -> int:
        """Of text, those that it had seen by then."""
        return int(self._reached(TOKENS))

    @property
    def seconds(self) -> float:
        """Of training, by then."""
        return self._reached(SECONDS)

    def _reached(self, place: str) -> float:
        return max((entry.get(place, 0) for entry in (*self.points, *self.validations)), default=0)

    @property
    def making(self) -> str:
        """All that makes the run but its seed."""
        return json.dumps(self.facts(), sort_keys=True)

    def facts(self) -> dict[str, Any]:
        """What may differ between groups of runs, by the words for it."""
        start = self.start.get("weights") or start_in_words(self.start)
        return {
            "objective": self.objective,
            **self.model,
            "start": start,
            **self.settings,
            **{f"{name} data": digest for name, digest in self.digests().items()},
            "budget minutes": self.budget_minutes,
        }

    def digests(self) -> dict[str, str]:
        """What the data are told by, the vocabulary among them; the rest follows from them."""
        return {name: held for name, held in self.data.items() if isinstance(held, str)}

    @property
    def subsets(self) -> list[str]:
        """The sets that it was validated on, the usual one first."""
        return subsets_of(self.validations)

    def last(self, subset: str = VALID) -> dict:
        """The last validation on a set; nothing where there was none."""
        entries = [entry for entry in self.validations if entry["subset"] == subset]
        return entries[-1] if entries else {}

    def curve(
        self, metric: str, over: str = UPDATES, subset: Optional[str] = None
    ) -> list[tuple[float, float]]:
        """A number over one of PLACES: of the validations on a set, else of the training."""
        entries = (
            self.points
            if subset is None
            else [entry for entry in self.validations if entry["subset"] == subset]
        )
        return [(entry[over], entry[metric]) for entry in entries if {over, metric} <= entry.keys()]


def read_pretraining_run(path: Path) -> PretrainingRun:
    """Read the ``pretraining.json`` of a run. Raises UserError: a damaged one."""
    record = read_pretraining_record(path)
    fields = {name: record[name] for name in PretrainingRun._fields if name in record}
    run = PretrainingRun(folder=str(path.parent), **fields)
    return run._replace(validations=sorted(run.validations, key=lambda entry: entry[UPDATES]))
