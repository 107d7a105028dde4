"""What is not equal has no time: each kind of break is refused."""

import math

import pytest
import torch

from convbert_plugin.analysis.bench import encoder_part, op_part, peers, step_part
from convbert_plugin.analysis.bench.bench_table import result_text
from convbert_plugin.analysis.bench.comparing import (
    Comparison,
    Difference,
    Work,
    Workload,
    farthest,
    measure,
)
from convbert_plugin.analysis.bench.machine import Machine
from convbert_plugin.analysis.bench.plan import SPECIALS, TOY, Plan, write_data
from convbert_plugin.analysis.bench.running import COMPARISONS, find_variant
from convbert_plugin.analysis.bench.timing import Pace, wall_clock

pytestmark = pytest.mark.speed

MACHINE = Machine("a processor", "cpu", 2, {"torch": "2.13"}, {"fp32": 1e11}, 1e10, {})
PAD = SPECIALS.index("[PAD]")
ONCE = Pace(rounds=1, sample=0.0)


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    plan = Plan(str(folder), archs=("convbert_small",), batch=2, length=16, sizes=TOY)
    write_data(folder, plan)
    return plan


def refused(comparison):
    """The names of the variants without a time, of which the table says why."""
    result = measure(comparison, ONCE)
    text = result_text(result, MACHINE, "fp32")
    names = {one.name for one in result.outcomes if one.failure}
    assert all(f"not timed: {name}: differs" in text for name in names)
    assert {one.name for one in result.outcomes if not one.seconds} == names
    return names


@pytest.mark.parametrize("part", ["op", "encoder", "step", "length"])
def test_the_process_that_measures_memory_finds_each_variant(part, plan):
    for comparison in COMPARISONS[part](plan):
        for name in comparison.build:
            build = find_variant(plan, part, comparison.title, name)
            assert reprs(build) == reprs(comparison.build[name])


@pytest.mark.parametrize("part", ["encoder", "length"])
def test_a_batch_is_as_large_as_its_title_says(part, plan):
    for comparison in COMPARISONS[part](plan):
        words = comparison.title.split(", ")[2].split(" x ")
        tokens = comparison.build["ConvBERT here"]().encoder.batch.tokens
        assert [*map(str, tokens.shape)] == words
        assert tokens.ne(PAD).all()
        assert comparison.work.tokens == tokens.numel()


def reprs(build):
    """What is built, by its code and what it is given."""
    function = getattr(build, "func", build)
    return function.__qualname__, [*map(repr, getattr(build, "args", ()))][-1:]


class Nothing(Workload):
    def run(self):
        pass


@pytest.mark.parametrize(("found", "is_timed"), [(1e-5, True), (1e-2, False), (math.nan, False)])
def test_a_variant_that_differs_is_not_timed(found, is_timed):
    comparison = Comparison(
        part="op",
        title="nothing",
        work=Work(1),
        build={"sound": Nothing, "other": Nothing},
        baseline="sound",
        check=lambda workloads: {"other": Difference("sound", found, 1e-4)},
        clock=wall_clock,
        device="cpu",
    )
    assert refused(comparison) == (set() if is_timed else {"other"})


def test_a_variant_that_fails_leaves_the_others():
    def fail():
        raise RuntimeError("no memory\nand more")

    comparison = Comparison(
        part="op",
        title="nothing",
        work=Work(1),
        build={"sound": Nothing, "failing": fail},
        baseline="sound",
        check=lambda workloads: {},
        clock=wall_clock,
        device="cpu",
    )
    result = measure(comparison, ONCE)
    assert [len(one.seconds) for one in result.outcomes] == [1, 0]
    assert result.failures == ["failing (RuntimeError: no memory)"]


def test_farthest():
    ones, twos = torch.ones(3), torch.full((2,), 2.0)
    assert farthest([(ones, ones), (twos + 0.5, twos)]) == 0.25
    # What is nearly 0 beside the others is compared with these.
    tiny = torch.full((2,), 1e-9)
    assert farthest([(ones, ones), (3 * tiny, tiny)]) == pytest.approx(2e-9 / 0.01)
    assert farthest([(torch.ones(2), ones)]) == math.inf
    assert math.isnan(farthest([(ones * math.nan, ones), (ones, ones)]))


def broken_ops():
    sound = op_part.span_convolution

    def turned(value, logits, **options):
        return sound(value, logits.flip(3), **options)

    def half_of_the_gradient(value, logits, **options):
        return sound(value, (logits + logits.detach()) / 2, **options)

    def late(value, logits, **options):
        return sound(value, logits, **options).roll(1, 1)

    return {"taps": turned, "gradient": half_of_the_gradient, "time": late}


@pytest.mark.parametrize("name", ["taps", "gradient", "time"])
def test_a_broken_op_is_refused(name, plan, monkeypatch):
    forward, both = op_part.op_comparisons(plan)
    broken = broken_ops()[name]
    assert not refused(both)
    monkeypatch.setattr(op_part, "span_convolution", broken)
    forward, both = op_part.op_comparisons(plan)
    own = {each for each in both.build if each.startswith("here")}
    assert refused(both) == own
    assert refused(forward) == (set() if name == "gradient" else own)


@pytest.mark.slow
def test_other_weights_of_an_encoder_are_refused(plan, monkeypatch):
    _, both = encoder_part.encoder_comparisons(plan)
    assert not refused(both)
    monkeypatch.setattr(peers, "fill_encoder", lambda peer, model: None)
    assert refused(both) == set(encoder_part.THEIRS.values())


@pytest.mark.slow
def test_other_gradients_of_an_encoder_are_refused(plan, monkeypatch):
    forward, both = encoder_part.encoder_comparisons(plan)
    features = peers.PeerEncoder.features

    def scaled(encoder):
        output = features(encoder)
        return output + 0.1 * (output - output.detach())

    monkeypatch.setattr(peers.PeerEncoder, "features", scaled)
    assert refused(both) == set(encoder_part.THEIRS.values())
    assert not refused(forward)


@pytest.mark.slow
def test_another_loss_of_a_step_is_refused(plan, monkeypatch):
    without, with_dropout = step_part.step_comparisons(plan)
    assert not refused(with_dropout)
    monkeypatch.setattr(peers, "DISCRIMINATOR_WEIGHT", 49.0)
    assert refused(without) == set(step_part.THEIRS.values())
    assert refused(with_dropout) == set(step_part.THEIRS.values())
