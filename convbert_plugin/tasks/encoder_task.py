"""What the tasks here share: one vocabulary, which goes with checkpoints, and a longest example."""

import argparse
import logging
import re
from pathlib import Path
from typing import Any, Mapping, Optional

import torch
from fairseq.criterions import FairseqCriterion
from fairseq.logging.meters import MetersDict
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.tasks import FairseqTask
from omegaconf import OmegaConf

from convbert_plugin.criterions.task_loss import check_pair
from convbert_plugin.data.length_batches import LengthBatchedDataset
from convbert_plugin.data.vocabulary import Vocabulary, check_same_vocabulary
from convbert_plugin.errors import UserError, errors_of_files_told
from convbert_plugin.files.pretraining_records import PretrainingRecord
from convbert_plugin.formats.fairseq_checkpoint import TRAINED_POSITIONS
from convbert_plugin.formats.run_checkpoints import remove_unfinished
from convbert_plugin.formats.surgery import is_tiled
from convbert_plugin.models.architectures import ARCHITECTURES
from convbert_plugin.models.config import ConvBertConfig
from convbert_plugin.models.convbert import ConvBertModel
from convbert_plugin.models.loading import untrained_positions
from convbert_plugin.modules.training_passes import check_compiler
from convbert_plugin.optim.convbert_linear import budget_of
from convbert_plugin.tokenization.tokenizer import DICTIONARY_FILE
from convbert_plugin.training.checkpoints import Start, check_checkpoints, finish_copies
from convbert_plugin.training.end_signals import listen
from convbert_plugin.training.fairseq_options import (
    check_command,
    check_precision,
    check_run,
    runs_on_gpu,
)
from convbert_plugin.training.finite_numbers import check_skips
from convbert_plugin.training.library_noise import silence
from convbert_plugin.training.run_config import RunConfig
from convbert_plugin.training.run_lock import RunLock, lock_run
from convbert_plugin.training.told_epochs import tell

logger = logging.getLogger(__name__)

# What torch says of tensors that are too large.
OF_SIZES = re.compile(r"(?i)can't allocate memory|out of memory|overflow\w*")


class EncoderTask(FairseqTask):
    """A task on one vocabulary, with examples of up to ``cfg.tokens_per_sample`` tokens.

    A subclass opens its data and loads the splits.

    Raises:
        UserError: data, vocabulary, checkpoint or options that do not go together; examples longer
            than the model has positions.
    """

    # What makes its data, for errors.
    data_maker: str
    shortest_example: int
    # Whether a start that was trained at fewer positions than there are here has them repeated.
    extends_positions = False
    # Whether its scores are written down, besides checkpoints.
    keeps_record = False

    def __init__(self, cfg: RunConfig, vocabulary: Vocabulary):
        super().__init__(cfg)
        self.vocabulary = vocabulary
        self.pad_to_max_length = False
        self.start = Start()
        self.reached_positions = self.kept_positions = 0
        self.told: set[str] = set()
        self.lock: Optional[RunLock] = None
        self.state.merge_state_dict(vocabulary.description())

    @classmethod
    def add_args(cls, parser: argparse._ActionsContainer) -> None:
        super().add_args(parser)
        silence()
        listen()
        check_command(parser)

    @classmethod
    def open(cls, cfg: Any) -> "EncoderTask":
        """The task on the data that ``cfg`` names."""
        raise NotImplementedError

    @classmethod
    def setup_task(cls, cfg: Any, from_checkpoint: bool = False, **kwargs: Any) -> "EncoderTask":
        if OmegaConf.is_config(cfg) and OmegaConf.is_missing(cfg, "data"):
            raise UserError(f"task.data is missing: name the folder that {cls.data_maker} made")
        if cfg.tokens_per_sample < cls.shortest_example:
            raise UserError(
                f"--tokens-per-sample {cfg.tokens_per_sample}: choose at least "
                f"{cls.shortest_example}"
            )
        # Hydra asks for no arguments.
        silence()
        listen()
        with errors_of_files_told():
            return cls._opened(cfg, from_checkpoint)

    @classmethod
    def _opened(cls, cfg: Any, from_checkpoint: bool) -> "EncoderTask":
        task = cls.open(cfg)
        if not from_checkpoint:
            check_run(cfg)
            check_precision(cfg)
            try:
                task.begin()
            except UserError:
                # An interpreter that stays at its prompt keeps what it has told of.
                if task.lock:
                    task.lock.release()
                raise
        return task

    def begin(self) -> None:
        """See that training can begin, and from where."""
        check_skips(self.cfg)
        # Sent by one worker to the others, as fairseq does otherwise, torch refuses to read it.
        self.cfg._get_root().checkpoint.load_checkpoint_on_all_dp_ranks = True
        is_first = self.cfg._get_root().distributed_training.distributed_rank == 0
        if is_first and self._writes() and Path(self.cfg.save_dir).is_dir():
            self.lock = lock_run(self.cfg.save_dir)
            if self.lock.problem:
                self.tell(self.lock.problem)
            for path in remove_unfinished(self.cfg.save_dir):
                logger.info(f"{path}: was cut off while it was written: removed")
        self.start = check_checkpoints(self.cfg, self.vocabulary)
        if self.start.notice:
            self.tell(self.start.notice)
        if is_first:
            finish_copies(self.cfg, self.start)
        self.reached_positions = self.start.trained_positions
        length, usable = self.cfg.tokens_per_sample, self.start.usable_length
        if usable is not None and length > usable and not self._may_extend:
            self.tell(untrained_positions(self.start.path, length, usable))

    def open_record(self, updates: int, counted_from: int) -> Optional[PretrainingRecord]:
        """What is told how the run goes on from so many updates, by the worker that writes.

        ``counted_from``: those from which on its tokens are counted.
        """
        return None

    def keep_folder(self) -> None:
        """Called before a checkpoint is written: see that the folder is this run's still."""
        if self.lock:
            self.lock.keep()

    def _writes(self) -> bool:
        """Whether a run leaves something in its folder."""
        return self.keeps_record or not self.cfg._get_root().checkpoint.no_save

    def tell(self, line: str) -> None:
        """Warn of something, once a run."""
        if line not in self.told:
            self.told.add(line)
            logger.warning(line)

    @property
    def source_dictionary(self) -> Vocabulary:
        return self.vocabulary

    @property
    def target_dictionary(self) -> Vocabulary:
        return self.vocabulary

    def get_batch_iterator(self, dataset: LengthBatchedDataset, *args: Any, **kwargs: Any) -> Any:
        dataset.check_unchanged()
        return tell(super().get_batch_iterator(dataset, *args, **kwargs))

    def max_positions(self) -> int:
        return self.cfg.tokens_per_sample

    def build_model(self, cfg: ConvBertConfig, from_checkpoint: bool = False) -> ConvBertModel:
        arch = getattr(cfg, "_name", None)
        if not issubclass(ARCH_MODEL_REGISTRY.get(arch, object), ConvBertModel):
            raise UserError(
                f"--arch {arch} does not go with --task {self.cfg._name}: choose one of "
                f"{', '.join(ARCHITECTURES)}"
            )
        try:
            model = super().build_model(cfg, from_checkpoint)
        except (RuntimeError, OverflowError, MemoryError) as error:
            if not OF_SIZES.search(str(error)):
                raise
            reason = OF_SIZES.findall(str(error))[0]
            raise UserError(
                f"--arch {arch}: a model of these sizes cannot be made here ({reason}): choose "
                "smaller ones"
            ) from None
        if model.cfg.compile and not from_checkpoint:
            check_compiler("cuda" if runs_on_gpu(self.cfg) else "cpu")
        if self.cfg.tokens_per_sample > model.max_positions():
            raise UserError(
                f"--tokens-per-sample {self.cfg.tokens_per_sample} is longer than the model's "
                f"{model.max_positions()} positions: lower it, or raise --max-positions"
            )
        model.takes_fresh_parts = not from_checkpoint
        model.trained_as = self.start.shapes
        model.repeats_positions = self._positions_to_repeat(model.max_positions())
        # As released, pads that are visible fill every example to the same length.
        self.pad_to_max_length = model.cfg.pads_visible
        return model

    @property
    def _may_extend(self) -> bool:
        return self.extends_positions and bool(self.start.path) and not self.start.is_own

    def _positions_to_repeat(self, positions: int) -> Optional[int]:
        """How many of the start's make up as many as there are here, None where all fit."""
        usable = min(self.start.usable_length or 0, self.start.positions)
        is_long = self.cfg.tokens_per_sample > usable or positions > self.start.positions
        if not (self._may_extend and is_long and positions >= self.start.positions):
            return None
        self.tell(
            f"{self.start.path}: was trained at {usable} positions: those beyond them, up to "
            f"{positions}, repeat them (tiled)"
        )
        return usable

    def build_criterion(self, cfg: Any, from_checkpoint: bool = False) -> FairseqCriterion:
        check_pair(cfg._name, self.cfg._name, f"--criterion {self.cfg._name}")
        return super().build_criterion(cfg, from_checkpoint)

    def post_validate(self, model: ConvBertModel, stats: dict[str, Any], agg: MetersDict) -> None:
        """Turn scores into Python floats: a checkpoint keeps the best one."""
        for name, value in stats.items():
            if torch.is_tensor(value):
                stats[name] = value.item()

    def valid_step(self, sample: dict, model: ConvBertModel, criterion: FairseqCriterion) -> Any:
        trained, length = self.kept_positions, self.cfg.tokens_per_sample
        table = model.embeddings.positions.weight
        if trained and length > trained and not is_tiled(table, trained):
            self.tell(untrained_positions("CHECKPOINT", length, trained))
        return super().valid_step(sample, model, criterion)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of the task, how far its examples reach among it."""
        examples = self.datasets.get(self.cfg.train_subset)
        reached = 0 if examples is None else int(examples.sizes.max())
        self.reached_positions = max(self.reached_positions, reached)
        return {**super().state_dict(), TRAINED_POSITIONS: self.reached_positions}

    def get_checkpoint_dict(self) -> dict[str, dict]:
        """Called where a checkpoint is written: the vocabulary and tokenizer go with it."""
        self.vocabulary.save(Path(self.cfg.save_dir) / DICTIONARY_FILE)
        return {type(self).__name__: self.state_dict()}

    def set_checkpoint_dict(self, state: dict) -> None:
        """Called where a run goes on, when all that it goes on from is loaded."""
        self.load_state_dict(state)
        if self.start.reached_limit:
            self._train_no_more()

    def _train_no_more(self) -> None:
        """End a finished run, which fairseq would train for an update before it looks."""
        longer = " or a longer --budget-minutes" * bool(
            budget_of(self.cfg._get_root().lr_scheduler)
        )
        self.tell(
            f"{self.start.path}: finished, with {self.start.reached_limit}: nothing is trained (a "
            f"higher --max-update or --max-epoch{longer} goes on)"
        )
        self.cfg._get_root().optimization.max_epoch = -1

    def load_state_dict(self, state: Mapping) -> None:
        check_same_vocabulary(
            self.vocabulary,
            state,
            f"{self.cfg.data}: this data was made with another vocabulary than the checkpoint: "
            f"make it with the tokenizer and {DICTIONARY_FILE} beside the checkpoint "
            f"({self.data_maker})",
        )
        kept = state.get(TRAINED_POSITIONS)
        # Of where a run begins, it has been told.
        if type(kept) is int and not self.start.path:
            self.kept_positions = kept
