"""Training and validating through fairseq's own entry points."""

import shutil

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.models.architectures import ARCHITECTURES
from convbert_plugin.training.run_lock import LOCK_FILE
from user_dir_tests.end_to_end.unrounded import unrounded_updates

pytestmark = pytest.mark.pretraining

SCORES = {
    *("loss", "generator_loss", "generator_accuracy", "sampled_accuracy", "replaced_rate"),
    *("discriminator_loss", "discriminator_accuracy", "discriminator_precision"),
    *("discriminator_recall", "discriminator_auc"),
}
TOKENIZER_FILES = ("vocab.txt", "tokenizer_config.json", "dict.txt")
BY_AUC = ("--best-checkpoint-metric", "discriminator_auc", "--maximize-best-checkpoint-metric")


def numbers(log, prefix=""):
    """The scores of one log line."""
    return {name: float(log[prefix + name]) for name in SCORES}


def mean(logs, name):
    return sum(float(log[name]) for log in logs) / len(logs)


def assert_same_parameters(run, expected):
    """Bit for bit."""
    ours, theirs = run.checkpoint()["model"], expected.checkpoint()["model"]
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def curves(folder):
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return {tag: accumulator.Scalars(tag) for tag in accumulator.Tags()["scalars"]}


def test_a_run_learns_and_logs_all_scores(corpus, fairseq_train, tmp_path):
    curves_folder = tmp_path / "curves"
    arguments = ("--max-update", "60", "--tensorboard-logdir", curves_folder, *BY_AUC)
    run = fairseq_train(corpus.data, tmp_path / "run", *arguments)

    updates = run.logs["train_inner"]
    assert len(updates) == 60
    assert mean(updates[-10:], "loss") < mean(updates[:10], "loss") - 3
    assert mean(updates[-10:], "generator_loss") < mean(updates[:10], "generator_loss") - 0.2
    assert updates[0].keys() >= SCORES
    assert {f"train_{name}" for name in SCORES} <= run.logs["train"][0].keys()
    assert {f"valid_{name}" for name in SCORES} <= run.logs["valid"][0].keys()
    assert_curves_are_the_logs(curves_folder, run.logs)
    assert_checkpoint_is_plain(run)
    for name in TOKENIZER_FILES:
        assert (run.folder / name).read_bytes() == (corpus.data / name).read_bytes()


def assert_curves_are_the_logs(folder, logs):
    inner = curves(folder / "train_inner")
    valid = curves(folder / "valid")
    for name in SCORES:
        assert [point.step for point in inner[name]] == list(range(1, 61))
        shown = [float(log[name]) for log in logs["train_inner"]]
        assert [point.value for point in inner[name]] == pytest.approx(shown, abs=1e-3)
        shown = [float(log[f"valid_{name}"]) for log in logs["valid"]]
        assert [point.value for point in valid[name]] == pytest.approx(shown, abs=1e-3)


def assert_checkpoint_is_plain(run):
    """It holds nothing but tensors and Python's own types, the best score among them."""
    aucs = [float(log["valid_discriminator_auc"]) for log in run.logs["valid"]]
    state = run.checkpoint()["extra_state"]
    assert type(state["best"]) is float
    assert type(state["val_loss"]) is float
    assert state["best"] == pytest.approx(max(aucs), abs=1e-4)
    assert run.checkpoint("checkpoint_best.pt")["extra_state"]["val_loss"] == state["best"]


def test_validating_repeats_the_numbers_of_the_training(
    corpus, fairseq_train, fairseq_validate, tmp_path, caplog
):
    run = fairseq_train(corpus.data, tmp_path / "run", "--max-update", "20")
    trained = numbers(run.logs["valid"][-1], "valid_")
    validated = fairseq_validate(corpus.data, run.folder / "checkpoint_last.pt")["valid"][-1]
    assert trained.keys() == SCORES
    assert numbers(validated, "valid_") == pytest.approx(trained, abs=2e-4)
    lines = [record.message for record in caplog.records if "histogram" in record.message]
    assert 0 < max(map(len, lines)) < 1000


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_trains(corpus, fairseq_train, tmp_path, arch):
    small = ("--encoder-layers", "1", "--max-update", "1", "--no-save")
    run = fairseq_train(corpus.data, tmp_path / arch, *small, "--arch", arch)
    assert 0 < float(run.logs["train_inner"][0]["generator_loss"]) < 10


def test_ids_are_the_rows_of_the_vocabulary(corpus, pretrained):
    rows = (corpus.text / "vocab.txt").read_text().split("\n")[:-1]
    vocabulary = Vocabulary.load(str(corpus.data / "dict.txt"))
    assert vocabulary.symbols == rows
    assert len(pretrained.checkpoint()["model"]["embeddings.tokens.weight"]) == len(rows)
    ids = binarized_lines(corpus.data / "train", vocabulary)
    pieces = (corpus.pieces / "train.txt").read_text().split("\n")[:-1]
    assert [[rows[i] for i in line] for line in ids] == [
        [*line.split(), "[SEP]"] for line in pieces
    ]


def binarized_lines(path, vocabulary):
    from fairseq.data import data_utils

    return [line.tolist() for line in data_utils.load_indexed_dataset(str(path), vocabulary)]


# 16 batches an epoch: stopped within the first one, at its end and behind it.
@pytest.mark.survival
def test_a_resumed_run_is_the_uninterrupted_one(corpus, fairseq_train, tmp_path):
    usual = ("--total-num-update", "30", "--warmup-updates", "5", "--num-workers", "1")
    whole = fairseq_train(corpus.data, tmp_path / "whole", *usual, "--max-update", "20")
    assert [log["epoch"] for log in whole.logs["train_inner"]] == [1] * 16 + [2] * 4
    for stop in (4, 16, 18):
        folder = tmp_path / f"stopped_at_{stop}"
        fairseq_train(corpus.data, folder, *usual, "--max-update", str(stop))
        resumed = fairseq_train(corpus.data, folder, *usual, "--max-update", "20")
        assert_same_parameters(resumed, whole)
        following = whole.logs["train_inner"][stop:]
        assert list(map(numbers, resumed.logs["train_inner"])) == list(map(numbers, following))
        scores, expected = (numbers(run.logs["valid"][-1], "valid_") for run in (resumed, whole))
        assert scores == expected


def state_of(folder):
    """What stands in a folder, to the nanosecond of its last change, but for who was there last."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and path.name != LOCK_FILE
    }


@pytest.mark.survival
@pytest.mark.parametrize("limit", ["2 of 2 updates", "1 of 1 epoch"])
def test_a_finished_run_that_is_called_again_stays_as_it_is(
    corpus, fairseq_train, pretrained, tmp_path, caplog, limit
):
    folder = pretrained.folder
    options = ("--max-update", "2", "--tensorboard-logdir", tmp_path / "tensorboard")
    if limit.endswith("epoch"):
        folder, options = tmp_path / "run", ("--max-epoch", "1", "--total-num-update", "99")
        assert not any("finished, with" in line for line in caplog.messages)
        fairseq_train(corpus.data, folder, *options)
    before = state_of(tmp_path)
    for _ in range(2):
        again = fairseq_train(corpus.data, folder, *options)
        assert again.logs == {}
        told = [line for line in caplog.messages if "finished, with" in line]
        assert told == [
            f"{folder}/checkpoint_last.pt: finished, with {limit}: nothing is trained (a higher "
            "--max-update or --max-epoch goes on)"
        ]
        assert state_of(tmp_path) == before
    # What begins from its weights, or asks for more, is no finished run.
    begun = ("--finetune-from-model", folder / "checkpoint_last.pt", "--max-update", "1")
    assert fairseq_train(corpus.data, tmp_path / "begun", *begun).logs["train_inner"]
    updates = again.checkpoint()["optimizer_history"][-1]["num_updates"] + 1
    longer = fairseq_train(corpus.data, folder, "--max-update", updates)
    assert longer.checkpoint()["optimizer_history"][-1]["num_updates"] == updates


@pytest.mark.survival
def test_a_finished_run_that_was_cut_off_at_its_end_is_made_whole(
    corpus, fairseq_train, pretrained, caplog
):
    last, best = (pretrained.folder / f"checkpoint_{name}.pt" for name in ("last", "best"))
    last.write_bytes(best.read_bytes()[:-1000])
    again = fairseq_train(corpus.data, pretrained.folder, "--max-update", "2")
    assert again.logs == {}
    assert any(f"{best}: finished, with 2 of 2 updates" in line for line in caplog.messages)
    assert last.read_bytes() == best.read_bytes()


def test_the_number_of_workers_changes_nothing(corpus, fairseq_train, tmp_path):
    runs = [
        fairseq_train(corpus.data, tmp_path / n, "--num-workers", n, "--max-update", "18")
        for n in ("0", "2")
    ]
    assert_same_parameters(*runs)


@pytest.mark.parametrize("objective", ["replaced_token_detection", "masked_lm"])
def test_any_split_of_an_epoch_gives_the_same_gradient(corpus, fairseq_train, tmp_path, objective):
    """One update an epoch. Clipping and Adam hide a factor, so that its norm is held."""
    options = ("--dropout", "0", "--attention-dropout", "0", "--objective", objective)
    norms = {}
    for size, count in (("999", "1"), ("50", "3"), ("8", "16")):
        split = ("--batch-size", size, "--update-freq", count, "--max-update", "2")
        with unrounded_updates() as updates:
            fairseq_train(corpus.data, tmp_path / size, *options, *split, "--no-save")
        norms[size] = [update["gnorm"] for update in updates]
    assert len(norms["999"]) == 2
    for of_split in norms.values():
        assert of_split == pytest.approx(norms["999"], rel=1e-4)


def test_sharded_data_is_taken_epoch_by_epoch(corpus, fairseq_train, tmp_path, caplog):
    shard = tmp_path / "shard"
    shutil.copytree(corpus.data, shard)
    for suffix in ("bin", "idx"):
        shutil.copy(corpus.data / f"valid.{suffix}", shard / f"train.{suffix}")
    fairseq_train(f"{corpus.data}:{shard}", tmp_path / "run", "--max-update", "20")
    opened = [r.message.split(": ")[0] for r in caplog.records if "documents of" in r.message]
    assert opened == [str(corpus.data / "valid"), str(corpus.data / "train"), str(shard / "train")]


@pytest.mark.parametrize(
    "options",
    [
        ("--objective", "masked_lm"),
        ("--mask-with-replacement",),
        ("--full-blocks",),
        ("--pads-visible",),
        ("--generator-size", "0.5"),
        ("--mask-prob", "0.3"),
        ("--autocast-dtype", "bfloat16"),
    ],
    ids=lambda options: options[0].strip("-"),
)
def test_options_train_save_and_validate(
    corpus, fairseq_train, fairseq_validate, tmp_path, options
):
    # Dropout would hide what is learned in so few updates.
    run = fairseq_train(
        corpus.data, tmp_path / "run", "--max-update", "20", "--dropout", "0", *options
    )
    updates = run.logs["train_inner"]
    assert mean(updates[-5:], "loss") < mean(updates[:5], "loss")
    trained = run.logs["valid"][-1]
    validated = fairseq_validate(corpus.data, run.folder / "checkpoint_last.pt")["valid"][-1]
    assert float(validated["valid_loss"]) == pytest.approx(float(trained["valid_loss"]), abs=1e-3)


def test_masked_language_modelling_has_no_generator(corpus, fairseq_train, tmp_path):
    arguments = ("--objective", "masked_lm", "--max-update", "1")
    run = fairseq_train(corpus.data, tmp_path / "run", *arguments)
    parts = {name.split(".")[0] for name in run.checkpoint()["model"]}
    assert parts == {"embeddings", "encoder", "masked_lm_head"}
    shown = {"loss", "masked_lm_loss", "masked_lm_accuracy"}
    assert shown <= run.logs["train_inner"][0].keys()
    assert not (SCORES - {"loss"}) & run.logs["train_inner"][0].keys()


def test_autocast_computes_otherwise_and_keeps_parameters_in_fp32(corpus, fairseq_train, tmp_path):
    """The losses are near those of float32, and not equal."""
    losses = []
    for dtype in ("float32", "bfloat16"):
        arguments = ("--autocast-dtype", dtype, "--max-update", "2", "--dropout", "0")
        run = fairseq_train(corpus.data, tmp_path / dtype, *arguments)
        losses.append(float(run.logs["train_inner"][0]["loss"]))
        assert {tensor.dtype for tensor in run.checkpoint()["model"].values()} == {torch.float32}
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=2e-2)


def encoder_alone(run, path):
    """A copy of the checkpoint that has lost what pretraining adds to the encoder."""
    state = run.checkpoint()
    for name in list(state["model"]):
        if name.startswith(("generator.", "replaced_token_head.")):
            del state["model"][name]
    torch.save(state, path)
    return path


def test_an_encoder_without_generator_gets_a_fresh_one(
    corpus, pretrained, fairseq_train, tmp_path, caplog
):
    encoder = encoder_alone(pretrained, tmp_path / "encoder.pt")
    arguments = ("--finetune-from-model", encoder, "--lr", "0", "--max-update", "1")
    run = fairseq_train(corpus.data, tmp_path / "run", *arguments)
    messages = [record.message for record in caplog.records]
    assert "the checkpoint has no generator: it starts from a fresh one" in messages
    assert "the checkpoint has no replaced-token head: it starts from a fresh one" in messages
    # With a rate of 0, what was loaded is what is saved.
    ours, theirs = run.checkpoint()["model"], pretrained.checkpoint()["model"]
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        if not name.startswith(("generator.", "replaced_token_head.")):
            assert torch.equal(tensor, theirs[name]), name
    table = "generator.head.dense.weight"
    assert not torch.equal(ours[table], theirs[table])
    assert ours[table].std() == pytest.approx(0.02, rel=0.4)


def test_another_objective_starts_from_the_encoder(
    corpus, pretrained, fairseq_train, tmp_path, caplog
):
    source = pretrained.folder / "checkpoint_last.pt"
    arguments = ("--finetune-from-model", source, "--objective", "masked_lm", "--max-update", "1")
    fairseq_train(corpus.data, tmp_path / "run", *arguments)
    messages = [record.message for record in caplog.records]
    assert "the checkpoint's generator is not used here: dropped" in messages
    assert "the checkpoint has no masked-LM head: it starts from a fresh one" in messages
