"""Prepared questions to batches of windows."""

from functools import cached_property
from typing import List, NamedTuple

import numpy as np
import torch

from convbert_plugin.data.binarized import IndexedLines
from convbert_plugin.data.collation import collate
from convbert_plugin.data.length_batches import LengthBatchedDataset
from convbert_plugin.data.pairs import frame
from convbert_plugin.data.squad.squad_files import PreparedQuestions, QuestionTexts
from convbert_plugin.data.squad.squad_windows import SPECIALS, make_windows
from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.formats.reading import Reading


class SquadOptions(NamedTuple):
    """How windows are built.

    ``output``: the scope of the head that answers. ``has_gold``: batches hold the right answers.
    """

    reading: Reading
    pad_to_max_length: bool
    output: str
    has_gold: bool


class SquadDataset(LengthBatchedDataset):
    """[CLS] question [SEP] part of the context [SEP], in batches of windows of like length.

    Raises:
        UserError: as ``make_windows``.
    """

    def __init__(self, questions: PreparedQuestions, vocabulary: Vocabulary, options: SquadOptions):
        super().__init__()
        self.questions = questions
        self.vocabulary = vocabulary
        self.options = options
        query_lengths = np.asarray(questions.questions.sizes) - 1
        context_lengths = np.asarray(questions.contexts.sizes)[questions.paragraphs] - 1
        self.windows = make_windows(query_lengths, context_lengths, options.reading)
        kept = np.minimum(query_lengths, options.reading.max_query_length)
        self.context_positions = (kept + SPECIALS - 1)[self.windows.question]
        self.sizes = self.context_positions + self.windows.length + 1

    @cached_property
    def holds_answer(self) -> np.ndarray:
        """Whether a window has all tokens of the answer; bool [W]."""
        begin, last = np.asarray(self.questions.answers)[self.windows.question].T
        first, end = self.windows.first, self.windows.first + self.windows.length
        return (first <= begin) & (last < end)

    @cached_property
    def texts(self) -> QuestionTexts:
        """The texts of the questions and of their contexts."""
        return self.questions.texts()

    def lines_read(self) -> List[IndexedLines]:
        return [self.questions.contexts, self.questions.questions]

    def __getitem__(self, index: int) -> dict:
        """One window: its number, tokens, segments, where its context lies, and the answer."""
        question, first, length, *scored = (int(column[index]) for column in self.windows)
        held = self.questions
        query = held.questions[question].numpy()[:-1][: self.options.reading.max_query_length]
        context = held.contexts[int(held.paragraphs[question])].numpy()[first : first + length]
        framed = frame([query, context], self.vocabulary.bos(), self.vocabulary.eos())
        position = int(self.context_positions[index])
        begin, last = (int(token) for token in held.answers[question])
        # Of an answer that the window holds in part, or not at all, [CLS] tells.
        is_whole = bool(self.holds_answer[index])
        return {
            "id": index,
            "tokens": torch.from_numpy(framed.tokens),
            "segments": torch.from_numpy(framed.segments),
            "context_position": position,
            "context_length": length,
            "first": first,
            "scored": [token - first + position for token in scored],
            "start": begin - first + position if is_whole else 0,
            "end": last - first + position if is_whole else 0,
            "impossible": bool(held.impossible[question]),
        }

    def collater(self, examples: List[dict]) -> dict:
        """A batch [B, T] padded on the right.

        ``rows``: how many windows the split has. The model gets ``answerable`` [B, T], where an
        answer may begin or end as far as it is concerned: [CLS], the context and the last [SEP].
        A token of the context at position p of a window is the one of number p -
        ``context_position`` + ``first`` [B] of its whole context; ``context`` [B, T] are those
        tokens, and ``scored`` [B, T] those that are scored in this window. Where there are right
        answers, ``target`` holds their ``start``, ``end`` and ``impossible`` [B], and the model
        gets their ``starts``.
        """
        if not examples:
            return {}
        options = self.options
        pad_to = options.reading.length if options.pad_to_max_length else None
        batch = collate(examples, self.vocabulary.pad(), options.output, pad_to)
        inputs = batch["net_input"]
        places = torch.arange(inputs["src_tokens"].size(1))
        begin, length = _column(examples, "context_position"), _column(examples, "context_length")
        scored = _column(examples, "scored")
        batch |= {
            "rows": len(self),
            "first": _column(examples, "first"),
            "context_position": begin,
            "context": _between(places, begin, begin + length),
            "scored": _between(places, *scored.unbind(1)),
        }
        # Up to [SEP]. As released, the segment of the context holds it.
        inputs["answerable"] = _between(places, begin, begin + length + 1) | (places == 0)
        if options.has_gold:
            names = ("start", "end", "impossible")
            batch["target"] = {name: _column(examples, name) for name in names}
            inputs["starts"] = batch["target"]["start"]
        return batch


def _column(examples: List[dict], name: str) -> torch.Tensor:
    return torch.tensor([example[name] for example in examples])


def _between(places: torch.Tensor, begin: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """Which places [T] are from begin [B] up to and without end [B]; bool [B, T]."""
    return (places >= begin[:, None]) & (places < end[:, None])
