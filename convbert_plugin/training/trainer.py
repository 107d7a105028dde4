"""fairseq's trainer as the tasks here need it: for runs of days on machines that are taken away."""

import contextlib
import sys
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional

from fairseq.trainer import Trainer

from convbert_plugin.errors import UserError
from convbert_plugin.training import end_signals, leaving, time_budget
from convbert_plugin.training.checkpoint_writing import Unwritten, save_what_is_left
from convbert_plugin.training.exact_resume import recall, remember
from convbert_plugin.training.finite_numbers import (
    LeftOut,
    NotFinite,
    leave_aggregation,
    leave_out,
)
from convbert_plugin.training.keeping import keep_progress
from convbert_plugin.training.recording import SEEN, Recording, why_no_epoch_follows
from convbert_plugin.training.resuming import LEFT_IN_EPOCH
from convbert_plugin.training.several_workers import gone_workers_told, share_place
from convbert_plugin.training.told_epochs import ending_after
from convbert_plugin.training.watching import COURSE, Watch


class SurvivingTrainer(Trainer):
    """What a trainer of fairseq becomes before its first update: see ``take_over``.

    ``epochs`` are those that it goes through, at the place where it stands. ``left_out``: updates
    whose numbers were not finite. ``requests`` sums up which workers were asked to leave;
    ``kept_besides`` is what a checkpoint keeps beside what fairseq does. ``unwritten``: the
    checkpoint that is missing on the disk, if the last one is; ``written``: the file that was last
    written whole. ``watch`` sees how the run goes, ``recording`` what it has seen.
    """

    epochs: Any = None
    watch: Watch
    recording: Recording
    left_out = LeftOut()
    requests: Any = 0
    kept_besides: Mapping = {}
    # How many updates the last checkpoint holds.
    kept_updates = 0
    unwritten: Optional[Unwritten] = None
    written: Optional[Path] = None

    def get_train_iterator(self, epoch: int, *arguments: Any, **options: Any) -> Any:
        save_what_is_left(self, epoch)
        if self.epochs is not None and (reason := why_no_epoch_follows(self, epoch)):
            self.recording.end(self, reason)
        with self.progress_kept():
            epochs = super().get_train_iterator(epoch, *arguments, **options)
        if self.epochs is None:
            self.kept_updates = self.get_num_updates()
        self.epochs = ending_after(epochs, self.progress_kept)
        return self.epochs

    def get_valid_iterator(self, *arguments: Any, **options: Any) -> Any:
        with self.progress_kept(in_validation=True):
            epochs = super().get_valid_iterator(*arguments, **options)
        return ending_after(epochs, lambda: self.progress_kept(in_validation=True))

    # fairseq-hydra-train imports the tasks too late for what is around the whole run.
    @gone_workers_told()
    def train_step(self, samples: list, raise_oom: bool = False) -> Any:
        try:
            logged = super().train_step(samples, raise_oom)
        except NotFinite:
            leave_aggregation("train")
            self.left_out = leave_out(self, samples, self.left_out)
            return None
        self.left_out = self.left_out._replace(in_a_row=0)
        if logged is not None:
            self.recording.look(self)
            self.watch.look(self)
        return logged

    def begin_epoch(self, epoch: int) -> None:
        end_signals.say_where(lambda: leaving.where(self), put_off=self.task.cfg.save_on_signal)
        super().begin_epoch(epoch)

    def _aggregate_logging_outputs(
        self, logging_outputs: list, *sums: Any, ignore: bool = False
    ) -> tuple:
        logging_outputs, (*sums, self.requests) = super()._aggregate_logging_outputs(
            logging_outputs, *sums, leaving.request(), ignore=ignore
        )
        return logging_outputs, sums

    def _check_grad_norms(self, norm: Any) -> None:
        super()._check_grad_norms(norm)
        # It has waited for the device, which has made these sums before.
        self.requests = float(self.requests)

    def cumulative_training_time(self) -> float:
        # Asked for after each update, when that is logged, and before it is validated and saved.
        leaving.leave_if_asked(self)
        return super().cumulative_training_time()

    def training_seconds(self) -> float:
        """How long the run has trained, by what all workers agreed on last, asked for any time."""
        seconds = super().cumulative_training_time()
        if self._cumulative_training_time is None and self.data_parallel_world_size > 1:
            seconds = self._previous_training_time
        return float(seconds) - self.recording.seconds_before

    def lr_step_update(self) -> Any:
        time_budget.pass_time(self)
        return super().lr_step_update()

    def begin_valid_epoch(self, epoch: int) -> None:
        self.recording.begin_validation(self)
        super().begin_valid_epoch(epoch)

    @gone_workers_told()
    def valid_step(self, sample: Any, raise_oom: bool = False) -> Any:
        leaving.leave_if_asked(self)
        return super().valid_step(sample, raise_oom)

    def save_checkpoint(self, filename: str, extra_state: dict) -> Any:
        # What fairseq begins with where it finds such gradients.
        if isinstance(sys.exc_info()[1], FloatingPointError):
            raise NotFinite
        self.watch.hold(self)
        seen = self.recording.seen()._asdict()
        course = self.watch.course.kept()
        kept = {**extra_state, **self.kept_besides, COURSE: course, SEEN: seen}
        saved = super().save_checkpoint(filename, kept)
        self.watch.saved(self, filename)
        self.kept_updates = self.get_num_updates()
        self.written = saved and Path(saved)
        return saved

    @contextlib.contextmanager
    def progress_kept(self, in_validation: bool = False) -> Iterator[None]:
        """Where data that were there when the run began have gone, what was learned is kept."""
        try:
            yield
        except UserError:
            if self.epochs is not None and self.get_num_updates() > self.kept_updates:
                keep_progress(self, {LEFT_IN_EPOCH: self.epochs.epoch} if in_validation else {})
            raise

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        remember(self, state)
        return state

    def load_checkpoint(
        self,
        filename: str,
        reset_optimizer: bool = False,
        reset_lr_scheduler: bool = False,
        optimizer_overrides: Optional[dict] = None,
        reset_meters: bool = False,
    ) -> Optional[dict[str, Any]]:
        resets = reset_optimizer, reset_lr_scheduler, optimizer_overrides, reset_meters
        extra_state = super().load_checkpoint(filename, *resets)
        if extra_state is not None:
            recall(self, extra_state, reset_optimizer or reset_lr_scheduler, reset_meters)
            share_place(self, extra_state)
        return extra_state


def take_over(trainer: Trainer) -> None:
    """Let a trainer of fairseq, of whichever class, do what ``SurvivingTrainer`` does beside."""
    kind = type(trainer)
    trainer.__class__ = type(kind.__name__, (SurvivingTrainer, kind), {})
    trainer.watch, trainer.recording = Watch(), Recording()
