"""--compile, --checkpoint-activations and --cuda-graphs through fairseq-train."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from convbert_plugin.errors import UserError
from convbert_plugin.modules import training_passes
from convbert_plugin.training import fairseq_options
from convbert_plugin.training.run_lock import LOCK_FILE

pytestmark = [pytest.mark.pretraining, pytest.mark.speed]

FLAGS = {
    "compiled": ("--compile",),
    "recomputed": ("--checkpoint-activations",),
    "both": ("--compile", "--checkpoint-activations"),
}
# One of several lengths, and with dropout.
USUAL = (
    *("--max-tokens", "150", "--update-freq", "2", "--dropout", "0.1"),
    *("--total-num-update", "30"),
)

NO_DROPOUT = ("--dropout", "0", "--attention-dropout", "0")


@pytest.fixture
def compiles(monkeypatch):
    """How often something is compiled, by what keeps the operations and their order."""
    torch.compiler.reset()
    counter = CompileCounterWithBackend("eager")
    monkeypatch.setattr(training_passes, "BACKEND", counter)
    yield lambda: counter.frame_count
    torch.compiler.reset()


def parameters_of(run):
    return run.checkpoint()["model"]


def assert_equal(ours, theirs):
    """Bit for bit, under the same names."""
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS.keys())
def test_a_resumed_run_is_the_uninterrupted_one(
    corpus, fairseq_train, fairseq_validate, tmp_path, compiles, flags
):
    expected = fairseq_train(
        corpus.data, tmp_path / "expected", *USUAL, *flags, "--max-update", "6"
    )
    stopped = fairseq_train(corpus.data, tmp_path / "run", *USUAL, *flags, "--max-update", "3")
    other = shutil.copytree(stopped.folder, tmp_path / "other")
    run = fairseq_train(corpus.data, tmp_path / "run", *USUAL, *flags, "--max-update", "6")
    assert_equal(parameters_of(run), parameters_of(expected))
    # Three times a probe, then a layer of each network, with pads and without.
    assert compiles() <= 3 + 4
    assert (compiles() > 3) == ("--compile" in flags)
    trained = run.logs["valid"][-1]["valid_loss"]
    before = compiles()
    validated = fairseq_validate(corpus.data, run.folder / "checkpoint_last.pt")["valid"][-1]
    assert float(validated["valid_loss"]) == pytest.approx(float(trained), abs=1e-3)
    # It goes on without them as well.
    run = fairseq_train(corpus.data, other, *USUAL, "--max-update", "4")
    assert len(run.logs["train_inner"]) == 1
    assert compiles() == before


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS.keys())
def test_what_is_learned_is_the_same(corpus, fairseq_train, tmp_path, compiles, flags):
    """To rounding; recomputed layers as they are bit for bit, with dropout too."""
    dropout = () if "--compile" in flags else ("--dropout", "0.1", "--attention-dropout", "0.1")
    usual = (*USUAL, *NO_DROPOUT, *dropout, "--max-update", "2")
    expected = fairseq_train(corpus.data, tmp_path / "expected", *usual)
    run = fairseq_train(corpus.data, tmp_path / "run", *usual, *flags)
    ours, theirs = parameters_of(run), parameters_of(expected)
    if "--compile" not in flags:
        assert_equal(ours, theirs)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.allclose(tensor, theirs[name], rtol=0, atol=2e-5), name


def test_a_missing_compiler_is_told_before_training(corpus, fairseq_train, tmp_path, monkeypatch):
    def fail(graph, inputs):
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(training_passes, "BACKEND", fail)
    with pytest.raises(SystemExit) as error:
        fairseq_train(corpus.data, tmp_path / "run", "--compile", "--max-update", "1")
    assert str(error.value).startswith("--compile: torch cannot compile here (")
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {LOCK_FILE}


def test_graphs_that_cannot_be_are_told_before_training(
    corpus, fairseq_train, tmp_path, monkeypatch
):
    def told(*flags):
        with pytest.raises(SystemExit) as error:
            fairseq_train(corpus.data, tmp_path / "run", "--cuda-graphs", *flags)
        return str(error.value)

    assert told() == "--cuda-graphs needs a GPU: leave it out"
    monkeypatch.setattr(fairseq_options, "runs_on_gpu", lambda cfg: True)
    recomputed = told("--checkpoint-activations")
    assert recomputed.startswith("--cuda-graphs does not go with --checkpoint-activations")
    root = SimpleNamespace(distributed_training=SimpleNamespace(distributed_world_size=2))
    with pytest.raises(UserError, match="--cuda-graphs is for one GPU and there are 2 workers"):
        fairseq_options.check_one_gpu(SimpleNamespace(_get_root=lambda: root))
