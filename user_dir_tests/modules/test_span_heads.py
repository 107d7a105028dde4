"""The heads of question answering, against the text of the reference, an example at a time."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from convbert_plugin.modules.span_heads import AnswerPointerHead, SpanHead
from user_dir_tests.oracles.answer_pointer import ends_of, impossible_of, starts_of
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.squad

HIDDEN = 7
LENGTHS = {"more tokens than starts": 29, "fewer": 13}
OPERATION = TOLERANCES[torch.float64]["operation"]


def head_of(kind, seed=1, std=0.5):
    head = kind(HIDDEN).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=std, generator=generator)
    return head


def texts(length, rows=3, seed=2):
    """Hidden states, and what may be an answer: [CLS] and what follows a question, without pads."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, length, HIDDEN, generator=generator, dtype=torch.float64)
    answerable = torch.zeros(rows, length, dtype=torch.bool)
    for row in range(rows):
        answerable[row, 4 + row : length - 2 * row] = True
    answerable[:, 0] = True
    return hidden.requires_grad_(), answerable


def gradients(result, head, hidden):
    """Those of a weighted sum of all results, in one row, zeros where it does not depend."""
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(result.shape, generator=generator, dtype=torch.float64)
    wanted = [hidden, *head.parameters()]
    found = torch.autograd.grad(
        (weights * result).sum(), wanted, retain_graph=True, materialize_grads=True
    )
    return torch.cat([gradient.flatten() for gradient in found])


def assert_same(result, expected, head, hidden):
    assert relative_error(result, expected) <= OPERATION
    mine, reference = (gradients(values, head, hidden) for values in (result, expected))
    assert relative_error(mine, reference) <= OPERATION


@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS)
def test_the_released_head_in_training(length):
    head, (hidden, answerable) = head_of(AnswerPointerHead), texts(length)
    gold = [6, 0, 9]
    weights = dict(head.named_parameters())
    starts = [starts_of(weights, *text) for text in zip(hidden, answerable, strict=True)]
    ends = [
        ends_of(weights, *text, start)
        for *text, start in zip(hidden, answerable, gold, strict=True)
    ]
    impossible = [impossible_of(weights, *text) for text in zip(hidden, starts, strict=True)]
    logits = head(hidden, answerable, torch.tensor(gold))
    assert logits.tops is logits.end_of_right is None
    assert logits.end_of_loss is logits.end
    # Masked logits are a thousand times as large as those that count, and would hide them.
    for result, slow in ((logits.start, starts), (logits.end, ends)):
        expected = torch.stack(slow)
        assert_same(result[answerable], expected[answerable], head, hidden)
        assert_same(result[~answerable], expected[~answerable], head, hidden)
    assert_same(logits.impossible, torch.stack(impossible), head, hidden)


@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS)
def test_the_released_head_looks_for_ends_of_the_likeliest_starts(length):
    head, (hidden, answerable) = head_of(AnswerPointerHead), texts(length)
    weights = dict(head.named_parameters())
    logits = head.eval()(hidden, answerable)
    assert logits.end.shape == (3, min(20, length), length)
    with torch.no_grad():
        for row in range(3):
            text = hidden[row], answerable[row]
            starts = starts_of(weights, *text)
            by_chance = sorted(range(length), key=lambda place: -float(starts[place]))
            assert logits.tops[row].tolist() == by_chance[:20]
            assert relative_error(logits.start[row], starts) <= OPERATION
            for place, start in enumerate(by_chance[:20]):
                ends = ends_of(weights, *text, start)
                result, is_shown = logits.end[row, place], answerable[row]
                assert relative_error(result[is_shown], ends[is_shown]) <= OPERATION
                assert relative_error(result[~is_shown], ends[~is_shown]) <= OPERATION
            assert (
                relative_error(logits.impossible[row], impossible_of(weights, hidden[row], starts))
                <= 10 * OPERATION
            )


def test_evaluation_gives_the_ends_of_training_beside_the_others():
    head, (hidden, answerable) = head_of(AnswerPointerHead), texts(29)
    starts = torch.tensor([6, 0, 9])
    in_training, without = head(hidden, answerable, starts), head(hidden, answerable)
    logits = head.eval()(hidden, answerable, starts)
    assert without.end_of_right is None
    for place in range(4):
        assert torch.equal(logits[place], without[place])
    assert logits.end_of_loss is logits.end_of_right
    assert torch.equal(logits.end_of_loss, in_training.end_of_loss)


@pytest.mark.parametrize("beam", [True, False])
def test_padding_changes_nothing(beam):
    head, (hidden, answerable) = head_of(AnswerPointerHead), texts(29, rows=2)
    starts = None if beam else torch.tensor([5, 0])
    alone = head(hidden, answerable, starts)
    pads = torch.full((2, 6, HIDDEN), 5.0, dtype=torch.float64)
    padded = head(
        torch.cat([hidden, pads], dim=1),
        torch.cat([answerable, torch.zeros(2, 6, dtype=torch.bool)], dim=1),
        starts,
    )
    tolerance = TOLERANCES[torch.float64]["padding"]
    assert (padded.start[:, :29] - alone.start).abs().max() <= tolerance
    assert (padded.end[..., :29] - alone.end).abs().max() <= tolerance
    assert (padded.impossible - alone.impossible).abs().max() <= tolerance
    assert beam == (alone.tops is not None)
    assert not beam or torch.equal(padded.tops, alone.tops)
    for logits in (padded.start, padded.end.flatten(0, -2)):
        assert logits.softmax(-1)[:, 29:].max() == 0


def test_the_plain_head():
    head, (hidden, answerable) = head_of(SpanHead), texts(13)
    logits = head(hidden, answerable)
    assert logits.tops is logits.impossible is None
    for result, row in ((logits.start, 0), (logits.end, 1)):
        expected = torch.stack(
            [torch.stack([head.output.weight[row] @ token for token in text]) for text in hidden]
        )
        assert_same(result, expected + head.output.bias[row], head, hidden)
    assert torch.equal(head(hidden), torch.stack([logits.start, logits.end], dim=-1))


def test_half_precision_gives_logits_of_single_precision():
    for kind in (AnswerPointerHead, SpanHead):
        head, (hidden, answerable) = head_of(kind), texts(29)
        exact = head(hidden, answerable)
        rough = head.bfloat16()(hidden.bfloat16(), answerable)
        for logits, reference in zip(rough, exact, strict=True):
            if logits is not None and logits.is_floating_point():
                assert logits.dtype == torch.float32
            assert (logits is None) == (reference is None)


class LargestTensor(TorchDispatchMode):
    """The most numbers that any one result of an operation has."""

    numbers = 0

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        result = operation(*arguments, **(keywords or {}))
        if isinstance(result, torch.Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


@torch.no_grad()
def test_ends_of_many_starts_take_little_memory():
    rows, length, width = 2, 60, 96
    head = AnswerPointerHead(width)
    with LargestTensor() as seen:
        head(torch.randn(rows, length, width), torch.ones(rows, length, dtype=torch.bool))
    # The inner layer for one start of every row; for all of them it would be twenty times that.
    assert seen.numbers == max(rows * length * 512, 2 * width * 512)


def test_the_initialization_is_glorot_uniform():
    torch.manual_seed(1)
    head = AnswerPointerHead(64)
    for name, parameter in head.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        else:
            bound = math.sqrt(6 / sum(parameter.shape))
            assert 0.9 * bound <= parameter.abs().max() <= bound, name
            assert parameter.numel() < 1000 or abs(parameter.std() * math.sqrt(3) / bound - 1) < 0.1
    assert {name: tuple(p.shape) for name, p in head.named_parameters() if "weight" in name} == {
        "start.weight": (1, 64),
        "end_dense.weight": (512, 128),
        "end_output.weight": (1, 512),
        "impossible_dense.weight": (512, 128),
        "impossible_output.weight": (1, 512),
    }
