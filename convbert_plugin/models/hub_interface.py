"""A trained model with its tokenizer, for use from Python."""

import logging
from numbers import Integral
from pathlib import Path
from typing import List, Mapping, NamedTuple, Optional, Union

import numpy as np
import torch
from fairseq.models import BaseFairseqModel
from torch import Tensor, nn
from torch.nn import functional

from convbert_plugin.data.pairs import frame, join
from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.errors import UserError, shown
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.formats.answers import UNKNOWN, Answers
from convbert_plugin.formats.fairseq_checkpoint import FairseqCheckpoint, read_checkpoint
from convbert_plugin.formats.finding import find_checkpoint
from convbert_plugin.formats.reading import Reading
from convbert_plugin.models.hub_inputs import check_ids, check_text
from convbert_plugin.models.loading import (
    answers_of,
    example_length,
    load_model,
    untrained_positions,
    usable_positions,
)
from convbert_plugin.models.parts import CLASSIFICATION, PARTS_BY_NAME, parts_of
from convbert_plugin.models.question_answering import Answer, best_answer, reading_of, windows_on
from convbert_plugin.modules.mixed_attention import AttentionMaps
from convbert_plugin.tokenization.tokenizer import DICTIONARY_FILE, Tokenizer, load_tokenizer

logger = logging.getLogger(__name__)

# What transformers calls a head's task, and what then follows the logits; a head of which it says
# nothing chooses one class, or with one class gives a score.
PROBLEM_TYPE = "problem_type"
ONE_CLASS = "single_label_classification"
PREDICTIONS = {
    "regression": lambda logits: logits,
    ONE_CLASS: lambda logits: logits.log_softmax(dim=1),
    "multi_label_classification": functional.logsigmoid,
}


class TrainingRun(NamedTuple):
    """What a checkpoint says of how its model was trained.

    ``answers``: what the outputs of its heads mean, and ``problem_types`` what transformers says of
    them, by their scopes. ``example_length``: to how many tokens their examples were cut, None
    without heads. ``usable_positions``: how many were trained, or repeat such. ``reading``: how
    the contexts of questions are read.
    """

    path: Path
    answers: Mapping[str, Answers]
    problem_types: Mapping[str, str]
    example_length: Optional[int]
    usable_positions: int
    reading: Reading


class MaskFilling(NamedTuple):
    """One guess: the whole text, its probability, and the token put in the mask's place."""

    text: str
    probability: float
    token: str


class Inputs(NamedTuple):
    """What every method of the model takes first: tokens and segments [B, T], and of pads."""

    tokens: Tensor
    segments: Optional[Tensor]
    has_pads: bool


def load_from_folder(
    model_class: type[BaseFairseqModel], folder: PathLike, checkpoint_file: Optional[str] = None
) -> "ConvBertHubInterface":
    """Load checkpoint, dictionary and tokenizer from one folder.

    Raises:
        ValueError: a file is missing or does not fit.
    """
    checkpoint_path = find_checkpoint(folder, checkpoint_file)
    dictionary = Path(folder) / DICTIONARY_FILE
    if not dictionary.is_file():
        raise UserError(f"{dictionary} is missing: name a folder that holds it")
    vocabulary = Vocabulary.load(dictionary)
    tokenizer = load_tokenizer(folder)
    checkpoint = read_checkpoint(checkpoint_path)
    model = load_model(model_class, checkpoint, vocabulary, checkpoint_path)
    answers = answers_of(checkpoint, checkpoint_path)
    run = TrainingRun(
        checkpoint_path,
        answers,
        _problem_types(checkpoint),
        example_length(checkpoint, answers.values()) if answers else None,
        usable_positions(checkpoint),
        reading_of(checkpoint),
    )
    return ConvBertHubInterface(model, tokenizer, run)


def _problem_types(checkpoint: FairseqCheckpoint) -> Mapping[str, str]:
    """What the heads that came from transformers predict, by scope, where config.json says it."""
    problem_type = checkpoint.transformers_config.get(PROBLEM_TYPE)
    if problem_type not in list(PREDICTIONS):
        return {}
    theirs = PARTS_BY_NAME[CLASSIFICATION].transformers_options
    return {
        scope: problem_type
        for scope, options in parts_of(checkpoint.tensors).items()
        if scope.startswith(CLASSIFICATION) and theirs.items() <= options.items()
    }


class ConvBertHubInterface(nn.Module):
    """Text in, features and predictions out; always in evaluation mode when just loaded.

    Shapes: B sentences, T tokens, C hidden size, V tokens in the vocabulary, L layers, H heads
    after the head ratio, K taps of the convolution. Batches are padded on the right with
    ``vocabulary.pad()``.
    """

    def __init__(self, model: BaseFairseqModel, tokenizer: Tokenizer, run: TrainingRun):
        super().__init__()
        self.run = run
        self.told: set[str] = set()
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.vocabulary = model.vocabulary

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def encode(self, sentence: str, *others: str, whole: bool = False) -> Tensor:
        """Token ids [T] of [CLS] sentence [SEP] (other [SEP] ...).

        A special token that is written in a text, such as "[MASK]", is text. For a fine-tuned model
        a text or a pair is cut as the examples of its training were, unless it shall be ``whole``.
        """
        texts = [self._ids(text) for text in (sentence, *others)]
        length, full_length = self.run.example_length, 1 + len(texts) + sum(map(len, texts))
        if whole or length is None or full_length <= length or len(texts) > 2:
            return self._framed(texts)
        self._tell(
            "cut",
            f"a text of {full_length} tokens is cut to {length}, as in training: "
            "encode(..., whole=True) keeps all of them",
        )
        ids = [np.array(text) for text in texts]
        joined = join(ids, self.vocabulary.bos(), self.vocabulary.eos(), length)
        return torch.from_numpy(joined.tokens)

    def decode(self, tokens: Tensor) -> Union[str, List[str]]:
        """The text of token ids [T]; a list of texts where separators part several.

        Raises:
            ValueError: a batch, or no tensor.
        """
        if not isinstance(tokens, Tensor) or tokens.dim() != 1:
            raise ValueError("decode: give the ids [T] of one text: of a batch, row after row")
        check_ids(tokens, "tokens", len(self.vocabulary))
        texts = self._texts(tokens)
        return texts[0] if len(texts) == 1 else texts

    def _texts(self, tokens: Tensor) -> List[str]:
        texts: List[str] = []
        pieces: List[str] = []
        for token in tokens.tolist():
            if token == self.vocabulary.eos():
                texts.append(self.tokenizer.detokenize(pieces))
                pieces = []
            elif token not in (self.vocabulary.bos(), self.vocabulary.pad()):
                pieces.append(self.vocabulary[token])
        if pieces:
            texts.append(self.tokenizer.detokenize(pieces))
        return texts

    def extract_features(
        self, tokens: Tensor, segments: Optional[Tensor] = None, return_all_hiddens: bool = False
    ) -> Union[Tensor, List[Tensor]]:
        """Features [B, T, C] of tokens [T] or [B, T], or those of every level as a list.

        Segments that are not given follow from the separators.

        Raises:
            ValueError: no tokens, more than the model has positions, ids that it does not have,
                here and in what follows.
        """
        inputs = self._inputs(tokens, segments)
        if return_all_hiddens:
            return self.model.hidden_states(*inputs)
        return self.model.features(*inputs)

    @torch.no_grad()
    def extract_attention(self, tokens: Tensor, segments: Optional[Tensor] = None) -> AttentionMaps:
        """Attention [L, B, H, T, T] and span kernels [L, B, H, T, K] of tokens [T] or [B, T].

        Each row of either sums to 1; the attention to a pad is 0. A model without kernels of
        its own at every position has None in their place.
        """
        return self.model.attention_maps(*self._inputs(tokens, segments))

    def register_classification_head(
        self, name: str, num_classes: int, kind: str = "released"
    ) -> None:
        """Add a fresh head that classifies whole texts; with one class it scores them.

        Raises:
            ValueError: a name that is taken or cannot be one, no class or too many, an unknown
                kind.
        """
        self.model.register_classification_head(name, num_classes, kind)

    @torch.no_grad()
    def predict(
        self,
        head: str,
        tokens: Tensor,
        segments: Optional[Tensor] = None,
        return_logits: bool = False,
        return_labels: bool = False,
    ) -> Union[Tensor, List[str]]:
        """Log-probabilities [B, classes] of a classification head; scores [B, 1] of a regression.

        A head with one class is a regression; where the checkpoint keeps the range of its scores,
        they are in it, in float64. Of a head from transformers its config.json may say
        otherwise: scores for several targets, or independent labels (each with the log-probability
        that it applies). With ``return_labels`` the words of the likeliest classes.

        Raises:
            ValueError: no head of that name, or no words of classes where they are asked for.
        """
        answers = self._answers(head)
        scope = f"{CLASSIFICATION}.{head}"
        # Pads that are visible are part of what the head was trained on.
        is_filled = self.model.cfg.pads_visible and answers.length
        fill_to = self.run.example_length if is_filled else None
        logits = self.model.head_logits(scope, *self._inputs(tokens, segments, fill_to or 0))
        if return_logits:
            return logits
        usual = "regression" if logits.size(1) == 1 else ONE_CLASS
        problem_type = self.run.problem_types.get(scope, usual)
        if return_labels:
            labels = self.labels(head)
            if problem_type != ONE_CLASS:
                raise ValueError(f"head {head}: gives a number for each of {labels}, not one label")
            return answers.words(logits)
        return answers.scores(logits) if answers.score_range else PREDICTIONS[problem_type](logits)

    def labels(self, head: str) -> List[str]:
        """The words of the classes of a head, in the order in which :meth:`predict` gives them.

        Raises:
            ValueError: no head of that name, or none whose words the checkpoint keeps.
        """
        answers = self._answers(head)
        if not answers.labels:
            known = str(answers) if answers.score_range else "nothing of its classes"
            raise ValueError(f"head {head}: the checkpoint keeps {known}: there are no labels")
        return list(answers.labels)

    def _answers(self, head: str) -> Answers:
        heads = list(self.model.classification_heads)
        if head not in heads:
            raise ValueError(
                f"no classification head {shown(head)} here: choose one of {heads}, or add it with "
                "register_classification_head"
            )
        return self.run.answers.get(f"{CLASSIFICATION}.{head}", UNKNOWN)

    @torch.no_grad()
    def answer(
        self, question: str, context: str, null_threshold: Optional[float] = None
    ) -> Optional[Answer]:
        """The part of a context of any length that answers a question, None where nothing does.

        A question has no answer where its null odds (higher: rather none) are above the threshold:
        ``null_threshold``, else that of the training if there were such questions among its own,
        and else every question has one. The context is read in windows, as in training; where the
        checkpoint says nothing of that, as of a model from transformers, in windows of as many
        tokens as there are trained positions, at most 512, that begin 128 tokens (at most a quarter
        of a window) after each other, and a question of at most 64 (at most half of a window).

        Raises:
            ValueError: a checkpoint without a question-answering head, no text in the question or
                the context, a question that fills a window, a threshold that is no number.
        """
        if self.model.question_answering_head is None:
            raise ValueError(
                "this checkpoint has no question-answering head: fine-tune it with --task squad"
            )
        given = question, context, self.tokenizer, self.vocabulary
        windows = windows_on(*given, self.run.reading, self.model.cfg.pads_visible)
        self._check_positions(int(windows.sizes.max()))
        return best_answer(self.model, windows, context, null_threshold)

    @torch.no_grad()
    def detect_replaced(self, tokens: Tensor) -> Tensor:
        """Probability [B, T] that each token was put there by a generator; 0 for pads.

        Raises:
            ValueError: the checkpoint holds no replaced-token head.
        """
        if self.model.replaced_token_head is None:
            raise ValueError("this checkpoint was not pretrained by replaced-token detection")
        inputs = self._inputs(tokens)
        chances = self.model.replaced_logits(*inputs).sigmoid()
        return chances.masked_fill(inputs.tokens.eq(self.vocabulary.pad()), 0)

    @torch.no_grad()
    def fill_mask(self, sentence: str, topk: int = 5) -> List[MaskFilling]:
        """The likeliest tokens for the one "[MASK]" (or "<mask>") that is written in a sentence.

        Raises:
            ValueError: not exactly one mask, a ``topk`` of no token or more than there are, or the
                checkpoint holds no masked-LM head.
        """
        if self.model.generator is None and self.model.masked_lm_head is None:
            raise ValueError("this checkpoint holds neither a generator nor a masked-LM head")
        most = len(self.vocabulary)
        is_number = isinstance(topk, Integral) and not isinstance(topk, bool)
        if not is_number or not 1 <= topk <= most:
            raise ValueError(f"topk {shown(topk)}: choose a whole number from 1 to {most}")
        check_text(sentence)
        mask = self.vocabulary[self.vocabulary.mask()]
        parts = sentence.split(mask)
        if len(parts) != 2:
            raise ValueError(f"write {mask} once in the sentence, not {len(parts) - 1} times")
        before, after = map(self._ids, parts)
        tokens = self._framed([[*before, self.vocabulary.mask(), *after]])
        positions = torch.tensor([1 + len(before)])
        inputs = self._inputs(tokens)
        log_probs = self.model.masked_lm_log_probs(
            inputs.tokens, None, positions.to(self.device), inputs.has_pads
        )
        best = log_probs[0].exp().topk(topk)
        fillings = []
        for probability, token in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            filled = tokens.clone()
            filled[positions] = token
            text = " ".join(self._texts(filled))
            fillings.append(MaskFilling(text, probability, self.vocabulary[token]))
        return fillings

    def _ids(self, text: str) -> List[int]:
        check_text(text)
        return [self.vocabulary.index(piece) for piece in self.tokenizer.pieces(text)]

    def _framed(self, texts: List[List[int]]) -> Tensor:
        framed = frame(texts, self.vocabulary.bos(), self.vocabulary.eos())
        return torch.from_numpy(framed.tokens)

    def _inputs(
        self, tokens: Tensor, segments: Optional[Tensor] = None, fill_to: int = 0
    ) -> Inputs:
        tokens, pad = self._batch(tokens), self.vocabulary.pad()
        missing = (0, max(0, fill_to - tokens.size(1)))
        tokens = functional.pad(tokens, missing, value=pad)
        # Asked before the ids are sent to a device, which would have to be waited for.
        has_pads = bool(tokens.eq(pad).any())
        if segments is not None:
            segments = functional.pad(self._batch(segments, "segments"), missing).to(self.device)
            if segments.shape != tokens.shape:
                raise ValueError("segments: give one for each token, in the shape of the tokens")
        return Inputs(tokens.to(self.device), segments, has_pads)

    def _batch(self, ids: Tensor, kind: str = "tokens") -> Tensor:
        rows = len(getattr(self.model.embeddings, kind).weight)
        if not isinstance(ids, Tensor) or ids.dim() not in (1, 2) or not ids.numel():
            raise ValueError(f"{kind}: give a tensor of ids, [T] or [B, T], with at least one")
        check_ids(ids, kind, rows)
        if ids.size(-1) > self.model.max_positions():
            raise ValueError(
                f"a sequence of {ids.size(-1)} tokens is longer than the model's "
                f"{self.model.max_positions()} positions: shorten it"
            )
        self._check_positions(ids.size(-1))
        return ids.unsqueeze(0) if ids.dim() == 1 else ids

    def _check_positions(self, length: int) -> None:
        usable = self.run.usable_positions
        if length > usable:
            self._tell("positions", untrained_positions(self.run.path, length, usable))

    def _tell(self, kind: str, line: str) -> None:
        """Warn of something, once for all texts."""
        if kind not in self.told:
            self.told.add(kind)
            logger.warning(line)
