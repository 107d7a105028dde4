"""The best answers within windows: spans of their contexts, by the logits of a head."""

from typing import NamedTuple, Optional

import torch
from torch import Tensor

from convbert_plugin.ops.precision import at_least_fp32

NO_SPAN = -torch.inf


class Spans(NamedTuple):
    """Spans of windows, the best first, each [B, N]: first position, last position, score.

    The score is minus infinity, and the span none, where a window has fewer than N.
    """

    starts: Tensor
    ends: Tensor
    scores: Tensor


def best_spans(
    start: Tensor,
    end: Tensor,
    tops: Optional[Tensor],
    scored: Tensor,
    context: Tensor,
    max_answer_length: int,
    count: int,
) -> Spans:
    """Return the ``count`` best spans of each window, of up to ``max_answer_length`` tokens.

    Shapes: ``start`` [B, T]. ``end`` [B, T] of a head that judges each alone: a span scores the sum
    of both logits. Or ``end`` [B, K, T] given each of the starts ``tops`` [B, K]: a span scores the
    log-probability of its start and that of its end given the start. Both tokens are of the
    ``context`` [B, T], and the start is ``scored`` [B, T] in this window.

    All is computed at least in fp32, B × K (or T) × length spans at a time. Of equal scores the
    earlier start comes first, then the earlier end. What is no number is no span.
    """
    tokens, exact = start.size(1), at_least_fp32(start.dtype)
    if tops is None:
        starts = torch.arange(tokens, device=start.device).expand_as(start)
        of_start, of_end = start.to(exact), end.to(exact)[:, None].expand(-1, tokens, -1)
    else:
        starts, order = tops.sort(dim=1)
        of_start = start.to(exact).log_softmax(dim=1).gather(1, starts)
        of_end = end.to(exact).log_softmax(dim=2).gather(1, order[..., None].expand_as(end))
    lengths = torch.arange(min(max_answer_length, tokens), device=start.device)
    ends = starts[..., None] + lengths
    within, ends = ends < tokens, ends.clamp(max=tokens - 1)
    is_span = context[:, None].expand_as(of_end).gather(2, ends) & within
    is_span &= (scored & context).gather(1, starts)[..., None]
    scores = of_start[..., None] + of_end.gather(2, ends)
    scores = scores.where(is_span & ~scores.isnan(), NO_SPAN).flatten(1)
    if (missing := count - scores.size(1)) > 0:
        scores = torch.nn.functional.pad(scores, (0, missing), value=NO_SPAN)
    best, places = scores.sort(dim=1, descending=True, stable=True)
    best, places = best[:, :count], places[:, :count].clamp(max=ends[0].numel() - 1)
    rows = places // len(lengths)
    return Spans(starts.gather(1, rows), ends.flatten(1).gather(1, places), best)


def null_scores(start: Tensor, end: Tensor, impossible: Optional[Tensor]) -> Tensor:
    """Return what speaks for there being no answer in each window [B], at least in fp32.

    The logit of a head that says it; else the score of the span that is [CLS].
    """
    if impossible is None:
        exact = at_least_fp32(start.dtype)
        return start[:, 0].to(exact) + end[:, 0].to(exact)
    return impossible.to(at_least_fp32(impossible.dtype))
