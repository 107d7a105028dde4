"""The file that fairseq's trainer writes, and the one that stands for it after a conversion."""

from typing import NamedTuple, Optional, TypeVar

from torch import Tensor

from convbert_plugin.errors import UserError
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.formats.answers import Answers, answers_kept
from convbert_plugin.formats.reading import Reading, reading_kept
from convbert_plugin.formats.safe_loading import checked_tensors, is_plain, load_pickled, resolves

# What the config.json of transformers said where a model came from there.
TRANSFORMERS_CONFIG = "transformers_config"
# What a task keeps of how far its examples reached.
TRAINED_POSITIONS = "trained_positions"

# A config of fairseq holds about 500 values, of which OmegaConf makes objects.
MOST_OPTIONS = 10_000

Kind = TypeVar("Kind")


class FairseqCheckpoint(NamedTuple):
    """A checkpoint of which the model's part is checked.

    ``model`` and ``task``: the options of both, and ``kept`` what the task kept, as plain values.
    ``answers``: what the outputs of heads mean, by their scopes. ``reading``: how it reads
    contexts, where it answers questions on them. ``progress``: what a run would go on from,
    unchecked. ``workers`` trained it.
    """

    tensors: dict[str, Tensor]
    model: dict
    task: dict
    kept: dict
    answers: dict[str, Answers]
    reading: Optional[Reading]
    transformers_config: dict
    progress: dict
    workers: int

    @property
    def example_length(self) -> Optional[int]:
        """To how many tokens the examples of the run were cut, None where nothing says it."""
        return _positive(self.task.get("tokens_per_sample"))

    @property
    def trained_positions(self) -> Optional[int]:
        """How many positions examples have reached, those of earlier runs too."""
        return _positive(self.kept.get(TRAINED_POSITIONS)) or self.example_length


def read_checkpoint(path: PathLike) -> FairseqCheckpoint:
    """Read and check a checkpoint without building anything that it asks for.

    Raises:
        UserError: as ``load_pickled``; entries that are missing or of another kind than the
            trainer writes, by their names.
    """
    state = load_pickled(path)
    if not isinstance(state, dict):
        raise UserError(f"{path}: holds {type(state).__name__}, no checkpoint of fairseq")
    if state.get("args") is not None:
        raise UserError(f"{path}: of an old fairseq (its options stand in args): not made here")
    cfg = _entry(state, "cfg", dict, path)
    extra_state = _entry(state, "extra_state", dict, path)
    history = _entry(state, "optimizer_history", list, path)
    if not (is_plain(cfg, MOST_OPTIONS) and is_plain(history)) or resolves([cfg, history]):
        raise UserError(f"{path}: its options are no plain values: damaged, or not written here")
    if not history or not isinstance(history[-1], dict):
        raise UserError(f"{path}: its optimizer_history is empty: no checkpoint of fairseq")
    kept = state.get("task_state") or {}
    if not isinstance(kept, dict) or not is_plain(kept):
        raise UserError(f"{path}: its task_state is no plain values: damaged, or not written here")
    source = extra_state.get(TRANSFORMERS_CONFIG, {})
    if not isinstance(source, dict) or not is_plain(source):
        raise UserError(
            f"{path}: its {TRANSFORMERS_CONFIG} is not what a config.json holds: damaged, or not "
            "written here"
        )
    return FairseqCheckpoint(
        tensors=checked_tensors(state.get("model"), path),
        model=_entry(cfg, "model", dict, path),
        task=_entry(cfg, "task", dict, path),
        kept=kept,
        answers=answers_kept(kept, path),
        reading=reading_kept(kept, path),
        transformers_config=source,
        progress={
            "extra_state": extra_state,
            "optimizer_history": history,
            "last_optimizer_state": state.get("last_optimizer_state"),
        },
        workers=_workers(cfg),
    )


def checkpoint_of(
    tensors: dict[str, Tensor],
    cfg: dict,
    kept: dict,
    transformers_config: dict,
    names: tuple[str, str],
) -> dict:
    """What the trainer would write before its first update, for ``torch.save``.

    ``names``: the classes of criterion and optimizer that may go on from it.
    """
    criterion, optimizer = names
    return {
        "args": None,
        "cfg": cfg,
        "model": tensors,
        "optimizer_history": [
            {
                "criterion_name": criterion,
                "optimizer_name": optimizer,
                "lr_scheduler_state": {},
                "num_updates": 0,
            }
        ],
        "task_state": kept,
        "extra_state": {
            "train_iterator": {"version": 2, "epoch": 1, "iterations_in_epoch": 0, "shuffle": True},
            TRANSFORMERS_CONFIG: transformers_config,
        },
    }


def _workers(cfg: dict) -> int:
    distributed = cfg.get("distributed_training")
    workers = distributed.get("distributed_world_size") if isinstance(distributed, dict) else None
    return _positive(workers) or 1


def _positive(value: object) -> Optional[int]:
    return value if type(value) is int and value > 0 else None


def _entry(state: dict, name: str, kind: type[Kind], path: PathLike) -> Kind:
    value = state.get(name)
    if not isinstance(value, kind):
        found = "missing" if name not in state else f"of the type {type(value).__name__}"
        raise UserError(f"{path}: its {name} is {found}: damaged, or no checkpoint of fairseq")
    return value
