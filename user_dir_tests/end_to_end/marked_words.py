"""A made-up fine-tuning task: find the last (or first) noun of a line, by scores of its tokens.

It has another head and another score than GLUE.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass
from fairseq.tasks import register_task
from omegaconf import MISSING

from convbert_plugin.criterions.summed_logs import log_ratio, log_sums
from convbert_plugin.data.binarized import open_lines
from convbert_plugin.data.collation import collate
from convbert_plugin.data.length_batches import LengthBatchedDataset
from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.models.parts import QUESTION_ANSWERING_HEAD
from convbert_plugin.tasks.fine_tuning import FineTuningConfig, FineTuningTask, Score
from user_dir_tests.end_to_end.conftest import NOUNS


class MarkedWords(LengthBatchedDataset):
    """Lines as they are, and the place of one of their nouns."""

    def __init__(self, lines, vocabulary, place):
        super().__init__()
        nouns = {vocabulary.index(noun) for noun in NOUNS}
        texts = (lines[row].long() for row in range(len(lines)))
        self.texts = [text for text in texts if nouns & set(text.tolist())]
        self.places = [
            [at for at, token in enumerate(text.tolist()) if token in nouns][place]
            for text in self.texts
        ]
        self.sizes = np.array([len(text) for text in self.texts])
        self.pad = vocabulary.pad()

    def lines_read(self):
        # All of them at the opening.
        return ()

    def __len__(self):
        return len(self.texts)

    def __getitem__(self, index):
        tokens = self.texts[index]
        return {"id": index, "tokens": tokens, "segments": torch.zeros_like(tokens)}

    def collater(self, examples):
        batch = collate(examples, self.pad, QUESTION_ANSWERING_HEAD)
        return {**batch, "target": torch.tensor([self.places[row] for row in batch["id"]])}


@dataclass
class MarkedWordsConfig(FineTuningConfig):
    data: str = field(default=MISSING)
    tokens_per_sample: int = field(default=30)
    noun: str = field(default="last")


@register_task("marked_words", dataclass=MarkedWordsConfig)
class MarkedWordsTask(FineTuningTask):
    data_maker = "fairseq-preprocess"
    shortest_example = 1

    @classmethod
    def open(cls, cfg):
        scores = {"found": Score(lambda found, lines: found / lines, ("found", "nsentences"))}
        vocabulary = Vocabulary.load(f"{cfg.data}/dict.txt")
        return cls(cfg, vocabulary, f"{cfg.noun} noun", QUESTION_ANSWERING_HEAD, scores)

    def load_dataset(self, split, **kwargs):
        lines = open_lines(f"{self.cfg.data}/{split}", self.vocabulary)
        place = {"first": 0, "last": -1}[self.cfg.noun]
        self.datasets[split] = MarkedWords(lines, self.vocabulary, place)


def share_found(model, marked) -> float:
    """The share of lines, each by itself, in which the model finds the word."""
    with torch.no_grad():
        found = [
            int(model.head_logits(QUESTION_ANSWERING_HEAD, text[None])[0, :, 0].argmax()) == place
            for text, place in zip(marked.texts, marked.places, strict=True)
        ]
    return sum(found) / len(found)


def mean_loss(model, marked) -> float:
    """The cross-entropy of the word's place in a line, each by itself, in nats."""
    with torch.no_grad():
        losses = [
            -model.head_logits(QUESTION_ANSWERING_HEAD, text[None])[0, :, 0].log_softmax(0)[place]
            for text, place in zip(marked.texts, marked.places, strict=True)
        ]
    return float(torch.stack(losses).double().mean())


@register_criterion("marked_words", dataclass=FairseqDataclass)
class MarkedWordsCriterion(FairseqCriterion):
    def forward(self, model, sample, reduce=True):
        tokens, target = sample["net_input"]["src_tokens"], sample["target"]
        scores = model(**sample["net_input"])[..., 0]
        scores = scores.masked_fill(tokens == model.vocabulary.pad(), -torch.inf)
        loss = F.cross_entropy(scores, target, reduction="sum")
        found = (scores.argmax(-1) == target).sum().double()
        count = sample["nsentences"]
        logs = {"nsentences": count, "ntokens": sample["ntokens"], "sample_size": count}
        return loss, count, {"loss": loss.detach(), "found": found, **logs}

    @classmethod
    def reduce_metrics(cls, logging_outputs):
        log_sums(logging_outputs)
        log_ratio("loss", "loss", "nsentences", priority=0)

    @staticmethod
    def logging_outputs_can_be_summed():
        return True
