"""What makes a CPU fast changes neither what is learned nor how a run goes on."""

from typing import NamedTuple

import fairseq_cli.train
import pytest
import torch

from convbert_plugin.modules import convolution, heads
from convbert_plugin.ops import (
    convolution_backends,
    cpu_library,
    cpu_rows,
    early_gradients,
    products,
)
from convbert_plugin.ops.vocabulary_loss import vocabulary_loss
from user_dir_tests.end_to_end.conftest import RECIPE, TASK, TINY, forget_earlier_runs, run_main
from user_dir_tests.end_to_end.unrounded import unrounded_updates

pytestmark = [pytest.mark.pretraining, pytest.mark.speed]

UPDATES = 200
# A few of the eight examples of a batch.
POSITIONS = 60
# With large steps rounding alone, in any place, grows until runs have nothing in common.
LONG = (
    *("--max-update", str(UPDATES), "--warmup-updates", "100", "--lr", "3e-4"),
    *("--dropout", "0", "--attention-dropout", "0", "--no-save", "--disable-validation"),
)
LOSSES = ("generator_loss", "discriminator_loss")


def with_code_built_here(patch, is_on):
    if is_on and cpu_library.library().functions is None:
        pytest.skip(cpu_library.library().lacks)
    library = cpu_library.library() if is_on else cpu_library.Library(None, "left out")
    for module in (convolution_backends, cpu_rows):
        patch.setattr(module, "library", lambda: library)


def with_one_node(patch, is_on):
    if not is_on:
        patch.setattr(convolution, "goes_in_one", lambda hidden: False)


def with_early_gradients(patch, is_on):
    if not is_on:
        patch.setattr(early_gradients, "_learning", lambda tensors: [])


def with_pieces(patch, is_on):
    patch.setattr(early_gradients, "POSITIONS_AT_ONCE", {"cpu": POSITIONS} if is_on else {})


def with_onednn(patch, is_on):
    if is_on and not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    patch.setattr(products, "WORTH_A_CALL", 1)
    patch.setattr(products, "_is_faster_by_onednn", lambda: is_on)


FAST = {
    "built here": with_code_built_here,
    "one node": with_one_node,
    "early gradients": with_early_gradients,
    "pieces": with_pieces,
    "oneDNN": with_onednn,
}


class Case(NamedTuple):
    """What is on of the fast, and the backend of the convolution."""

    fast: tuple[str, ...]
    backend: str


CASES = {
    "all": Case(tuple(FAST), "auto"),
    "one node": Case(("one node",), "eager"),
    "banded": Case((), "eager"),
    "pieces": Case(("early gradients", "pieces"), "fairseq"),
    "oneDNN": Case(("oneDNN",), "fairseq"),
}
BY_TORCH_AND_FAIRSEQ = Case((), "fairseq")


class Draws:
    """Replacement tokens: those of a first run, in every run.

    Else rounding, where a number is drawn at the border between two tokens, makes another batch.
    """

    def __init__(self):
        self.drawn, self.others, self.place = [], 0, 0

    def loss(self, *inputs):
        result = vocabulary_loss(*inputs)
        if self.place == len(self.drawn):
            self.drawn.append(result.sampled)
        of_first = self.drawn[self.place]
        self.place += 1
        self.others += int((result.sampled != of_first).sum())
        return result._replace(sampled=of_first)

    def start_again(self):
        self.others = self.place = 0


def losses_of(case, data, folder, draws):
    """Of both networks at every update, [updates, 2] in float64."""
    draws.start_again()
    with pytest.MonkeyPatch.context() as patch, unrounded_updates() as updates:
        patch.setattr(heads, "vocabulary_loss", draws.loss)
        for name, turn in FAST.items():
            turn(patch, name in case.fast)
        usual = (data, *TASK, *TINY, *RECIPE, *LONG, "--save-dir", folder)
        run_main(patch, fairseq_cli.train, *usual, "--conv-backend", case.backend)
    forget_earlier_runs()
    return torch.tensor([[each[name] for name in LOSSES] for each in updates]).double()


@pytest.fixture(scope="module")
def expected(corpus, tmp_path_factory):
    draws = Draws()
    folder = tmp_path_factory.mktemp("expected")
    return losses_of(BY_TORCH_AND_FAIRSEQ, corpus.data, folder, draws), draws


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_losses_are_those_of_torch_and_fairseq(corpus, expected, tmp_path, case):
    wanted, draws = expected
    losses = losses_of(case, corpus.data, tmp_path, draws)
    assert losses.shape == (UPDATES, len(LOSSES))
    torch.testing.assert_close(losses, wanted, rtol=1e-5, atol=0)
    assert draws.others <= 2
    # It was a training.
    assert (wanted[-20:].mean(0) < 0.95 * wanted[:20].mean(0)).all()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_resumed_run_is_the_uninterrupted_one(corpus, fairseq_train, tmp_path, monkeypatch, case):
    """Bit for bit, with dropout."""
    for each, turn in FAST.items():
        turn(monkeypatch, each in case.fast)
    usual = ("--dropout", "0.1", "--total-num-update", "30", "--conv-backend", case.backend)
    ends = {"expected": (6,), "run": (3, 6)}
    whole, resumed = [
        [fairseq_train(corpus.data, tmp_path / folder, *usual, "--max-update", end) for end in of]
        for folder, of in ends.items()
    ]
    assert len(resumed[-1].logs["train_inner"]) == 3
    model = resumed[-1].checkpoint()["model"]
    for key, tensor in whole[-1].checkpoint()["model"].items():
        assert torch.equal(tensor, model[key]), key
