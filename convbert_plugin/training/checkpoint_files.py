"""fairseq's ways with checkpoints as the tasks need them: written whole, checked before loaded.

fairseq writes one checkpoint beside its place and copies it to the others in place, so that who is
cut off leaves half a checkpoint_last.pt. It looks the functions up where it calls them: in every
process that registers the tasks, whichever command started it, these stand in their place.
"""

import functools
import os
from typing import Any, Callable, Optional

from fairseq import checkpoint_utils
from fairseq.data import iterators
from fairseq.file_io import PathManager

from convbert_plugin.errors import UserError, under_a_command_of_fairseq
from convbert_plugin.files.whole_output import whole_copy, whole_file
from convbert_plugin.formats.finding import LAST_CHECKPOINT
from convbert_plugin.formats.tensor_writing import write_pickled
from convbert_plugin.training import time_budget
from convbert_plugin.training.checkpoint_writing import save_or_go_on, trains_no_more
from convbert_plugin.training.checkpoints import Start, check_loaded
from convbert_plugin.training.disk_room import check_room
from convbert_plugin.training.exact_resume import WholeGroups
from convbert_plugin.training.leaving import finish_update, save_undisturbed
from convbert_plugin.training.recording import why_it_stops
from convbert_plugin.training.trainer import SurvivingTrainer, take_over

# In what fairseq says where an epoch is shorter than the place in it.
MISMATCH = "dataloader mismatch"


def make_whole() -> None:
    """Put them in the place of fairseq's for the rest of this process."""
    for name, around in AROUND.items():
        setattr(checkpoint_utils, name, around(getattr(checkpoint_utils, name)))
    PathManager.copy = staticmethod(_whole_copy(PathManager.copy))
    iterators.GroupedIterator = WholeGroups


def _whole_save(save: Callable) -> Callable:
    def torch_persistent_save(obj: Any, filename: Any, async_write: bool = False) -> None:
        if async_write or not PathManager.supports_rename(filename):
            save(obj, filename, async_write)
            return
        with whole_file(filename) as file:
            write_pickled(obj, file)

    return torch_persistent_save


def _whole_copy(copy: Callable) -> Callable:
    def whole(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
        if any(map(PathManager.path_requires_pathmanager, (src_path, dst_path))):
            return copy(src_path, dst_path, overwrite=overwrite)
        whole_copy(src_path, dst_path)
        return True

    return whole


def _lasting_save(save: Callable) -> Callable:
    def save_checkpoint(
        cfg: Any, trainer: Any, epochs: Any, score: Optional[float]
    ) -> Optional[str]:
        saving = save
        if isinstance(trainer, SurvivingTrainer):
            score = trainer.watch.score(score)
            saving = save if cfg.no_save else functools.partial(save_or_go_on, save)
        path = saving(cfg, trainer, epochs, score)
        if isinstance(trainer, SurvivingTrainer) and trains_no_more():
            trainer.recording.end(trainer, why_it_stops(trainer))
        return path

    return save_checkpoint


def _undisturbed_save(save: Callable) -> Callable:
    return functools.partial(save_undisturbed, _lasting_save(save))


def _checked_load(load: Callable) -> Callable:
    def load_checkpoint_to_cpu(path: str, *arguments: Any, **options: Any) -> dict:
        # A program that loads models of its own may allow what they hold.
        if under_a_command_of_fairseq() and not PathManager.path_requires_pathmanager(path):
            check_loaded(path)
        return load(path, *arguments, **options)

    return load_checkpoint_to_cpu


def _own_start(load: Callable) -> Callable:
    def load_checkpoint(cfg: Any, trainer: Any, **arguments: Any) -> tuple:
        start = getattr(trainer.task, "start", None)
        # Of the tasks here alone.
        if not isinstance(start, Start):
            return load(cfg, trainer, **arguments)
        take_over(trainer)
        if start.notice:
            # The configuration that checkpoints keep stays that of the run.
            cfg = cfg.copy()
            cfg.restore_file, cfg.finetune_from_model = str(start.path), None
        try:
            loaded = load(cfg, trainer, **arguments)
        except RuntimeError as error:
            if MISMATCH not in str(error):
                raise
            raise UserError(
                f"{start.path or LAST_CHECKPOINT}: stands at a batch that its epoch has not with "
                "this data and batch size: resume with those of the run, or add --reset-dataloader"
            ) from None
        if not start.reached_limit:
            check_room(trainer)
        trainer.watch.go_on(trainer, loaded[0])
        trainer.recording.go_on(trainer, loaded[0])
        time_budget.begin(trainer)
        finish_update(trainer, loaded[0])
        return loaded

    return load_checkpoint


def _told_folder(verify: Callable) -> Callable:
    def verify_checkpoint_directory(save_dir: str) -> None:
        try:
            verify(save_dir)
        except OSError as error:
            # A start at the same moment has removed what this one tried with.
            if isinstance(error, FileNotFoundError) and os.path.isdir(save_dir):
                return
            raise UserError(
                f"--save-dir {save_dir}: cannot be written in ({error.strerror}): choose another "
                "folder"
            ) from None

    return verify_checkpoint_directory


AROUND = {
    "save_checkpoint": _undisturbed_save,
    "torch_persistent_save": _whole_save,
    "load_checkpoint_to_cpu": _checked_load,
    "load_checkpoint": _own_start,
    "verify_checkpoint_directory": _told_folder,
}
