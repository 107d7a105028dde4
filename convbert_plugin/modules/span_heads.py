"""What finds an answer in a text: the heads of question answering."""

from typing import NamedTuple, Optional, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convbert_plugin.modules.initialization import glorot_linear, linear
from convbert_plugin.ops.precision import at_least_fp32

# Both of the released code: the width of the layers between, and of how many starts it looks for
# an end.
INNER_SIZE = 512
BEAM_SIZE = 20
# Added to the logits of what can be no answer. Beside any other its probability is exactly 0.
NEVER = -1000.0
# The null odds above which there is no answer, where no others are asked for: as released, and of
# the other head, whose odds weigh no answer against the best one, where these are equal.
NULL_THRESHOLDS = {"released": -2.75, "transformers": 0.0}


class SpanLogits(NamedTuple):
    """Logits of the first and of the last token of an answer, at least in fp32.

    Shapes: ``start`` [B, T]. ``end`` [B, T], or [B, K, T] where each of the K likeliest starts has
    ends of its own: these starts are ``tops`` [B, K] then, None otherwise. ``impossible`` [B]: the
    logit that there is no answer, None of a head that does not say it. ``end_of_right`` [B, T]:
    beside such ends, those for the right start.
    """

    start: Tensor
    end: Tensor
    tops: Optional[Tensor] = None
    impossible: Optional[Tensor] = None
    end_of_right: Optional[Tensor] = None

    @property
    def end_of_loss(self) -> Tensor:
        """Logits [B, T] to be compared with the right ends."""
        return self.end if self.end_of_right is None else self.end_of_right


class SpanHead(nn.Module):
    """The head of transformers' ForQuestionAnswering: start and end of an answer, each alone.

    Shapes: hidden [B, T, C] -> logits [B, T, 2], the start's first; with ``answerable`` [B, T] the
    same as :class:`SpanLogits`. It hides nothing, wherever an answer may be, and needs no starts.
    """

    def __init__(self, hidden: int):
        super().__init__()
        self.output = linear(hidden, 2)

    def forward(
        self, hidden: Tensor, answerable: Optional[Tensor] = None, starts: Optional[Tensor] = None
    ) -> Union[Tensor, SpanLogits]:
        logits = self.output(hidden)
        if answerable is None:
            return logits
        return SpanLogits(*logits.to(at_least_fp32(logits.dtype)).unbind(-1))


class AnswerPointerHead(nn.Module):
    """The released head: a start, an end given that start, and whether there is an answer at all.

    Shapes: hidden [B, T, C], ``answerable`` [B, T]: the tokens that an answer may begin or end
    with, and [CLS]; of others start and end get -1000. ``starts`` [B] are those of the right
    answers: in training there are ends for these alone. In evaluation there are ends for each of
    the 20 likeliest starts (all, of fewer tokens), and for the right ones beside them where they
    are told. Source: the released qa_tasks.py:406-520.
    """

    def __init__(self, hidden: int):
        super().__init__()
        self.start = glorot_linear(hidden, 1)
        self.end_dense = glorot_linear(2 * hidden, INNER_SIZE)
        self.end_output = glorot_linear(INNER_SIZE, 1)
        self.impossible_dense = glorot_linear(2 * hidden, INNER_SIZE)
        self.impossible_output = glorot_linear(INNER_SIZE, 1)

    def forward(
        self, hidden: Tensor, answerable: Tensor, starts: Optional[Tensor] = None
    ) -> SpanLogits:
        exact = at_least_fp32(hidden.dtype)
        never = NEVER * answerable.logical_not().to(exact)
        start = self.start(hidden).squeeze(-1).to(exact) + never
        impossible = self._impossible(hidden, start.softmax(dim=1).to(hidden.dtype)).to(exact)
        right = None
        if starts is not None:
            right = self._ends(hidden, starts[:, None]).squeeze(1).to(exact) + never
            if self.training:
                return SpanLogits(start, right, None, impossible)
        tops = start.topk(min(BEAM_SIZE, start.size(1))).indices
        end = self._ends(hidden, tops).to(exact) + never[:, None]
        return SpanLogits(start, end, tops, impossible, right)

    def _ends(self, hidden: Tensor, starts: Tensor) -> Tensor:
        """Logits [B, K, T] of the end for each of the starts [B, K].

        The layer on [start vector ; token vector] is a sum of a layer on each, so that nothing as
        large as K x T x C is ever made, and one start after the other not even K x T x 512.
        """
        of_start, of_token = self.end_dense.weight.chunk(2, dim=1)
        at_starts = starts[..., None].expand(-1, -1, hidden.size(2))
        from_starts = F.linear(hidden.gather(1, at_starts), of_start, self.end_dense.bias)
        from_tokens = F.linear(hidden, of_token)
        ends = [
            self.end_output(F.gelu(from_tokens + from_start[:, None])).squeeze(-1)
            for from_start in from_starts.unbind(1)
        ]
        return torch.stack(ends, dim=1)

    def _impossible(self, hidden: Tensor, start_probabilities: Tensor) -> Tensor:
        """Logit [B] of there being no answer, from [CLS] and the mean of the likely starts."""
        likely = torch.einsum("bt,btc->bc", start_probabilities, hidden)
        inner = F.gelu(self.impossible_dense(torch.cat([hidden[:, 0], likely], dim=1)))
        return self.impossible_output(inner).squeeze(-1)


QUESTION_ANSWERING_HEADS = {"released": AnswerPointerHead, "transformers": SpanHead}
