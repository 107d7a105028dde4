"""What tasks share whose runs leave a record of all that makes them."""

import os
from pathlib import Path
from typing import Any, Collection, Mapping, Optional

from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.files.fingerprints import fingerprint_of
from convbert_plugin.files.host import commit_of
from convbert_plugin.files.records import ENVIRONMENT, SETTINGS, START, RunRecord, is_start
from convbert_plugin.models.config import ConvBertConfig
from convbert_plugin.models.convbert import ConvBertModel
from convbert_plugin.tasks.encoder_task import EncoderTask
from convbert_plugin.tasks.run_settings import CHECKOUT, environment_of, options_of, settings_of
from convbert_plugin.training.run_config import RunConfig

# In what a checkpoint keeps: from where its run began.
BEGUN = "begun"
# Options of a model with which one checkpoint can be trained on in several ways.
OF_TRAINING = ("dropout", "attention_dropout", "autocast_dtype")


class RecordedTask(EncoderTask):
    """A task whose runs write a record of the kind ``record_kind`` into their folder."""

    record_kind: type[RunRecord]

    def __init__(self, cfg: RunConfig, vocabulary: Vocabulary):
        super().__init__(cfg, vocabulary)
        self.to_validate: list[str] = []
        self.model_options: Mapping[str, Any] = {}

    def begin(self) -> None:
        super().begin()
        if self.is_first_worker:
            # Now, for what is run may have changed by the first score.
            commit_of(CHECKOUT)
        if self.start.is_own:
            begun = self.start.state.get(BEGUN)
            if os.path.lexists(record := Path(self.cfg.save_dir) / self.record_kind.file_name):
                begun = self.record_kind.read(record)[START]
            # A run that was left before its first score has no record.
            if is_start(begun):
                self.start = self.start._replace(description=begun)
        elif self.start.path:
            # Now, for it may be trained on while this run lasts.
            weights = {"weights": fingerprint_of([self.start.path])}
            self.start = self.start._replace(description={**self.start.description, **weights})

    @property
    def is_first_worker(self) -> bool:
        """Whether this is the one of the workers that writes."""
        return self.cfg._get_root().distributed_training.distributed_rank == 0

    def build_model(self, cfg: ConvBertConfig, from_checkpoint: bool = False) -> ConvBertModel:
        model = super().build_model(cfg, from_checkpoint)
        self.model_options = {"arch": getattr(cfg, "_name", None), **options_of(model)}
        return model

    def what_makes_it(self, besides: Collection[str]) -> dict[str, Any]:
        """Seed, model, start and settings of the run; ``besides``: options that stand elsewhere."""
        model = dict(self.model_options)
        of_training = {name: model.pop(name) for name in OF_TRAINING}
        return {
            "seed": self.cfg.seed,
            "model": {**model, "layers": model["encoder_layers"]},
            START: self.start.description,
            SETTINGS: {**settings_of(self.cfg, besides), **of_training},
        }

    def where_it_runs(self) -> dict[str, Any]:
        """What no two runs that are alike need to share."""
        return {ENVIRONMENT: environment_of(self.cfg)}

    @property
    def valid_subsets(self) -> list[str]:
        return self.cfg._get_root().dataset.valid_subset.split(",")

    def begin_valid_epoch(self, epoch: int, model: ConvBertModel) -> None:
        # fairseq does not say which one it has validated, but goes through them in this order.
        self.to_validate = self.valid_subsets

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, what the run began from among it."""
        return {**super().state_dict(), BEGUN: dict(self.start.description)}

    def get_checkpoint_dict(self) -> dict[str, dict]:
        record: Optional[RunRecord] = vars(self).get("record")
        if record and not record.is_written:
            record.write()
        return super().get_checkpoint_dict()
