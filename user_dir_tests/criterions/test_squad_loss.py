"""The losses of both heads: against their definitions, transformers, and any split of a batch."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from fairseq.logging.progress_bar import format_stat
from omegaconf import OmegaConf

from convbert_plugin.criterions.squad_loss import SquadCriterion, answer_loss
from convbert_plugin.data.squad.squad_dataset import SquadDataset, SquadOptions
from convbert_plugin.errors import UserError
from convbert_plugin.formats.reading import Reading
from convbert_plugin.models.parts import QUESTION_ANSWERING_HEAD
from convbert_plugin.modules.span_heads import SpanLogits
from user_dir_tests.data.squad.squad_toys import toy_questions
from user_dir_tests.models.building import TOY_VOCABULARY, toy_model, vocabulary_of
from user_dir_tests.oracles import transformers_models
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.squad

HEADS = ("released", "transformers")
EXACT = TOLERANCES[torch.float64]["operation"]
ACROSS_SHAPES = TOLERANCES[torch.float64]["padding"]
# Two layers, forward and backward, summed in another order.
OF_GRADIENTS = TOLERANCES[torch.float64]["block"]
READING = Reading(length=24, doc_stride=5, max_query_length=6, max_answer_length=4)
# Answers at the first and the last token, across windows, none, and one in no window.
QUESTIONS = [
    ([11, 12, 13], 0, (0, 2)),
    ([14, 15], 0, None),
    ([16], 1, (3, 3)),
    ([17, 18, 19, 20, 21, 22, 23], 2, (29, 30)),
    ([9, 9], 2, (14, 17)),
    ([24, 25], 1, (0, 3)),
    ([26, 27, 28, 29], 2, (0, 30)),
]
CONTEXTS = [[30 + n for n in range(9)], [40, 41, 42, 43], [20 + n for n in range(31)]]


class Bench:
    """Windows of unequal lengths, a float64 model with a head, and its criterion."""

    def __init__(self, kind, loss_reduction="mean", batch_size=None, update_freq=1, workers=1):
        vocabulary = vocabulary_of(TOY_VOCABULARY)
        self.model = toy_model().double()
        self.model.add_part(QUESTION_ANSWERING_HEAD, kind=kind)
        # Released initial values leave every logit near 0, where wrong signs and sums hide.
        generator = torch.Generator().manual_seed(3)
        for parameter in self.model.parameters():
            parameter.data += 0.2 * torch.randn(
                parameter.shape, generator=generator, dtype=torch.float64
            )
        options = SquadOptions(READING, False, QUESTION_ANSWERING_HEAD, has_gold=True)
        self.dataset = SquadDataset(toy_questions(CONTEXTS, QUESTIONS), vocabulary, options)
        self.task = SimpleNamespace(
            cfg=SimpleNamespace(_name="squad"),
            vocabulary=vocabulary,
            pad_to_max_length=False,
            reading=READING,
        )
        cfg = {
            "loss_reduction": loss_reduction,
            "batch_size": batch_size,
            "update_freq": [update_freq],
            "distributed_world_size": workers,
        }
        self.criterion = SquadCriterion.build_criterion(
            OmegaConf.create({"_name": "squad", **cfg}), self.task
        )

    def batch(self, numbers):
        return self.dataset.collater([self.dataset[number] for number in numbers])

    def losses(self, *batches):
        """Loss and sample size of batches, as fairseq adds them up."""
        results = [self.criterion(self.model, batch) for batch in batches]
        return sum(result[0] for result in results), sum(result[1] for result in results)

    def gradient(self, *batches):
        self.model.zero_grad()
        loss, sample_size = self.losses(*batches)
        (loss / sample_size).backward()
        return torch.cat([parameter.grad.flatten() for parameter in self.model.parameters()])


def cross_entropy(logits, right):
    """Of a list of numbers."""
    return math.log(sum(math.exp(one - logits[right]) for one in logits))


def loss_by_window(bench, kind, number):
    """The loss of one window from its definition, alone and without pads."""
    batch = bench.batch([number])
    inputs, target = batch["net_input"], batch["target"]
    bench.model.train()
    logits = bench.model(**inputs)
    start, end = (logits.start[0].tolist(), logits.end[0].tolist())
    loss = cross_entropy(start, int(target["start"])) / 2
    loss += cross_entropy(end, int(target["end"])) / 2
    if kind == "released":
        logit = float(logits.impossible.detach())
        right = QUESTIONS[bench.dataset.windows.question[number]][2] is None
        loss += 0.5 * math.log(1 + math.exp(-logit if right else logit))
    return loss


@pytest.mark.parametrize("kind", HEADS)
def test_the_loss_is_its_definition_window_by_window_whatever_the_pads(kind):
    bench = Bench(kind)
    everything = range(len(bench.dataset))
    batch = bench.batch(everything)
    assert batch["net_input"]["has_pads"]
    expected = sum(loss_by_window(bench, kind, number) for number in everything)
    loss, sample_size = bench.losses(batch)
    assert relative_error(loss[None], [expected]) <= ACROSS_SHAPES
    assert sample_size == len(everything)
    # And while validating, when the ends of the likeliest starts are looked for.
    bench.model.eval()
    log = bench.criterion(bench.model, batch)[2]
    assert relative_error(log["loss"][None], [expected]) <= ACROSS_SHAPES
    # What fairseq-validate prints of it, in every format.
    printed = json.dumps(format_stat(log["window_table"]))
    assert printed == f'"[{len(everything)} of {len(everything)} rows]"'


@pytest.mark.parametrize("class_name", ["ConvBertForQuestionAnswering"])
def test_without_pads_the_loss_of_the_plain_head_is_that_of_transformers(class_name):
    model = transformers_models.toy_model(class_name).double()
    tokens = torch.randint(0, 50, (5, 23), generator=torch.Generator().manual_seed(2)) + 1
    starts, ends = torch.tensor([3, 0, 22, 7, 1]), torch.tensor([3, 0, 22, 19, 2])
    with torch.no_grad():
        output = model(tokens, start_positions=starts, end_positions=ends)
    logits = SpanLogits(output.start_logits, output.end_logits)
    target = {"start": starts, "end": ends, "impossible": torch.zeros(5, dtype=torch.bool)}
    for pads in (None, torch.zeros_like(tokens, dtype=torch.bool)):
        loss = answer_loss(logits, target, pads) / len(tokens)
        assert relative_error(loss[None], output.loss[None]) <= EXACT


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_any_split_of_a_batch_gives_the_same_gradient(kind, reduction):
    numbers = torch.randperm(16, generator=torch.Generator().manual_seed(1)).tolist()
    whole = Bench(kind, reduction, batch_size=16)
    expected = whole.gradient(whole.batch(numbers))
    if reduction == "sum":
        # Of a full batch the released sum itself.
        loss, sample_size = whole.losses(whole.batch(numbers))
        whole.model.zero_grad()
        loss.backward()
        summed = torch.cat([parameter.grad.flatten() for parameter in whole.model.parameters()])
        assert sample_size == 1
        assert relative_error(expected, summed) <= OF_GRADIENTS
    for update_freq, workers in ((4, 1), (2, 2)):
        parts = Bench(kind, reduction, batch_size=4, update_freq=update_freq, workers=workers)
        batches = [parts.batch(numbers[first : first + 4]) for first in range(0, 16, 4)]
        assert relative_error(parts.gradient(*batches), expected) <= OF_GRADIENTS
    unequal = Bench(kind, reduction, batch_size=16)
    batches = [unequal.batch(part) for part in (numbers[:1], numbers[1:4], numbers[4:])]
    assert relative_error(unequal.gradient(*batches), expected) <= OF_GRADIENTS


def test_the_sum_needs_to_know_what_a_full_batch_is():
    with pytest.raises(UserError, match=r"--loss-reduction sum needs --batch-size"):
        Bench("released", "sum", batch_size=None)


def test_what_can_be_no_answer_leaves_the_loss_finite():
    logits = SpanLogits(
        torch.tensor([[5.0, -1000.0, 3.0]]), torch.tensor([[-1000.0, 2.0, 60000.0]])
    )
    target = {name: torch.tensor([2]) for name in ("start", "end")}
    loss = answer_loss(logits, target, None)
    assert loss == pytest.approx(math.log(1 + math.exp(2)) / 2, rel=1e-6)
