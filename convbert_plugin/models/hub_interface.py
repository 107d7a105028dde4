"""A trained model with its tokenizer, for use from Python."""

import contextlib
from numbers import Integral
from pathlib import Path
from typing import Iterator, List, Mapping, NamedTuple, Optional, Union

import torch
from fairseq.models import BaseFairseqModel
from torch import Tensor, nn
from torch.nn import functional

from convbert_plugin.data.pairs import frame
from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.errors import UserError, shown
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.formats.fairseq_checkpoint import FairseqCheckpoint, read_checkpoint
from convbert_plugin.formats.finding import find_checkpoint
from convbert_plugin.models.loading import load_model
from convbert_plugin.models.parts import CLASSIFICATION, PARTS_BY_NAME, parts_of
from convbert_plugin.modules.mixed_attention import AttentionMaps
from convbert_plugin.tokenization.tokenizer import DICTIONARY_FILE, Tokenizer, load_tokenizer

# What transformers calls a head's task, and what then follows the logits; a head of which it says
# nothing chooses one class, or with one class gives a score.
PROBLEM_TYPE = "problem_type"
PREDICTIONS = {
    "regression": lambda logits: logits,
    "single_label_classification": lambda logits: logits.log_softmax(dim=1),
    "multi_label_classification": functional.logsigmoid,
}


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
    with _value_errors():
        checkpoint_path = find_checkpoint(folder, checkpoint_file)
        dictionary = Path(folder) / DICTIONARY_FILE
        if not dictionary.is_file():
            raise UserError(f"{dictionary} is missing: name a folder that holds it")
        vocabulary = Vocabulary.load(dictionary)
        tokenizer = load_tokenizer(folder)
        checkpoint = read_checkpoint(checkpoint_path)
        model = load_model(model_class, checkpoint, vocabulary, checkpoint_path)
    return ConvBertHubInterface(model, tokenizer, _problem_types(checkpoint))


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


@contextlib.contextmanager
def _value_errors() -> Iterator[None]:
    """Who calls from Python gets an exception that ``except Exception`` catches."""
    try:
        yield
    except UserError as error:
        raise ValueError(str(error)) from None


class ConvBertHubInterface(nn.Module):
    """Text in, features and predictions out; always in evaluation mode when just loaded.

    Shapes: B sentences, T tokens, C hidden size, V tokens in the vocabulary, L layers, H heads
    after the head ratio, K taps of the convolution. Batches are padded on the right with
    ``vocabulary.pad()``.
    """

    def __init__(
        self, model: BaseFairseqModel, tokenizer: Tokenizer, problem_types: Mapping[str, str] = {}
    ):
        super().__init__()
        self.problem_types = problem_types
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.vocabulary = model.vocabulary

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def encode(self, sentence: str, *others: str) -> Tensor:
        """Token ids [T] of [CLS] sentence [SEP] (other [SEP] ...).

        A special token that is written in a text, such as "[MASK]", is text.
        """
        return self._framed([self._ids(text) for text in (sentence, *others)])

    def decode(self, tokens: Tensor) -> Union[str, List[str]]:
        """The text of token ids [T]; a list of texts where separators part several.

        Raises:
            ValueError: a batch, or no tensor.
        """
        if not isinstance(tokens, Tensor) or tokens.dim() != 1:
            raise ValueError("decode: give the ids [T] of one text: of a batch, row after row")
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
        with _value_errors():
            self.model.register_classification_head(name, num_classes, kind)

    @torch.no_grad()
    def predict(
        self,
        head: str,
        tokens: Tensor,
        segments: Optional[Tensor] = None,
        return_logits: bool = False,
    ) -> Tensor:
        """Log-probabilities [B, classes] of a classification head; scores of a regression.

        A head with one class is a regression. Of a head from transformers its config.json may say
        otherwise: scores for several targets, or independent labels (each with the log-probability
        that it applies).

        Raises:
            ValueError: no head of that name.
        """
        heads = list(self.model.classification_heads)
        if head not in heads:
            raise ValueError(
                f"no classification head {shown(head)} here: choose one of {heads}, or add it with "
                "register_classification_head"
            )
        scope = f"{CLASSIFICATION}.{head}"
        logits = self.model.head_logits(scope, *self._inputs(tokens, segments))
        if return_logits:
            return logits
        usual = "regression" if logits.size(1) == 1 else "single_label_classification"
        return PREDICTIONS[self.problem_types.get(scope, usual)](logits)

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
        return [self.vocabulary.index(piece) for piece in self.tokenizer.pieces(text)]

    def _framed(self, texts: List[List[int]]) -> Tensor:
        framed = frame(texts, self.vocabulary.bos(), self.vocabulary.eos())
        return torch.from_numpy(framed.tokens)

    def _inputs(self, tokens: Tensor, segments: Optional[Tensor] = None) -> Inputs:
        tokens = self._batch(tokens)
        # Asked before the ids are sent to a device, which would have to be waited for.
        has_pads = bool(tokens.eq(self.vocabulary.pad()).any())
        segments = None if segments is None else self._batch(segments, "segments").to(self.device)
        return Inputs(tokens.to(self.device), segments, has_pads)

    def _batch(self, ids: Tensor, kind: str = "tokens") -> Tensor:
        rows = len(getattr(self.model.embeddings, kind).weight)
        if not isinstance(ids, Tensor) or ids.dim() not in (1, 2) or not ids.numel():
            raise ValueError(f"{kind}: give a tensor of ids, [T] or [B, T], with at least one")
        if ids.dtype not in (torch.int32, torch.int64):
            raise ValueError(f"{kind}: give whole numbers (torch.long), not {ids.dtype}")
        if ids.min() < 0 or ids.max() >= rows:
            odd = ids[(ids < 0) | (ids >= rows)][0].item()
            raise ValueError(f"{kind}: {odd} among them, where this model has ids 0 to {rows - 1}")
        if ids.size(-1) > self.model.max_positions():
            raise ValueError(
                f"a sequence of {ids.size(-1)} tokens is longer than the model's "
                f"{self.model.max_positions()} positions: shorten it"
            )
        return ids.unsqueeze(0) if ids.dim() == 1 else ids
