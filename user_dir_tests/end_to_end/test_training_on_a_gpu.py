"""Training and validating on a GPU, in every precision that fairseq offers there."""

import math

import pytest
import torch

pytestmark = [pytest.mark.gpu, pytest.mark.pretraining, pytest.mark.speed]

HALF = ("--fp16", "--fp16-no-flatten-grads", "--fp16-init-scale", "4")
PRECISIONS = {
    "float32": (),
    "fp16": HALF,
    "amp": ("--amp",),
    "bfloat16": ("--autocast-dtype", "bfloat16"),
    "float16": ("--autocast-dtype", "float16"),
    "graphs": ("--autocast-dtype", "bfloat16", "--cuda-graphs"),
    "compiled": ("--autocast-dtype", "bfloat16", "--compile"),
    "recomputed": ("--autocast-dtype", "bfloat16", "--checkpoint-activations"),
}
EACH = pytest.mark.parametrize("options", PRECISIONS.values(), ids=PRECISIONS.keys())
EXACT = ("--dropout", "0", "--attention-dropout", "0")


@pytest.fixture
def usual_arguments(usual_arguments):
    return tuple(word for word in usual_arguments if word != "--cpu")


@pytest.fixture
def deterministic(monkeypatch):
    """Kernels that add in one order; where torch has none it says so, and the test shows it."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def losses(run):
    return [float(log["loss"]) for log in run.logs["train_inner"]]


@EACH
def test_it_learns_and_logs(corpus, fairseq_train, tmp_path, options):
    run = fairseq_train(corpus.data, tmp_path / "run", "--max-update", "40", *EXACT, *options)
    updates = losses(run)
    assert sum(updates[-5:]) < 0.9 * sum(updates[:5])
    for log in run.logs["train_inner"]:
        assert math.isfinite(float(log["gnorm"]))
        # What only a device has to say.
        assert float(log["gb_free"]) > 0
        assert ("loss_scale" in log) == bool({"--fp16", "--amp"} & set(options))
    assert all(tensor.isfinite().all() for tensor in run.checkpoint()["model"].values())


@EACH
def test_the_first_loss_is_that_of_a_cpu(corpus, fairseq_train, tmp_path, options):
    """Within what the halves round."""
    arguments = ("--max-update", "1", "--no-save", *EXACT)
    expected = losses(fairseq_train(corpus.data, tmp_path / "cpu", *arguments, "--cpu"))
    result = losses(fairseq_train(corpus.data, tmp_path / "gpu", *arguments, *options))
    assert result == pytest.approx(expected, rel=1e-3 if not options else 2e-2)


@pytest.mark.survival
@EACH
def test_a_resumed_run_is_the_uninterrupted_one(
    corpus, fairseq_train, tmp_path, options, deterministic
):
    usual = ("--total-num-update", "30", "--warmup-updates", "5", *options)
    whole = fairseq_train(corpus.data, tmp_path / "whole", *usual, "--max-update", "12")
    fairseq_train(corpus.data, tmp_path / "parts", *usual, "--max-update", "7")
    resumed = fairseq_train(corpus.data, tmp_path / "parts", *usual, "--max-update", "12")
    if "--fp16" in options:
        # fairseq keeps the weights in half precision, and not the copies in fp32 that it updates:
        # the first loss is that of the same weights, the others those of rounded ones.
        assert losses(resumed)[0] == losses(whole)[7]
        assert losses(resumed) == pytest.approx(losses(whole)[7:], rel=1e-3)
        return
    assert losses(resumed) == losses(whole)[7:]
    for name, tensor in whole.checkpoint()["model"].items():
        assert torch.equal(resumed.checkpoint()["model"][name], tensor), name


def test_what_a_gpu_trained_is_validated_on_a_cpu(
    corpus, fairseq_train, fairseq_validate, tmp_path
):
    run = fairseq_train(corpus.data, tmp_path / "run", "--max-update", "12")
    trained = run.logs["valid"][-1]
    validated = fairseq_validate(corpus.data, run.folder / "checkpoint_last.pt")["valid"][-1]
    for name in ("valid_generator_loss", "valid_discriminator_loss", "valid_discriminator_auc"):
        assert float(validated[name]) == pytest.approx(float(trained[name]), abs=2e-3)


def test_memory_efficient_half_precision_is_refused(corpus, fairseq_train, tmp_path):
    with pytest.raises(SystemExit, match="--memory-efficient-fp16 does not go with convbert_adamw"):
        fairseq_train(corpus.data, tmp_path / "run", "--memory-efficient-fp16")


def test_flattened_half_precision_is_refused(corpus, fairseq_train, tmp_path):
    with pytest.raises(SystemExit, match="--fp16-no-flatten-grads"):
        fairseq_train(corpus.data, tmp_path / "run", "--fp16")
