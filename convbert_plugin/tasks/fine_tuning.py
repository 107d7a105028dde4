"""What fine-tuning tasks share: a start, a head, official scores, and a record of them."""

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from fairseq.criterions import FairseqCriterion
from fairseq.logging.meters import MetersDict
from omegaconf import II

from convbert_plugin.criterions.summed_logs import EXACT, log_exact_score
from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.errors import UserError
from convbert_plugin.files.records import DATA, EARLIER_TASK, TASK, RunRecord
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.formats.answers import UNKNOWN, Answers, answers_kept, to_keep, told_apart
from convbert_plugin.models.convbert import ConvBertModel
from convbert_plugin.tasks.recorded_task import RecordedTask
from convbert_plugin.tasks.run_settings import data_fingerprints
from convbert_plugin.training.checkpoint_writing import going_on
from convbert_plugin.training.run_config import RunConfig

LOSS = "loss"
NOTHING: Mapping = {}


@dataclass
class FineTuningConfig(RunConfig):
    """Options of fairseq that fine-tuning follows beside those of every task."""

    distributed_rank: int = II("distributed_training.distributed_rank")
    train_subset: str = II("dataset.train_subset")
    valid_subset: str = II("dataset.valid_subset")
    best_checkpoint_metric: str = II("checkpoint.best_checkpoint_metric")
    maximize_best_checkpoint_metric: bool = II("checkpoint.maximize_best_checkpoint_metric")


class Score(NamedTuple):
    """An official score: what a function makes of sums that the criterion logs by these names."""

    function: Callable
    sums: tuple[str, ...]


class FineTuningTask(RecordedTask):
    """A task of some name whose model is an encoder with one head, and is scored on whole sets.

    ``head``: the scope of the part of the model that answers, which batches name as their output.
    ``scores``: the official ones by name, of which more is better; ``beside``: what is to be known
    beside them. ``answers``: what the data asks for, if that is classes or scores; where a
    checkpoint with that head keeps others, the data is brought to those.
    """

    keeps_record = True
    record_kind = RunRecord

    def __init__(
        self,
        cfg: FineTuningConfig,
        vocabulary: Vocabulary,
        name: str,
        head: str,
        scores: Mapping[str, Score],
        answers: Answers = UNKNOWN,
        beside: Mapping[str, Score] = NOTHING,
    ):
        super().__init__(cfg, vocabulary)
        self.name = name
        self.head = head
        self.scores = scores
        self.beside = beside
        self.data_fingerprints: Mapping[str, str] = {}
        self.answers = answers._replace(length=cfg.tokens_per_sample)
        self.state.merge_state_dict({TASK: name, **to_keep({head: self.answers})})

    def add_head(self, model: ConvBertModel) -> None:
        """Add to the model the part that answers."""
        model.add_part(self.head)

    def description(self) -> dict:
        """What the record says of the run beside what it says of all, in plain values."""
        return {}

    def bring_data_to(self, answers: Answers) -> None:
        """Read the data as asking for these, which differ in the order of classes, or in range."""
        raise NotImplementedError

    def begin(self) -> None:
        self.check_best()
        super().begin()
        if self.is_first_worker:
            # Now, for the data may have changed or gone by the first score.
            splits = dict.fromkeys([self.cfg.train_subset, *self.valid_subsets])
            self.data_fingerprints = data_fingerprints(Path(self.cfg.data), splits)
        if self.start.is_own:
            # Now, and not when another head's optimizer state fails to fit.
            self.load_state_dict(self.start.state)
        elif self.head in self.start.parts:
            self.answer_as(self.start.kept, self.start.path)

    def check_best(self) -> None:
        """Raise UserError unless the best checkpoint is that of the best score, or lowest loss."""
        metric, maximize = self.cfg.best_checkpoint_metric, self.cfg.maximize_best_checkpoint_metric
        known = (LOSS, *self.scores)
        if metric not in known:
            raise UserError(
                f"--best-checkpoint-metric {metric}: {self.name} has {', '.join(known)}"
            )
        if maximize == (metric == LOSS):
            raise UserError(
                f"--best-checkpoint-metric {metric} goes "
                + ("with" if metric != LOSS else "without")
                + " --maximize-best-checkpoint-metric"
            )

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> ConvBertModel:
        model = super().build_model(cfg, from_checkpoint)
        self.add_head(model)
        return model

    def load_state_dict(self, state: Mapping) -> None:
        super().load_state_dict(state)
        name = state.get(TASK, state.get(EARLIER_TASK, self.name))
        if name != self.name:
            raise UserError(
                f"{self.cfg.data}: holds {self.name}, the checkpoint is of a run on {name}: "
                "choose another --save-dir, or begin from it with --finetune-from-model"
            )
        self.answer_as(state, self.start.path or "the checkpoint")

    def answer_as(self, state: Mapping, source: PathLike) -> None:
        """Answer as the head of a checkpoint did, of which this is the task's state."""
        kept = answers_kept(state, source).get(self.head, UNKNOWN)
        if line := told_apart(kept, self.answers, source, self.cfg.data, is_scored=True):
            self.tell(line)
        if kept.length not in (None, self.answers.length):
            self.tell(
                f"--tokens-per-sample {self.answers.length}: the examples that the head of "
                f"{source} was trained on were cut to {kept.length} tokens"
            )
        if kept.are_known:
            self.answers = kept._replace(length=self.answers.length)
            self.bring_data_to(self.answers)
            self.state.merge_state_dict(to_keep({self.head: self.answers}))

    def reduce_metrics(
        self, logging_outputs: Sequence[Mapping[str, Any]], criterion: FairseqCriterion
    ) -> None:
        """Log the loss, and the official scores of the whole set so far."""
        super().reduce_metrics(logging_outputs, criterion)
        logged = logging_outputs[0].keys() if logging_outputs else set()
        shown = {**self.scores, **self.beside}
        for priority, (name, score) in enumerate(shown.items(), start=1):
            if logged >= set(score.sums):
                log_exact_score(name, score.function, score.sums, priority)

    def post_validate(self, model: ConvBertModel, stats: dict[str, Any], agg: MetersDict) -> None:
        """Write the scores down."""
        subset = self.to_validate.pop(0)
        stats[LOSS] = agg.get_smoothed_value(EXACT + LOSS)
        # fairseq calls the best f1 of the run so far best_f1, which is a score of SQuAD.
        stats.update({name: agg.get_smoothed_value(name) for name in self.scores})
        super().post_validate(model, stats, agg)
        if self.is_first_worker:
            scores = {name: stats[name] for name in (LOSS, *self.scores, *self.beside)}
            with going_on(self.tell):
                self.record.add(subset, stats["num_updates"], scores)

    @cached_property
    def record(self) -> RunRecord:
        """The scores of the run, in its folder, and all that makes it."""
        own = self.description()
        # Of the options that every task follows, what counts is told of the groups they are of.
        besides = {field.name for field in fields(FineTuningConfig)} | {"data", EARLIER_TASK, *own}
        splits = dict.fromkeys([self.cfg.train_subset, *self.valid_subsets])
        description = {
            TASK: self.name,
            "metrics": list(self.scores),
            **self.what_makes_it(besides),
            DATA: {
                "vocabulary": self.vocabulary.fingerprint(),
                **{split: self.data_fingerprints[split] for split in splits},
            },
            **self.where_it_runs(),
            **own,
        }
        return RunRecord(self.cfg.save_dir, description, self.start.is_own)
