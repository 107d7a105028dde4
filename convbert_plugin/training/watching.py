"""A run that goes astray is told of, or stopped, and its last sound checkpoint stays.

Its numbers are read where fairseq reads them for its log, all --log-interval updates.
"""

import contextlib
import logging
import math
import os
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

import torch
from fairseq.logging import metrics

from convbert_plugin.errors import UserError
from convbert_plugin.files.pretraining_records import DIVERGED
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.formats.finding import LAST_CHECKPOINT
from convbert_plugin.training.divergence import (
    GENERATOR_LOSS,
    LOSS,
    Course,
    Logged,
    low_auc,
)

logger = logging.getLogger(__name__)

# What a checkpoint keeps of the course of its run.
COURSE = "course"
# A checkpoint from before a run went astray, which nothing rotates away.
SOUND_CHECKPOINT = "checkpoint_sound.pt"
INTERVAL = "train_inner"
AUC = "discriminator_auc"
LOSSES, SCORES = (LOSS, GENERATOR_LOSS), (AUC, "replaced_rate", "bsz", "wpb")


class Watch:
    """The course of a run, and its last sound checkpoint.

    Where something points to trouble, the checkpoint from before is held until nothing does: a
    second name of its file, which takes no room while the first is there.
    """

    def __init__(self) -> None:
        self.course = Course()
        self.read_until = 0
        self.saved_at = 0
        self.saved_as: PathLike = ""
        self.first: Mapping[str, Any] = {}
        self.has_told = self.is_held = False

    def go_on(self, trainer: Any, kept: Optional[Mapping]) -> None:
        """Go on from where a run stands, with what its checkpoint kept beside fairseq's."""
        self.read_until = self.saved_at = trainer.get_num_updates()
        self.saved_as = trainer.task.start.path
        if self.read_until:
            self.course.go_on(self.read_until, (kept or {}).get(COURSE))
        self.is_held = _held(trainer).exists()

    def look(self, trainer: Any) -> None:
        """See how it goes, after an update.

        Raises:
            UserError: it has gone astray, under --stop-on-divergence.
        """
        meters = metrics.get_meters(INTERVAL)
        # Who trains without fairseq's loop logs nothing.
        if meters is None:
            return
        update = trainer.get_num_updates()
        if not self.course.start and not self.first:
            # On the device until it is read.
            self.first = _values(meters, LOSSES)
        if update % trainer.cfg.common.log_interval == 0:
            self._read(trainer, update, _floats(_values(meters, (*LOSSES, *SCORES))))

    def _read(self, trainer: Any, update: int, values: Mapping[str, float]) -> None:
        course = self.course
        if not course.start:
            course.begin(_floats(self.first))
        course.add(_logged(update, update - self.read_until, values))
        self.read_until = update
        if course.is_sound():
            self._let_go(trainer)
        if not course.words:
            self.has_told = False
        elif not self.has_told:
            self.has_told = True
            self._tell(trainer, update)

    def _tell(self, trainer: Any, update: int) -> None:
        line = f"update {update:,}: {self.course.words}: {self._advice(trainer)}"
        if trainer.task.cfg.stop_on_divergence:
            trainer.recording.end(trainer, DIVERGED)
            raise UserError(line)
        if trainer.is_data_parallel_master:
            logger.warning(f"{line} (--stop-on-divergence ends such a run)")

    def _advice(self, trainer: Any) -> str:
        rate = f"a lower --lr than {trainer.cfg.optimization.lr[0]:g}, or longer --warmup-updates"
        held = _held(trainer)
        if held.exists():
            return f"copy {held} over {LAST_CHECKPOINT} and go on with {rate}"
        return f"begin anew with {rate}"

    def hold(self, trainer: Any) -> None:
        """Before another checkpoint is written: keep the last one, if this one may be unsound."""
        update, meters = trainer.get_num_updates(), metrics.get_meters(INTERVAL) or {}
        # Of the updates since the last were read.
        loss = _floats(_values(meters, (LOSS,))).get(LOSS, math.nan)
        if self.course.is_sound(update - self.read_until, loss):
            self.course.sound_until = update
        elif not self.is_held and 0 < self.saved_at <= self.course.sound_until:
            self.is_held = _link(self.saved_as, _held(trainer))

    def saved(self, trainer: Any, path: PathLike) -> None:
        """Another one is written."""
        self.saved_at, self.saved_as = trainer.get_num_updates(), path

    def _let_go(self, trainer: Any) -> None:
        if self.is_held and trainer.should_save_checkpoint_on_current_rank:
            _held(trainer).unlink(missing_ok=True)
        self.is_held = False

    def score(self, score: Optional[float]) -> Optional[float]:
        """What a validation counts for when the best checkpoint is chosen: None is no score."""
        return None if score is None or self.has_told or not math.isfinite(score) else score


def _held(trainer: Any) -> Path:
    return Path(trainer.cfg.checkpoint.save_dir) / SOUND_CHECKPOINT


def _link(path: PathLike, name: Path) -> bool:
    """Give a file a second name; whether it has one: not every file system can."""
    with contextlib.suppress(OSError):
        name.unlink(missing_ok=True)
        os.link(path, name)
        return True
    return False


def _values(meters: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: meters.get_smoothed_value(name) for name in names if name in meters}


def _floats(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(torch.as_tensor(value)) for name, value in values.items()}


def _logged(update: int, updates: int, values: Mapping[str, float]) -> Logged:
    if AUC not in values:
        return Logged(update, updates, values[LOSS])
    low = low_auc(values["bsz"], values["wpb"], values["replaced_rate"])
    return Logged(update, updates, values[LOSS], values[GENERATOR_LOSS], values[AUC], low)
