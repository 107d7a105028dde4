"""A trained model with its tokenizer, for use from Python."""

from pathlib import Path
from pickle import UnpicklingError
from typing import List, NamedTuple, Optional

import torch
from fairseq import checkpoint_utils
from torch import nn

from convbert_plugin.data.tokenizer import load_tokenizer
from convbert_plugin.errors import UserError


class MaskFilling(NamedTuple):
    """One guess: the whole text, its probability, and the token put in the mask's place."""

    text: str
    probability: float
    token: str


def load_from_folder(folder, checkpoint_file: str) -> "ConvBertHubInterface":
    """Load checkpoint, dictionary and tokenizer from one folder.

    Raises:
        ValueError: a file is missing or does not fit.
    """
    folder = Path(folder)
    for name in (checkpoint_file, "dict.txt"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} is missing: name a folder that holds it")
    try:
        models, cfg, task = checkpoint_utils.load_model_ensemble_and_task(
            [str(folder / checkpoint_file)], arg_overrides={"data": str(folder)}
        )
        tokenizer = load_tokenizer(folder)
    except UserError as error:
        # Who calls from Python gets an exception that `except Exception` catches.
        raise ValueError(str(error)) from None
    except (UnpicklingError, EOFError, OSError, RuntimeError) as error:
        raise ValueError(
            f"{folder / checkpoint_file}: damaged, or no checkpoint of this plugin: copy it again"
        ) from error
    (model,) = models
    for part in model.fresh_parts:
        # What the checkpoint does not hold has learned nothing, and must not answer.
        setattr(model, part, None)
    return ConvBertHubInterface(cfg, task, model, tokenizer)


class ConvBertHubInterface(nn.Module):
    """Text in, features and predictions out; always in evaluation mode when just loaded.

    Shapes: B sentences, T tokens, C hidden size, V tokens in the vocabulary.
    """

    def __init__(self, cfg, task, model, tokenizer):
        super().__init__()
        self.cfg = cfg
        self.task = task
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.vocabulary = task.source_dictionary

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def encode(self, sentence: str, *others: str) -> torch.LongTensor:
        """Token ids [T] of [CLS] sentence [SEP] (other [SEP] ...); "[MASK]" in a text is one."""
        ids = [self.vocabulary.bos()]
        for text in (sentence, *others):
            ids += [*self._ids(text), self.vocabulary.eos()]
        return torch.tensor(ids)

    def decode(self, tokens: torch.LongTensor):
        """The text of token ids [T]; a list of texts where separators part several."""
        texts, pieces = [], []
        for token in tokens.tolist():
            if token == self.vocabulary.eos():
                texts.append(self.tokenizer.detokenize(pieces))
                pieces = []
            elif token not in (self.vocabulary.bos(), self.vocabulary.pad()):
                pieces.append(self.vocabulary[token])
        if pieces:
            texts.append(self.tokenizer.detokenize(pieces))
        return texts[0] if len(texts) == 1 else texts

    def extract_features(
        self,
        tokens: torch.LongTensor,
        segments: Optional[torch.LongTensor] = None,
        return_all_hiddens: bool = False,
    ):
        """Features [B, T, C] of tokens [T] or [B, T], or those of every level as a list.

        Segments that are not given follow from the separators.

        Raises:
            ValueError: more tokens than the model has positions, here and in what follows.
        """
        tokens, segments = self._batch(tokens), self._batch(segments)
        states = self.model.hidden_states(tokens, segments)
        return states if return_all_hiddens else states[-1]

    @torch.no_grad()
    def detect_replaced(self, tokens: torch.LongTensor) -> torch.Tensor:
        """Probability [B, T] that each token was put there by a generator.

        Raises:
            ValueError: the checkpoint holds no replaced-token head.
        """
        if self.model.replaced_token_head is None:
            raise ValueError("this checkpoint was not pretrained by replaced-token detection")
        return self.model.replaced_logits(self._batch(tokens), None).sigmoid()

    @torch.no_grad()
    def fill_mask(self, sentence: str, topk: int = 5) -> List[MaskFilling]:
        """The likeliest tokens for the one "[MASK]" (or "<mask>") of a sentence.

        Raises:
            ValueError: not exactly one mask, or the checkpoint holds no masked-LM head.
        """
        if self.model.generator is None and self.model.masked_lm_head is None:
            raise ValueError("this checkpoint holds neither a generator nor a masked-LM head")
        tokens = self.encode(sentence)
        positions = tokens.eq(self.vocabulary.mask()).nonzero().squeeze(1)
        if len(positions) != 1:
            mask = self.vocabulary[self.vocabulary.mask()]
            raise ValueError(f"write {mask} once in the sentence, not {len(positions)} times")
        log_probs = self.model.masked_lm_log_probs(
            self._batch(tokens), None, positions.to(self.device)
        )
        best = log_probs[0].exp().topk(topk)
        fillings = []
        for probability, token in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            filled = tokens.clone()
            filled[positions] = token
            fillings.append(MaskFilling(self.decode(filled), probability, self.vocabulary[token]))
        return fillings

    def _ids(self, text: str) -> List[int]:
        mask = self.vocabulary[self.vocabulary.mask()]
        ids = []
        for number, part in enumerate(text.split(mask)):
            if number:
                ids.append(self.vocabulary.mask())
            ids += [self.vocabulary.index(piece) for piece in self.tokenizer.pieces(part)]
        return ids

    def _batch(self, ids):
        if ids is None:
            return None
        if ids.size(-1) > self.model.max_positions():
            raise ValueError(
                f"a sequence of {ids.size(-1)} tokens is longer than the model's "
                f"{self.model.max_positions()} positions: shorten it"
            )
        return (ids.unsqueeze(0) if ids.dim() == 1 else ids).to(self.device)
