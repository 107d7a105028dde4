"""Fine-tuning on SQuAD: questions, and the spans of their contexts that answer them."""

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, Optional

from fairseq.dataclass import ChoiceEnum
from fairseq.logging.meters import MetersDict
from fairseq.tasks import register_task
from omegaconf import MISSING, DictConfig
from torch import Tensor

from convbert_plugin.criterions.fine_tuning_loss import full_batch
from convbert_plugin.criterions.squad_loss import WINDOW_TABLE
from convbert_plugin.data.squad.squad_dataset import SquadDataset, SquadOptions
from convbert_plugin.data.squad.squad_description import DATA_MAKER, PreparedSquad, read_description
from convbert_plugin.data.squad.squad_files import load_vocabulary, open_questions
from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.errors import UserError, counted
from convbert_plugin.files.json_files import write_json
from convbert_plugin.files.records import ANSWERS_FILE, TASK
from convbert_plugin.formats.reading import Reading, reading_kept, to_keep
from convbert_plugin.metrics.squad_scores import BEST_THRESHOLDS, SCORES, SCORES_WITH_IMPOSSIBLE
from convbert_plugin.models.convbert import ConvBertModel
from convbert_plugin.models.parts import QUESTION_ANSWERING_HEAD
from convbert_plugin.modules.span_heads import NULL_THRESHOLDS, QUESTION_ANSWERING_HEADS
from convbert_plugin.tasks.answered_questions import AnsweredQuestions, answered_questions
from convbert_plugin.tasks.fine_tuning import FineTuningConfig, FineTuningTask, Score
from convbert_plugin.training.checkpoint_writing import going_on

logger = logging.getLogger(__name__)

# Options that count something.
SIZES = ("doc_stride", "max_query_length", "max_answer_length", "n_best_size")


@dataclass
class SquadTaskConfig(FineTuningConfig):
    data: str = field(default=MISSING, metadata={"help": "a folder made by convbert prepare-squad"})
    tokens_per_sample: int = field(
        default=Reading().length,
        metadata={"help": "longest window: question and part of the context, specials counted"},
    )
    doc_stride: int = field(
        default=Reading().doc_stride,
        metadata={
            "help": "tokens from where a window of the context begins to where the next does"
        },
    )
    max_query_length: int = field(
        default=Reading().max_query_length,
        metadata={"help": "how many tokens of a question are read, from its beginning"},
    )
    max_answer_length: int = field(
        default=Reading().max_answer_length, metadata={"help": "longest answer to give, in tokens"}
    )
    n_best_size: int = field(
        default=Reading().n_best_size,
        metadata={"help": "how many answers to a question are told with probabilities"},
    )
    null_threshold: Optional[float] = field(
        default=None,
        metadata={
            "help": "a question with null odds above it is left unanswered, where the training set "
            "had unanswerable ones (default: -2.75 of the released head, 0 of the other one)"
        },
    )
    question_answering_head: ChoiceEnum(list(QUESTION_ANSWERING_HEADS)) = field(
        default="released",
        metadata={
            "help": "ends that follow from the start and a judgement whether there is an answer, "
            "or the two scores a token of transformers"
        },
    )


@register_task("squad", dataclass=SquadTaskConfig)
class SquadFineTuningTask(FineTuningTask):
    """Builds batches of windows, an encoder with a question-answering head, and the scores."""

    data_maker = DATA_MAKER
    # [CLS], a token of the question and one of its context, and two separators.
    shortest_example = 5
    # The released setting is windows of 512 tokens, and pretraining is on examples of 128.
    extends_positions = True

    def __init__(self, cfg: SquadTaskConfig, prepared: PreparedSquad, vocabulary: Vocabulary):
        trained_on = prepared.splits.get(cfg.train_subset)
        self.reading = Reading(
            length=cfg.tokens_per_sample,
            **{name: getattr(cfg, name) for name in SIZES},
            has_impossible=None if trained_on is None else trained_on.has_impossible,
            null_threshold=cfg.null_threshold,
        )
        scored = [split for name, split in prepared.splits.items() if name != cfg.train_subset]
        has_impossible = any(split.has_impossible for split in scored)
        names = SCORES_WITH_IMPOSSIBLE if has_impossible else SCORES
        super().__init__(
            cfg,
            vocabulary,
            cfg._name,
            QUESTION_ANSWERING_HEAD,
            scores={name: self._score(name) for name in names},
            beside={
                name: self._score(name) for name in (BEST_THRESHOLDS if has_impossible else ())
            },
        )
        self.prepared = prepared
        self.last_loaded = ""
        self._answered: Optional[tuple[Tensor, AnsweredQuestions, dict[str, float]]] = None
        self.state.merge_state_dict(to_keep(self.reading))

    @classmethod
    def open(cls, cfg: SquadTaskConfig) -> "SquadFineTuningTask":
        for name in SIZES:
            if (value := getattr(cfg, name)) < 1:
                raise UserError(f"--{name.replace('_', '-')} {value}: choose at least 1")
        if cfg.null_threshold is not None and math.isnan(cfg.null_threshold):
            raise UserError("--null-threshold nan: give a number, or inf to answer every question")
        return cls(cfg, read_description(cfg.data), load_vocabulary(cfg.data))

    def begin(self) -> None:
        super().begin()
        run = self.cfg._get_root()
        if run.optimization.max_epoch and not run.optimization.max_update:
            self._end_after(run, run.optimization.max_epoch)

    def _end_after(self, run: DictConfig, epochs: int) -> None:
        """Say to how many updates so many epochs come, which the schedule has to know."""
        if run.dataset.batch_size is None:
            return
        self.load_dataset(self.cfg.train_subset)
        windows = len(self.datasets[self.cfg.train_subset])
        batch = full_batch(
            run.dataset.batch_size,
            run.optimization.update_freq,
            run.distributed_training.distributed_world_size,
        )
        run.optimization.max_update = epochs * -(-windows // batch)
        if "max_update" in run.lr_scheduler:
            run.lr_scheduler.max_update = run.optimization.max_update
        logger.info(
            f"{counted(epochs, 'epoch')} of {counted(windows, 'window')} in batches of "
            f"{batch}: {counted(run.optimization.max_update, 'update')}"
        )

    def threshold_on(self, split: str) -> float:
        """Null odds above it leave a question of a split unanswered."""
        of_head = NULL_THRESHOLDS[str(self.cfg.question_answering_head)]
        return self.reading.threshold(of_head, self.prepared.splits[split].has_impossible)

    @property
    def subset(self) -> str:
        """The one that is validated now."""
        # fairseq-validate loads each of them before it goes through it.
        return self.to_validate[0] if self.to_validate else self.last_loaded

    def add_head(self, model: ConvBertModel) -> None:
        model.add_part(self.head, kind=str(self.cfg.question_answering_head))

    def description(self) -> dict:
        return {
            # They have other scores, and reports keep them apart.
            TASK: self.cfg._name + ("2.0" if self.beside else "1.1"),
            "question_answering_head": str(self.cfg.question_answering_head),
        }

    def load_state_dict(self, state: Mapping) -> None:
        super().load_state_dict(state)
        kept = reading_kept(state, self.start.path or "the checkpoint")
        if kept is not None:
            # Of the training before, or of the one that goes on.
            goes_on = bool(self.start.path and self.reading.has_impossible)
            has_impossible = goes_on or kept.has_impossible
            self.reading = self.reading._replace(has_impossible=has_impossible)
            self.state.merge_state_dict(to_keep(self.reading))

    def load_dataset(
        self, split: str, epoch: int = 1, combine: bool = False, **kwargs: Any
    ) -> None:
        questions = open_questions(self.cfg.data, self.prepared, split, self.vocabulary)
        described = self.prepared.splits[split]
        if not described.has_gold:
            raise UserError(
                f"{self.cfg.data}: {split} has no answers: give it to convbert predict-squad"
            )
        if described.has_impossible and self.reading.has_impossible is False:
            raise UserError(
                f"{self.cfg.data}: {split} has questions without an answer (as SQuAD 2.0), which a "
                "model that was trained on answerable ones alone cannot tell: train on such "
                "questions too, or take a set of answerable ones (as SQuAD 1.1)"
            )
        options = SquadOptions(
            reading=self.reading,
            pad_to_max_length=self.pad_to_max_length,
            output=self.head,
            has_gold=True,
        )
        dataset = SquadDataset(questions, self.vocabulary, options)
        if split != self.cfg.train_subset:
            # Damaged texts are told now, and not when all of it has been answered.
            _ = dataset.texts
        logger.info(
            f"{self.cfg.data}: {split}: {counted(described.questions, 'question')} in "
            f"{counted(len(dataset), 'window')}, {int(dataset.holds_answer.sum()):,} of them with "
            "the answer"
        )
        self.datasets[split] = dataset
        self.last_loaded = split

    def post_validate(self, model: ConvBertModel, stats: dict[str, Any], agg: MetersDict) -> None:
        subset = self.subset
        super().post_validate(model, stats, agg)
        if self.cfg.distributed_rank == 0 and self._answered is not None:
            path = Path(self.cfg.save_dir) / ANSWERS_FILE.format(subset=subset)
            with going_on(self.tell):
                write_json(path, self._answered[1].for_report())

    def _score(self, name: str) -> Score:
        def score(table: Tensor) -> float:
            # 1.1 beside 2.0: of what a set has none, the score is 0.
            return self._scores(table).get(name, 0.0)

        return Score(score, (WINDOW_TABLE,))

    def _scores(self, table: Tensor) -> dict[str, float]:
        """All scores of a table of windows; each asks for them."""
        if self._answered is None or self._answered[0] is not table:
            dataset = self.datasets[self.subset]
            held = dataset.questions, dataset.texts, dataset.windows
            threshold = self.threshold_on(self.subset)
            answered = answered_questions(table.cpu().numpy(), *held, threshold)
            self._answered = table, answered, answered.scores()
        return self._answered[2]
