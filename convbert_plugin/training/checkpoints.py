"""See at the start that the checkpoints which a run is to begin from are there, sound and fit."""

import os
from pathlib import Path
from typing import Collection, Mapping, NamedTuple, Optional, Sequence

from fairseq.criterions import CRITERION_REGISTRY
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.optim import OPTIMIZER_REGISTRY
from fairseq.tasks import TASK_REGISTRY

from convbert_plugin.data.vocabulary import Vocabulary, check_same_vocabulary
from convbert_plugin.errors import UserError, shown
from convbert_plugin.files.records import RANDOM_WEIGHTS, start_from
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.files.whole_output import whole_copy
from convbert_plugin.formats.fairseq_checkpoint import (
    MOST_OPTIONS,
    FairseqCheckpoint,
    read_checkpoint,
)
from convbert_plugin.formats.finding import BEST_CHECKPOINT, LAST_CHECKPOINT
from convbert_plugin.formats.run_checkpoints import Found, newest_checkpoint
from convbert_plugin.formats.safe_loading import is_plain
from convbert_plugin.formats.wholeness import damage_of, plain_values, updates_of, version_of
from convbert_plugin.models.convbert import ConvBertModel
from convbert_plugin.models.loading import empty_model_of, usable_positions
from convbert_plugin.models.parts import scopes_of
from convbert_plugin.models.state import TOKEN_TABLE
from convbert_plugin.modules.shape import StackShape
from convbert_plugin.optim.convbert_linear import budget_of
from convbert_plugin.tokenization.tokenizer import DICTIONARY_FILE
from convbert_plugin.training.exact_resume import name_of
from convbert_plugin.training.resuming import (
    BLOCKWISE,
    DATALOADER,
    OF_A_RATE,
    OPTIMIZER,
    RESETS,
    SCHEDULES_OF_A_RATE,
    WRAPPERS,
    check_components,
    check_progress,
    reached_limit,
)
from convbert_plugin.training.run_config import RunConfig

# The options of a task that say what it trains, the most telling one first.
OBJECTIVE_OPTIONS = ("glue_task", "objective", "_name")
# The files that were opened and found sound.
_opened: set[tuple] = set()


class Start(NamedTuple):
    """What a run begins from: the checkpoint, without its tensors, or random weights.

    ``is_own``: one of the run itself. ``positions``: how many it has. ``state``: what this task
    kept in it, ``kept``: what its task did, which may be another. ``parts``: the scopes of its
    heads, ``shapes``: of its stacks of layers. ``trained_positions`` were reached by examples, and
    an example may have ``usable_length`` tokens without a word. ``description``: what records say
    of it, ``notice``: what the user is told of it. ``reached_limit``: that of this run which it has
    reached already, in words. ``updates`` went into it; ``is_best``: of those of its run. So many
    ``workers`` got to the place in its epoch from where this run goes on, 0 where it does not.
    """

    path: PathLike = ""
    is_own: bool = False
    positions: int = 0
    state: Mapping = {}
    kept: Mapping = {}
    parts: Collection[str] = ()
    shapes: Mapping[str, StackShape] = {}
    trained_positions: int = 0
    usable_length: Optional[int] = None
    description: Mapping = RANDOM_WEIGHTS
    notice: str = ""
    reached_limit: str = ""
    updates: int = 0
    is_best: bool = False
    workers: int = 0


def check_checkpoints(cfg: RunConfig, vocabulary: Vocabulary) -> Start:
    """Read the checkpoint that fairseq will load, and compare the dictionaries beside it.

    Where the last one of the run is damaged, or a newer one whole, that is the newest whole one.
    fairseq itself would train from scratch where --restore-file names nothing, end in a traceback
    where the file is damaged, and hand the vocabulary of a checkpoint over only where a run is
    resumed whole.

    Raises:
        UserError: a file that is missing, damaged, not safe to load, or of another vocabulary;
            a training state that fairseq cannot go on from, where it would, or of another
            criterion or optimizer; something else in the place of a checkpoint of the run.
    """
    last = Path(cfg.save_dir) / LAST_CHECKPOINT
    for place in (last, last.with_name(BEST_CHECKPOINT)):
        _check_place(place)
    # As fairseq's default it stands for the one in the folder of the run.
    named = None if cfg.restore_file == LAST_CHECKPOINT else cfg.restore_file
    source = cfg.finetune_from_model
    _check_one_beginning(cfg, named)
    for option, path in (("--restore-file", named), ("--finetune-from-model", source)):
        # What is there and no file is refused by what reads it.
        if path is None or os.path.lexists(path) or (path and path == source and last.is_file()):
            continue
        raise UserError(f"{option} {path or shown(path)}: no such file")
    _check_dictionaries([last, *(Path(path) for path in (named, source) if path)], vocabulary, cfg)
    # Now, and not when the first checkpoint is written there.
    vocabulary.check_folder(last.parent)
    own = None if named else _own_checkpoint(cfg, last)
    resumed = named or (own.path if own else cfg.continue_once)
    if not (start := resumed or source):
        return Start()
    checkpoint, model = open_checkpoint(start)
    check_same_vocabulary(
        vocabulary,
        checkpoint.kept,
        f"{start}: was trained with another vocabulary than {cfg.data} was made with: make the "
        f"data with the tokenizer and {DICTIONARY_FILE} of the checkpoint",
    )
    task_class = TASK_REGISTRY[cfg._name].__name__
    resets = _resets(cfg) if resumed else RESETS
    of_a_rate = _component(cfg, "lr_scheduler") in SCHEDULES_OF_A_RATE
    check_progress(checkpoint, start, task_class, [*resets, *([OF_A_RATE] if of_a_rate else ())])
    if OPTIMIZER not in resets:
        check_components(checkpoint, start, _components(cfg))
    objective = next(filter(None, map(checkpoint.task.get, OBJECTIVE_OPTIONS)), None)
    updates = checkpoint.progress["optimizer_history"][-1].get("num_updates", 0)
    extra, run = checkpoint.progress["extra_state"], cfg._get_root()
    return Start(
        path=start,
        is_own=own is not None or Path(start) == last,
        positions=model.max_positions(),
        state=extra.get(task_class, {}),
        kept=checkpoint.kept,
        parts=scopes_of(checkpoint.tensors),
        shapes=model.shapes(),
        trained_positions=checkpoint.trained_positions or 0,
        # Where examples may have been as long before, it has been said.
        usable_length=max(usable_positions(checkpoint), checkpoint.example_length or 0),
        description=start_from(Path(start), objective, updates),
        notice=own.notice if own else "",
        reached_limit=reached_limit(
            checkpoint, resets, run.optimization, budget_of(run.lr_scheduler)
        ),
        updates=updates,
        is_best=extra.get("val_loss") is not None and extra["val_loss"] == extra.get("best"),
        workers=0 if DATALOADER in resets else checkpoint.workers,
    )


def _own_checkpoint(cfg: RunConfig, last: Path) -> Optional[Found]:
    """What the run that is in its folder goes on from, if there is one."""
    found = newest_checkpoint(last.parent)
    if found is None or last.is_file() or task_of(found.path) == cfg._name:
        return found
    return None


def task_of(path: PathLike) -> Optional[str]:
    """The task that a checkpoint was trained on, by what it says and nothing more."""
    return _option(path, "task")


def model_of(path: PathLike) -> Optional[str]:
    """The architecture of a checkpoint, likewise."""
    return _option(path, "model")


def _option(path: PathLike, component: str) -> Optional[str]:
    try:
        name = plain_values(path)["cfg"][component]["_name"]
    except (ValueError, LookupError, TypeError):
        return None
    return name if isinstance(name, str) else None


def open_checkpoint(path: PathLike) -> tuple[FairseqCheckpoint, ConvBertModel]:
    """A checkpoint, and the model of its options, which its tensors fit; errors as for both."""
    checkpoint = read_checkpoint(path)
    rows = range(len(checkpoint.tensors.get(TOKEN_TABLE, ())))
    model = empty_model_of(ConvBertModel, checkpoint, rows, path)
    _opened.add(version_of(path))
    return checkpoint, model


def finish_copies(cfg: RunConfig, start: Start) -> None:
    """Copy a run's newest checkpoint to where it had no time to, as its best one too if it is that.

    Later ones are measured against its score, so that it would be lost as they come.
    """
    saving = cfg._get_root().checkpoint
    if not start.notice or saving.no_save:
        return
    source, names = Path(start.path), [] if saving.no_last_checkpoints else [LAST_CHECKPOINT]
    if start.is_best:
        names.append(BEST_CHECKPOINT)
    for path in map(source.with_name, names):
        if not path.is_file() or damage_of(path) or updates_of(path) != start.updates:
            whole_copy(source, path)


def check_loaded(path: PathLike) -> None:
    """See that fairseq may load a checkpoint; errors as for ``open_checkpoint``.

    Of another model than the plugin's, that it is whole, its options plain.
    """
    if not os.path.isfile(path) or version_of(path) in _opened:
        return
    architecture = ARCH_MODEL_REGISTRY.get(model_of(path), ConvBertModel)
    if issubclass(architecture, ConvBertModel):
        open_checkpoint(path)
    elif damage := damage_of(path):
        raise UserError(f"{path}: {damage}: copy it again")
    elif not is_plain(plain_values(path)["cfg"], MOST_OPTIONS):
        raise UserError(f"{path}: its options are no plain values: damaged, or not written here")


def _check_place(path: Path) -> None:
    """Raise UserError where what is there is no file: fairseq would begin anew, and over it."""
    if not os.path.lexists(path) or path.is_file():
        return
    kind = "a pipe or a device" if path.exists() else "a link to nothing"
    raise UserError(
        f"{path}: {'a folder' if path.is_dir() else kind}, where a checkpoint of the run belongs: "
        "remove it, or choose another --save-dir"
    )


def _check_dictionaries(checkpoints: list[Path], vocabulary: Vocabulary, cfg: RunConfig) -> None:
    for path in checkpoints:
        dictionary = path.with_name(DICTIONARY_FILE)
        if dictionary.is_file():
            check_same_vocabulary(
                vocabulary,
                Vocabulary.load(dictionary).description(),
                f"{dictionary}: the checkpoints there have another vocabulary than {cfg.data}: "
                f"make the data with its tokenizer and {DICTIONARY_FILE}, or choose another folder",
            )


def _check_one_beginning(cfg: RunConfig, named: Optional[str]) -> None:
    """Raise UserError where --finetune-from-model stands beside what it excludes."""
    resets = [f"--{name.replace('_', '-')}" for name in _resets(cfg)]
    others = [f"--restore-file {named}"] if named else resets
    if cfg.finetune_from_model and others:
        raise UserError(
            f"--finetune-from-model {cfg.finetune_from_model} and {others[0]} exclude each other: "
            "it begins with the weights alone, and resets all the rest by itself"
        )


def _resets(cfg: RunConfig) -> Collection[str]:
    return [name for name in RESETS if getattr(cfg, name)]


def _component(cfg: RunConfig, component: str) -> Optional[str]:
    return name_of(component, cfg._get_root()[component])


def _components(cfg: RunConfig) -> Mapping[str, Sequence[str]]:
    """What the classes of criterion and optimizer may be called in a checkpoint of this run."""
    run = cfg._get_root()
    wrapped = cfg.fp16 or cfg.bf16 or cfg.amp
    name = _component(cfg, "optimizer")
    optimizer = WRAPPERS if wrapped else (OPTIMIZER_REGISTRY[name].__name__,)
    return {
        "criterion_name": (CRITERION_REGISTRY[run.criterion._name].__name__,),
        "optimizer_name": (*optimizer, BLOCKWISE),
    }
