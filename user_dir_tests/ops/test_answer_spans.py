"""Against every pair of a start and an end, scored one by one."""

import math

import pytest
import torch

from convbert_plugin.ops.answer_spans import best_spans, null_scores

pytestmark = pytest.mark.squad

# Sums of two numbers of at most a hundred in fp32.
TOLERANCE = 1e-5
HEADS = ("transformers", "released")


def random_logits(kind, windows, tokens, seed=0, digits=None, beam=20):
    """Start, end and tops of a head; of few ``digits`` many are equal."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        values = 3 * torch.randn(shape, generator=generator)
        return values if digits is None else values.round(decimals=digits)

    start = draw(windows, tokens)
    if kind == "transformers":
        return start, draw(windows, tokens), None
    tops = start.topk(min(beam, tokens)).indices
    return start, draw(windows, tops.size(1), tokens), tops


def random_masks(windows, tokens, seed=0):
    """Context after a question, before the last [SEP] and pads, and the part of it scored here."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.arange(tokens)
    context, scored = [], []
    for _ in range(windows):
        first, low, high, last = torch.randint(1, tokens, (4,), generator=generator).sort()[0]
        context.append((places >= first) & (places < last))
        scored.append((places >= low) & (places < high))
    return torch.stack(scored), torch.stack(context)


def log_probabilities(logits):
    values = [float(value) for value in logits]
    total = math.log(sum(math.exp(value - max(values)) for value in values)) + max(values)
    return [value - total for value in values]


def every_span(start, end, tops, scored, context, longest):
    """(score, start, end) of each span of one window, the best first, in float64."""
    found = []
    for first in range(len(start)):
        if tops is None:
            of_start, of_end = start.tolist(), end.tolist()
        elif first in tops.tolist():
            of_start = log_probabilities(start)
            of_end = log_probabilities(end[tops.tolist().index(first)])
        else:
            continue
        for last in range(first, len(start)):
            if scored[first] and context[first] and context[last] and last - first < longest:
                found.append((of_start[first] + of_end[last], first, last))
    return sorted(found, key=lambda span: (-span[0], span[1], span[2]))


@pytest.mark.parametrize("longest", [1, 5, 100])
@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("kind", HEADS)
def test_every_pair_of_start_and_end(kind, count, longest, device):
    start, end, tops = random_logits(kind, windows=4, tokens=37)
    scored, context = random_masks(4, 37)
    inputs = [None if one is None else one.to(device) for one in (start, end, tops)]
    found = best_spans(*inputs, scored.to(device), context.to(device), longest, count)
    assert [tuple(values.shape) for values in found] == [(4, count)] * 3
    for row in range(4):
        of_row = [None if one is None else one[row] for one in (start, end, tops)]
        expected = every_span(*of_row, scored[row], context[row], longest)[:count]
        spans = [values[row, : len(expected)].tolist() for values in found]
        assert spans[:2] == [[span[1] for span in expected], [span[2] for span in expected]]
        assert spans[2] == pytest.approx([span[0] for span in expected], abs=TOLERANCE)
        assert (found.scores[row, len(expected) :] == -math.inf).all()


def test_equal_scores_stand_in_order():
    start, end, tops = random_logits("transformers", 3, 41, digits=0)
    everywhere = torch.ones(3, 41, dtype=torch.bool)
    found = best_spans(start, end, tops, everywhere, everywhere, 7, 30)
    for row in range(3):
        expected = every_span(start[row], end[row], None, everywhere[0], everywhere[0], 7)[:30]
        assert len({span[0] for span in expected}) < 10
        spans = zip(*(values[row].tolist() for values in found), strict=True)
        assert [(score, first, last) for first, last, score in spans] == expected
    # The starts of the released head, however the equal ones among them were found.
    start, end = torch.zeros(1, 6), torch.zeros(1, 4, 6)
    tops = torch.tensor([[5, 2, 4, 1]])
    found = best_spans(start, end, tops, everywhere[:1, :6], everywhere[:1, :6], 3, 5)
    assert found.starts.tolist() == [[1, 1, 1, 2, 2]]
    assert found.ends.tolist() == [[1, 2, 3, 2, 3]]


@pytest.mark.parametrize("kind", HEADS)
def test_more_spans_asked_for_than_there_are(kind):
    start, end, tops = random_logits(kind, 2, 3)
    context = torch.tensor([[False, True, True], [False, False, False]])
    found = best_spans(start, end, tops, context, context, 30, 20)
    assert (found.scores > -math.inf).sum(1).tolist() == [3, 0]
    assert found.starts.max() < 3
    assert found.ends.max() < 3


def test_half_precision_is_not_where_spans_are_compared():
    start = torch.tensor([[0.0, 100.0, 100.0]], dtype=torch.bfloat16)
    end = torch.tensor([[0.0, 0.25, 0.125]], dtype=torch.bfloat16)
    everywhere = torch.ones(1, 3, dtype=torch.bool)
    found = best_spans(start, end, None, everywhere, everywhere, 3, 3)
    assert found.scores.dtype == torch.float32
    assert found.scores.tolist() == [[100.25, 100.125, 100.125]]
    assert null_scores(start, end, None).dtype == torch.float32


def test_what_is_no_number_is_no_span():
    start, end, _ = random_logits("transformers", 1, 5)
    start[0, 2] = math.nan
    everywhere = torch.ones(1, 5, dtype=torch.bool)
    found = best_spans(start, end, None, everywhere, everywhere, 2, 9)
    assert found.scores[0, :7].isfinite().all()
    assert (found.scores[0, 7:] == -math.inf).all()
    assert 2 not in found.starts[0, :7].tolist()


def test_pads_change_nothing():
    start, end, tops = random_logits("released", 1, 30)
    scored, context = random_masks(1, 30, seed=3)
    alone = best_spans(start, end, tops, scored, context, 30, 20)
    padded = [torch.nn.functional.pad(values, (0, 9), value=-1000.0) for values in (start, end)]
    masks = [torch.nn.functional.pad(values, (0, 9)) for values in (scored, context)]
    beside = best_spans(*padded, tops, *masks, 30, 20)
    assert torch.equal(alone.starts, beside.starts)
    assert torch.equal(alone.ends, beside.ends)
    torch.testing.assert_close(alone.scores, beside.scores, rtol=0, atol=TOLERANCE)


def test_what_speaks_for_no_answer():
    start, end = torch.tensor([[1.5, 9.0], [-2.0, 9.0]]), torch.tensor([[0.25, 7.0], [1.0, 7.0]])
    assert null_scores(start, end, None).tolist() == [1.75, -1.0]
    impossible = torch.tensor([0.5, -3.0])
    assert null_scores(start, end, impossible).tolist() == [0.5, -3.0]


def test_memory_of_large_batches():
    """32 windows of 512 tokens make arrays of 32 x 512 x 30, not of 32 x 512 x 512."""
    start, end, _ = random_logits("transformers", 32, 512)
    everywhere = torch.ones(32, 512, dtype=torch.bool)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        best_spans(start, end, None, everywhere, everywhere, 30, 20)
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert 0 < largest < 32 * 512 * 512
