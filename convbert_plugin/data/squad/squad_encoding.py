"""Paragraphs and their questions to token ids, characters of tokens, and answers as tokens."""

from typing import NamedTuple, Optional, Sequence

import numpy as np

from convbert_plugin.data.squad.squad_json import Answer, Paragraph, Question
from convbert_plugin.data.token_ids import TokenIds
from convbert_plugin.errors import shown
from convbert_plugin.metrics.squad_scores import normalize_answer
from convbert_plugin.tokenization.tokenizer_interface import Tokenizer
from convbert_plugin.tokenization.unknown_pieces import PieceCounts, count_pieces, total_of

# Of a question without a right answer, and of an answer that has no token.
NO_SPAN = (-1, -1)
# What a line of token ids has besides: the separator.
ENDS = 1


class EncodedQuestion(NamedTuple):
    """A question, its token ids, and the first and last token of its first right answer.

    ``changed``: what these tokens give back, where the official scores tell it from the answer.
    """

    question: Question
    tokens: list[int]
    answer: tuple[int, int]
    changed: Optional[str]


class EncodedParagraph(NamedTuple):
    """A context, its token ids, the characters [T, 2] of each token, and the questions about it."""

    context: str
    tokens: list[int]
    offsets: np.ndarray
    questions: list[EncodedQuestion]


class Encoded(NamedTuple):
    """Paragraphs; how many pieces they have; and what is wrong with questions that are left out."""

    paragraphs: list[EncodedParagraph]
    counts: PieceCounts
    broken: list[str]


class ParagraphEncoder:
    """Encodes paragraphs by a tokenizer."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._ids = TokenIds(tokenizer)

    def __call__(self, paragraphs: Sequence[Paragraph]) -> Encoded:
        contexts = [paragraph.context for paragraph in paragraphs]
        asked = [question.text for paragraph in paragraphs for question in paragraph.questions]
        pieces_of_contexts = self._tokenizer.pieces_with_offsets(contexts)
        pieces_of_questions = self._tokenizer.pieces_batch(asked)
        counts = [
            count_pieces(self._tokenizer, contexts, [each.pieces for each in pieces_of_contexts]),
            count_pieces(self._tokenizer, asked, pieces_of_questions),
        ]
        lines = map(self._ids.line, pieces_of_questions)
        made = Encoded([], total_of(counts), [])
        for paragraph, pieces in zip(paragraphs, pieces_of_contexts, strict=True):
            offsets = np.array(pieces.offsets, np.int32).reshape(-1, 2)
            questions = []
            for question in paragraph.questions:
                line = next(lines)
                if len(offsets) and len(line) > ENDS:
                    questions.append(_encoded(question, line, offsets, paragraph.context))
                else:
                    where = "it" if len(offsets) else "its context"
                    made.broken.append(f"question {shown(question.id)}: no token is in {where}")
            if questions:
                tokens = self._ids.line(pieces.pieces)
                encoded = EncodedParagraph(paragraph.context, tokens, offsets, questions)
                made.paragraphs.append(encoded)
        return made


def _encoded(
    question: Question, tokens: list[int], offsets: np.ndarray, context: str
) -> EncodedQuestion:
    if not question.answers:
        return EncodedQuestion(question, tokens, NO_SPAN, None)
    answer = question.answers[0]
    span = tokens_of(answer, offsets)
    text = text_of(span, offsets, context)
    is_same = normalize_answer(text) == normalize_answer(answer.text)
    return EncodedQuestion(question, tokens, span, None if is_same else text)


def tokens_of(answer: Answer, offsets: np.ndarray) -> tuple[int, int]:
    """The first and the last token that hold a character of an answer, of those of its context."""
    start = answer.start + len(answer.text) - len(answer.text.lstrip())
    end = answer.start + len(answer.text.rstrip())
    found = np.flatnonzero((offsets[:, 0] < end) & (offsets[:, 1] > start))
    return (int(found[0]), int(found[-1])) if len(found) else NO_SPAN


def text_of(span: tuple[int, int], offsets: np.ndarray, context: str) -> str:
    """The characters of a context from the first token of a span to the last; nothing of none."""
    first, last = span
    return "" if span == NO_SPAN else context[offsets[first, 0] : offsets[last, 1]]
