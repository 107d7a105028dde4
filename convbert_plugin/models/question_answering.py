"""A question on a text of any length, answered by a part of the text."""

from numbers import Real
from pathlib import Path
from typing import NamedTuple, Optional, Sequence

import numpy as np
import torch
from fairseq.models import BaseFairseqModel
from torch import Tensor

from convbert_plugin.data.squad.squad_answers import in_characters, merge, n_best, window_table
from convbert_plugin.data.squad.squad_dataset import SquadDataset, SquadOptions
from convbert_plugin.data.squad.squad_files import PreparedQuestions
from convbert_plugin.data.squad.squad_windows import SPECIALS
from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.errors import UserError, counted, shown
from convbert_plugin.files.text_files import HALF_PAIR
from convbert_plugin.formats.fairseq_checkpoint import FairseqCheckpoint
from convbert_plugin.formats.reading import Reading
from convbert_plugin.models.dataset_outputs import Track, outputs_of, untracked
from convbert_plugin.models.loading import usable_positions
from convbert_plugin.models.parts import QUESTION_ANSWERING_HEAD, parts_of
from convbert_plugin.models.state import POSITION_TABLE
from convbert_plugin.modules.span_heads import NULL_THRESHOLDS
from convbert_plugin.tokenization.tokenizer import Tokenizer

# Windows that go through the model at once.
BATCH_SIZE = 16


class Answer(NamedTuple):
    """The characters [start, end) of a context, and their probability among the best answers."""

    text: str
    score: float
    start: int
    end: int


class _OneLine:
    """A text as binarized lines are: token ids [T] that end in the separator."""

    def __init__(self, ids: Sequence[int]):
        self.ids = torch.tensor(ids)
        self.sizes = np.array([len(ids)])

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Tensor:
        return self.ids


def reading_of(checkpoint: FairseqCheckpoint) -> Reading:
    """How the model of a sound checkpoint reads: as in its training, where the checkpoint keeps it.

    Else by the released settings, in windows of no more tokens than there are usable positions,
    which begin at most a quarter of that after each other, and of a question at most half of it is
    read. All of its questions have an answer then, unless a threshold is given.
    """
    if (kept := checkpoint.reading) is not None:
        return kept._replace(length=min(kept.length, len(checkpoint.tensors[POSITION_TABLE])))
    released = Reading()
    length = min(released.length, usable_positions(checkpoint))
    return released._replace(
        length=length,
        doc_stride=max(1, min(released.doc_stride, length // 4)),
        max_query_length=max(1, min(released.max_query_length, length // 2)),
    )


def null_threshold_of(model: BaseFairseqModel, reading: Reading) -> float:
    """Null odds above it leave a question without an answer: infinite where all have one."""
    options = parts_of(dict(model.named_parameters()))[QUESTION_ANSWERING_HEAD]
    return reading.threshold(NULL_THRESHOLDS[options["kind"]])


def windows_on(
    question: str,
    context: str,
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
    reading: Reading,
    pads_visible: bool,
) -> SquadDataset:
    """The windows of one question.

    Raises:
        UserError: a question or a context without text, a question that fills a window.
    """
    lines = []
    for words, text in (("question", question), ("context", context)):
        if not isinstance(text, str) or HALF_PAIR.search(text):
            raise UserError(f"{words}: give a text, not {shown(text)}")
        lines.append(tokenizer.pieces_with_offsets([text])[0])
        if not lines[-1].pieces:
            raise UserError(f"{words}: no text in it, {shown(text)}: give one")
    kept = min(len(lines[0].pieces), reading.max_query_length)
    if kept + SPECIALS >= reading.length:
        raise UserError(
            f"question: {counted(kept, 'token')} fill the window of {reading.length} in which this "
            "model reads, and nothing of the context fits: shorten it"
        )
    asked, contexts = (
        _OneLine([*(vocabulary.index(piece) for piece in line.pieces), vocabulary.eos()])
        for line in lines
    )
    offsets = np.array(lines[1].offsets)
    questions = PreparedQuestions(
        folder=Path(),
        contexts=contexts,
        questions=asked,
        paragraphs=np.array([0]),
        answers=np.array([[-1, -1]]),
        impossible=np.array([False]),
        offsets=offsets,
        first_tokens=np.array([0, len(offsets)]),
    )
    options = SquadOptions(reading, pads_visible, QUESTION_ANSWERING_HEAD, has_gold=False)
    return SquadDataset(questions, vocabulary, options)


def table_of(
    model: BaseFairseqModel, windows: SquadDataset, batch_size: int, track: Track = untracked
) -> np.ndarray:
    """What counts of each window [W, columns], for ``merge``."""
    reading = windows.options.reading
    sizes = reading.max_answer_length, reading.n_best_size
    numbers, rows = [], []
    for batch, (start, end, tops, impossible, _) in outputs_of(model, windows, batch_size, track):
        numbers.append(batch["id"].numpy())
        rows.append(window_table(start, end, tops, impossible, batch, *sizes).cpu().numpy())
    return np.concatenate(rows)[np.argsort(np.concatenate(numbers))]


def best_answer(
    model: BaseFairseqModel, windows: SquadDataset, context: str, null_threshold: Optional[float]
) -> Optional[Answer]:
    """The best answer in the windows of one question; None where null odds exceed the threshold.

    Raises:
        UserError: a threshold that is no number, a model that gives none.
    """
    reading = windows.options.reading
    limit = null_threshold_of(model, reading) if null_threshold is None else null_threshold
    if not isinstance(limit, Real) or isinstance(limit, bool) or limit != limit:
        raise UserError(f"null_threshold {shown(limit)}: give a number, or None for the usual one")
    spans = merge(table_of(model, windows, BATCH_SIZE), windows.windows.question)
    spans = in_characters(spans, windows.questions.offsets, windows.questions.first_tokens[:1])
    [candidates], [odds] = n_best(spans, [context]), spans.null_odds
    if not candidates or np.isnan(odds):
        raise UserError("the scores of this model are no numbers: it is damaged")
    text, probability, _, start, end = candidates[0]
    return None if odds > limit else Answer(text, probability, start, end)
