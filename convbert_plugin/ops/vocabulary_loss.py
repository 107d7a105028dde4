"""The masked-LM loss over a whole vocabulary, a few rows of logits at a time."""

from typing import Any, Iterator, NamedTuple, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from convbert_plugin.ops.precision import at_least_fp32
from convbert_plugin.ops.registration import op
from convbert_plugin.ops.sampling import BLOCK, block_of, sample_by_inverse

LOGITS_AT_ONCE = {"cpu": 1 << 22, "cuda": 1 << 25}
"""Numbers in a piece of the logits: about the cache of a CPU, and enough to fill a GPU."""


class VocabularyLoss(NamedTuple):
    """The loss [], summed over the rows; of each row the likeliest token and a drawn one [M]."""

    loss: Tensor
    guessed: Tensor
    sampled: Tensor


def vocabulary_loss(
    hidden: Tensor, table: Tensor, bias: Tensor, targets: Tensor, uniforms: Tensor
) -> VocabularyLoss:
    """Cross-entropy of ``hidden @ table.T + bias`` with the targets, and tokens drawn by it.

    Shapes: hidden [M, E], table [V, E], bias [V], targets and uniforms [M]. Products are in
    autocast's precision, all else in at least fp32. Nothing of M x V numbers is ever made: the
    gradients come with the loss, piece by piece, and the backward scales them by its own. What is
    drawn is as :func:`sample_by_inverse` draws. Deterministic; the device is not waited for.
    """
    device = hidden.device.type
    is_autocast = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if is_autocast else hidden.dtype
    inputs = (hidden, table, bias)
    with_gradients = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    return VocabularyLoss(
        *_loss_and_gradients(*inputs, targets, uniforms, dtype, with_gradients)[:3]
    )


def vocabulary_loss_reference(
    hidden: Tensor, table: Tensor, bias: Tensor, targets: Tensor, uniforms: Tensor
) -> VocabularyLoss:
    """The definition of :func:`vocabulary_loss`: all logits at once."""
    log_probs = F.linear(hidden, table, bias).log_softmax(dim=-1)
    sampled = sample_by_inverse(log_probs.detach().exp(), uniforms)
    loss = F.nll_loss(log_probs, targets, reduction="sum")
    return VocabularyLoss(loss, log_probs.argmax(dim=-1), sampled)


Outputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@op("vocabulary_loss")
def _loss_and_gradients(
    hidden: Tensor,
    table: Tensor,
    bias: Tensor,
    targets: Tensor,
    uniforms: Tensor,
    dtype: torch.dtype,
    with_gradients: bool,
) -> Outputs:
    """Loss [], guessed and drawn tokens [M], and the gradients by the first three inputs.

    The products are in ``dtype``, the gradients in at least fp32; these are empty unless asked for.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        pieces = _Pieces(hidden.to(dtype), table.to(dtype), bias.to(dtype), with_gradients)
        guessed, sampled = torch.empty_like(targets), torch.empty_like(targets)
        losses = hidden.new_zeros(len(hidden), dtype=pieces.wide)
        for rows in pieces.rows():
            logits, probabilities = pieces.distribution(rows)
            target, guess = targets[rows].unsqueeze(1), _argmax(logits)
            below_largest = logits.gather(1, guess) - logits.gather(1, target)
            losses[rows] = (below_largest - probabilities.gather(1, guess).log()).squeeze(1)
            guessed[rows] = guess.squeeze(1)
            sampled[rows] = sample_by_inverse(probabilities, uniforms[rows])
            if with_gradients:
                by_logits = probabilities.scatter_(1, target, probabilities.gather(1, target) - 1)
                pieces.add_gradients(rows, by_logits)
        # Where the logits are no numbers, what is drawn may lie beyond the vocabulary.
        sampled.clamp_(max=len(table) - 1)
        return losses.sum(), guessed, sampled, *pieces.gradients()


class _Pieces:
    """Rows of logits that are made and used up a piece at a time, and the gradients' sums.

    The rows are whole blocks wide; what follows the vocabulary there has the probability 0.
    """

    def __init__(self, hidden: Tensor, table: Tensor, bias: Tensor, with_gradients: bool):
        self.hidden, self.table, self.bias = hidden, table, bias
        self.wide = at_least_fp32(hidden.dtype)
        count, vocabulary = len(hidden), len(table)
        width = vocabulary + -vocabulary % BLOCK
        most = max(1, LOGITS_AT_ONCE.get(hidden.device.type, LOGITS_AT_ONCE["cuda"]) // width)
        self.at_once = -(-count // max(1, -(-count // most)))
        self.logits = hidden.new_full((self.at_once, width), -torch.inf, dtype=self.wide)
        self.probabilities = torch.empty_like(self.logits)
        # Of the products' own precision: the logits first, then the gradients by them.
        self.narrow = None
        if self.wide != hidden.dtype:
            self.narrow = torch.empty_like(self.logits, dtype=hidden.dtype)
        self.scale = self._largest_scale() if with_gradients else None
        shapes = [tensor.shape if with_gradients else (0,) for tensor in (hidden, table, bias)]
        self.sums = [hidden.new_zeros(shape, dtype=self.wide) for shape in shapes]

    def rows(self) -> Iterator[slice]:
        count = len(self.hidden)
        for start in range(0, count, max(1, self.at_once)):
            yield slice(start, min(start + self.at_once, count))

    def distribution(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Logits and probabilities of some rows, in buffers that the next ones take over."""
        number, vocabulary = rows.stop - rows.start, len(self.table)
        logits, probabilities = self.logits[:number], self.probabilities[:number]
        products = logits if self.narrow is None else self.narrow[:number]
        products, inputs = products[:, :vocabulary], (self.hidden[rows], self.table.t())
        torch.addmm(self.bias, *inputs, out=products)
        if self.narrow is not None:
            logits[:, :vocabulary] = products
        return logits, torch.softmax(logits, dim=-1, out=probabilities)

    def add_gradients(self, rows: slice, by_logits: Tensor) -> None:
        by_hidden, by_table, by_bias = self.sums
        by_logits = by_logits[:, : len(self.table)]
        by_bias += by_logits.sum(dim=0)
        if self.narrow is None:
            torch.mm(by_logits, self.table, out=by_hidden[rows])
            by_table.addmm_(by_logits.t(), self.hidden[rows])
            return
        narrow = self.narrow[: len(by_logits), : len(self.table)]
        narrow.copy_(by_logits if self.scale is None else by_logits * self.scale)
        by_hidden[rows] = narrow @ self.table
        by_table += narrow.t() @ self.hidden[rows]

    def gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        by_hidden, by_table, by_bias = self.sums
        if self.scale is not None:
            by_hidden /= self.scale
            by_table /= self.scale
        return by_hidden, by_table, by_bias

    def _largest_scale(self) -> Optional[Tensor]:
        """What float16 products of the gradients are multiplied by, lest the small ones vanish.

        No sum can leave the range: a row's gradients add up to 2 at most, and none is above 1.
        """
        if self.hidden.dtype != torch.float16 or not len(self.hidden):
            return None
        by_hidden, by_table = (each.abs().amax().float() for each in (self.table, self.hidden))
        largest = torch.maximum(2 * by_hidden, self.at_once * by_table).clamp(min=1)
        return torch.finfo(torch.float16).max / 2 / largest


def _argmax(logits: Tensor) -> Tensor:
    """The first of the largest logits: [M, V] -> [M, 1]."""
    blocks = logits.unflatten(1, (-1, BLOCK))
    block = blocks.amax(dim=-1).argmax(dim=-1, keepdim=True)
    within = block_of(blocks, block).argmax(dim=-1, keepdim=True)
    return block * BLOCK + within


@_loss_and_gradients.register_fake
def _fake(
    hidden: Tensor,
    table: Tensor,
    bias: Tensor,
    targets: Tensor,
    uniforms: Tensor,
    dtype: torch.dtype,
    with_gradients: bool,
) -> Outputs:
    wide = at_least_fp32(dtype)
    shapes = [tensor.shape if with_gradients else (0,) for tensor in (hidden, table, bias)]
    loss, *by = (hidden.new_empty(shape, dtype=wide) for shape in [(), *shapes])
    return loss, torch.empty_like(targets), torch.empty_like(targets), by[0], by[1], by[2]


def _keep_gradients(ctx: Any, inputs: tuple, output: Outputs) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*output[3:])
    ctx.dtypes = [tensor.dtype for tensor in inputs[:3]]


def _backward(ctx: Any, by_loss: Optional[Tensor], *others: Any) -> Sequence[Optional[Tensor]]:
    nothing = (None,) * 4
    if by_loss is None:
        return None, None, None, *nothing
    kept = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
    return *((by_loss * gradient).to(dtype) for gradient, dtype in kept), *nothing


_loss_and_gradients.register_autograd(_backward, setup_context=_keep_gradients)


@register_flop_formula(torch.ops.convbert.vocabulary_loss)
def _flops(hidden: Any, table: Any, *inputs: Any, **others: Any) -> int:
    """Two a product of the logits, and as many again for the gradients by each of its factors."""
    rows, (vocabulary, width) = hidden[0], table
    with_gradients = inputs[-1]
    return 2 * rows * vocabulary * width * (3 if with_gradients else 1)
