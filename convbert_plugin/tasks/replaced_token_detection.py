"""Pretraining on documents: replaced-token detection, or masked-language modelling."""

import logging
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Hashable, NamedTuple, Optional, cast

import numpy as np
from fairseq.criterions import FairseqCriterion
from fairseq.dataclass import ChoiceEnum
from fairseq.logging.meters import MetersDict
from fairseq.optim import FairseqOptimizer
from fairseq.tasks import register_task
from omegaconf import MISSING
from torch import nn

from convbert_plugin.criterions.graphed_loss import GraphedLoss
from convbert_plugin.criterions.pretraining_loss import MASKED_LM, logged_scores
from convbert_plugin.criterions.summed_logs import EXACT
from convbert_plugin.data.binarized import document_count, glance_at_lines, open_lines
from convbert_plugin.data.pretraining.masking import MASKING_RECIPES, masked_count
from convbert_plugin.data.pretraining.pretraining_dataset import (
    PretrainingDataset,
    PretrainingOptions,
)
from convbert_plugin.data.vocabulary import Vocabulary, check_same_vocabulary, open_vocabulary
from convbert_plugin.errors import UserError, errors_of_files_told
from convbert_plugin.files.pretraining_records import (
    COUNTED_FROM,
    OBJECTIVE,
    PretrainingRecord,
    text_of,
)
from convbert_plugin.files.records import BUDGET, DATA, TASK
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.models.architectures import released_generator_size
from convbert_plugin.models.config import ConvBertConfig
from convbert_plugin.models.convbert import ConvBertModel
from convbert_plugin.models.parts import MASKED_LM_HEAD
from convbert_plugin.optim.convbert_linear import budget_of
from convbert_plugin.tasks.recorded_task import RecordedTask
from convbert_plugin.tasks.run_settings import text_fingerprints
from convbert_plugin.tokenization.tokenizer import DICTIONARY_FILE
from convbert_plugin.training.checkpoint_writing import going_on
from convbert_plugin.training.fairseq_options import check_one_gpu
from convbert_plugin.training.run_config import RunConfig

logger = logging.getLogger(__name__)

DATA_MAKER = "fairseq-preprocess"
# A share of the tokens.
MUCH_LOST = 0.1


@dataclass
class ReplacedTokenDetectionTaskConfig(RunConfig):
    data: str = field(
        default=MISSING,
        metadata={"help": "binarized data; shards separated by ':' are taken epoch by epoch"},
    )
    objective: ChoiceEnum(list(MASKING_RECIPES)) = field(
        default="replaced_token_detection", metadata={"help": "what is learned"}
    )
    tokens_per_sample: int = field(
        default=128, metadata={"help": "longest example, [CLS] and [SEP] counted"}
    )
    mask_prob: float = field(default=0.15, metadata={"help": "share of tokens to guess"})
    mask_with_replacement: bool = field(
        default=False, metadata={"help": "draw masked positions with replacement, as released"}
    )
    generator_size: Optional[float] = field(
        default=None,
        metadata={"help": "width of the generator / width of the discriminator (as released)"},
    )
    full_blocks: bool = field(
        default=False,
        metadata={"help": "cut documents into full blocks of one segment, losing no token"},
    )
    cuda_graphs: bool = field(
        default=False,
        metadata={"help": "launch model and loss as CUDA graphs: for small models, on one GPU"},
    )


class _InTraining(NamedTuple):
    """A model that fairseq's trainer has just put into training mode, and that counts no updates.

    To tell it so again walks through all its modules, which takes as long as hundreds of launches.
    """

    model: ConvBertModel

    def train(self) -> None:
        """It does."""

    def set_num_updates(self, num_updates: int) -> None:
        """It needs no number."""


@register_task("replaced_token_detection", dataclass=ReplacedTokenDetectionTaskConfig)
class ReplacedTokenDetectionTask(RecordedTask):
    """Builds masked batches from documents, and the networks that learn from them."""

    data_maker = DATA_MAKER
    shortest_example = 8
    record_kind = PretrainingRecord

    def __init__(self, cfg: RunConfig, vocabulary: Vocabulary):
        super().__init__(cfg, vocabulary)
        self.graphed_loss = GraphedLoss()
        self.contents: dict[Path, Hashable] = {}
        self.record: Optional[PretrainingRecord] = None
        # Of each shard, as far as it is read, what the record says of it.
        self.text: list[Optional[list[int]]] = [None for _ in _shards(cfg.data)]

    @classmethod
    def open(cls, cfg: ReplacedTokenDetectionTaskConfig) -> "ReplacedTokenDetectionTask":
        if not 0 < cfg.mask_prob < 1:
            raise UserError(f"--mask-prob {cfg.mask_prob}: choose a share between 0 and 1")
        if "" in str(cfg.data).split(os.pathsep):
            raise UserError(
                f"{cfg.data}: a shard without a name: name folders made by {DATA_MAKER}, with one "
                f"{os.pathsep!r} between two"
            )
        first, *others = _shards(cfg.data)
        vocabulary = open_vocabulary(first, DATA_MAKER)
        for folder in others:
            check_same_vocabulary(
                vocabulary,
                open_vocabulary(folder, DATA_MAKER).description(),
                f"{folder / DICTIONARY_FILE}: another vocabulary than {first}'s; binarize all "
                "shards with the same --srcdict",
            )
        return cls(cfg, vocabulary)

    @classmethod
    def load_dictionary(cls, filename: PathLike) -> Vocabulary:
        return Vocabulary.load(str(filename))

    def begin(self) -> None:
        self._check_best()
        super().begin()
        if self.cfg.cuda_graphs:
            check_one_gpu(self.cfg)
        for folder in _shards(self.cfg.data)[1:]:
            glance_at_lines(folder / self.cfg.train_subset, self.vocabulary, combine=True)
        # What was begun before this was asked for goes on.
        if not (self.vocabulary.tokenizer_files or self.start.is_own):
            raise UserError(
                f"{self.cfg.data}: no tokenizer beside its {DICTIONARY_FILE}, so that the model "
                f"could read no text: binarize with --user-dir, --task {self.cfg._name} and the "
                "--srcdict that convbert encode wrote beside the pieces"
            )

    def _check_best(self) -> None:
        """Raise UserError where the best checkpoint is to be that of a score that is not there."""
        run = self.cfg._get_root()
        metric, known = run.checkpoint.best_checkpoint_metric, logged_scores(self.cfg.objective)
        if metric not in known and not run.dataset.disable_validation:
            raise UserError(
                f"--best-checkpoint-metric {metric}: with --objective {self.cfg.objective} there "
                f"are {', '.join(known)}"
            )

    @property
    def masked_tokens_per_token(self) -> float:
        """Masked tokens per token of a full example."""
        length = self.cfg.tokens_per_sample
        return masked_count(length, self.cfg.mask_prob, length) / length

    def build_model(self, cfg: ConvBertConfig, from_checkpoint: bool = False) -> ConvBertModel:
        model = super().build_model(cfg, from_checkpoint)
        if self.cfg.cuda_graphs and model.cfg.checkpoint_activations and not from_checkpoint:
            raise UserError(
                "--cuda-graphs does not go with --checkpoint-activations, whose random numbers a "
                "graph cannot draw again: leave one of them out"
            )
        if str(self.cfg.objective) == MASKED_LM:
            model.add_part(MASKED_LM_HEAD)
        else:
            model.add_generator(self.cfg.generator_size)
        return model

    def train_step(
        self,
        sample: dict,
        model: nn.Module,
        criterion: FairseqCriterion,
        optimizer: FairseqOptimizer,
        update_num: int,
        ignore_grad: bool = False,
    ) -> tuple:
        if not self.cfg.cuda_graphs:
            return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

        def loss(model: _InTraining, sample: dict) -> tuple:
            return self.graphed_loss(criterion, model.model, sample)

        return super().train_step(
            sample,
            _InTraining(cast(ConvBertModel, model)),
            loss,
            optimizer,
            update_num,
            ignore_grad,
        )

    def load_dataset(
        self, split: str, epoch: int = 1, combine: bool = False, **kwargs: Any
    ) -> None:
        shards = _shards(self.cfg.data)
        folder = shards[(epoch - 1) % len(shards)]
        path = folder / split
        lines = open_lines(path, self.vocabulary, combine)
        if self.contents.setdefault(path, lines.content) != lines.content:
            raise UserError(
                f"{path}.bin: holds other text than when this run read it before: put that back, "
                "or start the run again to go on with this"
            )
        sizes = np.asarray(lines.sizes)
        cfg = self.cfg
        dataset = PretrainingDataset(
            lines,
            sizes,
            self.vocabulary,
            PretrainingOptions(
                max_length=cfg.tokens_per_sample,
                mask_prob=cfg.mask_prob,
                objective=str(cfg.objective),
                mask_with_replacement=cfg.mask_with_replacement,
                full_blocks=cfg.full_blocks,
                pad_to_max_length=self.pad_to_max_length,
                seed=cfg.seed,
            ),
        )
        total = int(sizes.sum() - len(sizes))
        self._tell_text(path, dataset, document_count(sizes), total)
        self.datasets[split] = dataset
        if split == cfg.train_subset:
            self.text[(epoch - 1) % len(shards)] = [total, dataset.text_tokens, len(dataset)]
            if self.record:
                self.record.count_text(self.text)

    def _tell_text(
        self, path: Path, dataset: PretrainingDataset, documents: int, total: int
    ) -> None:
        """Log how much of the text is in examples; ``total``: its tokens."""
        lost = 1 - dataset.text_tokens / total
        logger.info(
            f"{path}: {len(dataset):,} examples from {documents:,} documents of "
            f"{total:,} tokens; {1 - lost:.0%} of the tokens fit into the examples"
        )
        if lost > MUCH_LOST:
            logger.warning(
                f"{path}: {lost:.0%} OF THE TEXT NEVER REACHES THE MODEL: of a line, what exceeds "
                f"--tokens-per-sample {self.cfg.tokens_per_sample} is dropped: add --full-blocks, "
                "which cuts documents instead, or put one sentence a line"
            )

    def open_record(self, updates: int, counted_from: int) -> Optional[PretrainingRecord]:
        run = self.cfg._get_root()
        if run.checkpoint.no_save:
            return None
        train = self.cfg.train_subset
        splits = [] if run.dataset.disable_validation else self.valid_subsets
        with errors_of_files_told():
            held = text_fingerprints(_shards(self.cfg.data), [train, *splits], train)
        making = self.what_makes_it(
            {field.name for field in fields(RunConfig)} | {"data", OBJECTIVE, "generator_size"}
        )
        making["model"]["generator_size"] = self._generator_size()
        description = {
            TASK: self.cfg._name,
            OBJECTIVE: str(self.cfg.objective),
            **making,
            DATA: {
                "vocabulary": self.vocabulary.fingerprint(),
                "vocabulary_size": len(self.vocabulary),
                **held,
                **text_of(self.text),
            },
            **self.where_it_runs(),
            COUNTED_FROM: counted_from,
            BUDGET: budget_of(run.lr_scheduler),
        }
        self.record = PretrainingRecord(self.cfg.save_dir, description, self.start.is_own, updates)
        return self.record

    def _generator_size(self) -> Optional[float]:
        if str(self.cfg.objective) == MASKED_LM:
            return None
        size = self.cfg.generator_size
        return released_generator_size(self.model_options["arch"]) if size is None else size

    def post_validate(self, model: ConvBertModel, stats: dict[str, Any], agg: MetersDict) -> None:
        super().post_validate(model, stats, agg)
        if self.record:
            subset = self.to_validate.pop(0)
            names = logged_scores(self.cfg.objective)
            scores = {name: float(agg.get_smoothed_value(EXACT + name)) for name in names}
            with going_on(self.tell):
                self.record.add_validation(subset, scores)


def _shards(data: str) -> list[Path]:
    return [Path(shard) for shard in str(data).split(os.pathsep)]
