"""Losses and gradients that are not finite: one line and the batch, or left out as if never had."""

import subprocess

import fairseq_cli.train
import pytest
import torch

from convbert_plugin.cli import main as convbert
from user_dir_tests.end_to_end import planting
from user_dir_tests.end_to_end.conftest import Run, free_port
from user_dir_tests.end_to_end.glue_runs import GLUE_USUAL, write_similarities
from user_dir_tests.end_to_end.planting import (
    InGradient,
    InTarget,
    InWeight,
    before_updates,
    without,
)

pytestmark = [pytest.mark.pretraining, pytest.mark.survival]

TABLE = "embeddings.tokens.weight"
GRADIENT = "encoder.layers.1.feed_forward.outer.weight"
# What a log says beside the time that it took.
OF_TIME = {"wps", "ups", "train_wall", "wall"}
# The schedule has to be the same wherever a run stops.
SCHEDULE = ("--total-num-update", "30", "--warmup-updates", "5")


@pytest.fixture(scope="session")
def similarities(corpus, tmp_path_factory):
    """Prepared pairs of texts with scores."""
    folder = tmp_path_factory.mktemp("not_finite")
    words = ("--glue-task", "sts-b", "--tokenizer", corpus.pieces)
    arguments = (*words, write_similarities(folder / "STS-B"), folder / "data")
    assert convbert(["prepare-glue", *map(str, arguments)]) == 0
    return folder / "data"


@pytest.fixture
def fine_tune(run_fairseq, similarities):
    def run(folder, *arguments):
        arguments = (similarities, *GLUE_USUAL, "--save-dir", folder, *arguments)
        return Run(folder, run_fairseq(fairseq_cli.train, *arguments))

    return run


def logged(run):
    return [
        {name: number for name, number in line.items() if name not in OF_TIME}
        for line in run.logs["train_inner"]
    ]


def assert_same_training(run, other, name="checkpoint_last.pt"):
    ours, theirs = (one.checkpoint(name) for one in (run, other))
    for name, tensor in theirs["model"].items():
        assert torch.equal(ours["model"][name], tensor), name
    ours, theirs = (one["last_optimizer_state"]["state"] for one in (ours, theirs))
    assert ours.keys() == theirs.keys()
    for number, state in theirs.items():
        assert all(torch.equal(ours[number][name], value) for name, value in state.items())


def kept_in(folder):
    return sorted(path.name for path in folder.glob("not_finite*"))


def lines_of(caplog):
    return [r.message for r in caplog.records if "is not finite" in r.message]


def test_an_update_that_is_left_out_was_never_there(corpus, fairseq_train, tmp_path, caplog):
    """With two batches an update, dropout, and an epoch that ends."""
    arguments = (
        *("--update-freq", "2", "--max-update", "10"),
        *("--skip-nonfinite", "2", *SCHEDULE),
    )
    with before_updates(InGradient(GRADIENT, 1, 2, 7)):
        run = fairseq_train(corpus.data, tmp_path / "run", *arguments)
    [first, second, third] = lines_of(caplog)
    assert first.startswith(f"update 2: the gradient of {GRADIENT} is not finite (examples ")
    assert first.endswith("not_finite_2.pt): left out (1 in a row, 2 at most)")
    assert second.endswith("not_finite_2_2.pt): left out (2 in a row, 2 at most)")
    assert third.startswith("update 6: ")
    assert third.endswith("not_finite_6.pt): left out (1 in a row, 2 at most)")
    with before_updates(without(1, 2, 7)):
        other = fairseq_train(corpus.data, tmp_path / "other", *arguments)
    assert_same_training(run, other)
    assert logged(run) == logged(other)


def test_a_batch_of_fine_tuning_is_left_out(fine_tune, tmp_path, caplog):
    arguments = ("--max-update", "6", "--skip-nonfinite", "1", *SCHEDULE)
    with before_updates(InTarget(2, 4)):
        run = fine_tune(tmp_path / "run", *arguments)
    lines = lines_of(caplog)
    assert [line.split(" (examples")[0] for line in lines] == [
        f"update {number}: what the data hold (target) is not finite" for number in (3, 4)
    ]
    with before_updates(without(2, 4)):
        other = fine_tune(tmp_path / "other", *arguments)
    assert_same_training(run, other)
    assert logged(run) == logged(other)


def test_a_row_of_the_embeddings_that_few_batches_use(fine_tune, tmp_path):
    """The others train on as they would."""
    tokens = {}

    def look(trainer, batches, number):
        tokens[number] = set(batches[0]["net_input"]["src_tokens"].flatten().tolist())

    arguments = ("--max-update", "9", "--max-epoch", "1", "--skip-nonfinite", "9", *SCHEDULE)
    with before_updates(look):
        fine_tune(tmp_path / "look", *arguments)
    users = {
        token: [number for number, held in tokens.items() if token in held]
        for token in set.union(*tokens.values())
    }
    row = min(users, key=lambda token: len(users[token]))
    assert 0 < len(users[row]) < len(tokens)
    with before_updates(InWeight(TABLE, row, 0)):
        run = fine_tune(tmp_path / "run", *arguments, "--disable-validation")
    with before_updates(without(*users[row])):
        other = fine_tune(tmp_path / "other", *arguments, "--disable-validation")
    ours, theirs = run.checkpoint()["model"], other.checkpoint()["model"]
    assert ours[TABLE][row].isnan().all()
    ours[TABLE][row] = theirs[TABLE][row]
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_without_the_flag_the_first_ends_the_run(corpus, fairseq_train, tmp_path):
    seen, plant = [], InGradient(GRADIENT, 2)

    def plant_and_look(trainer, batches, number):
        plant(trainer, batches, number)
        seen.append(batches)

    folder = tmp_path / "run"
    with before_updates(plant_and_look), pytest.raises(SystemExit) as ended:
        fairseq_train(corpus.data, folder, "--max-update", "5", "--update-freq", "2")
    path = folder / "not_finite_3.pt"
    examples = ", ".join(str(number) for number in seen[2][0]["id"].tolist())
    assert ended.value.code == (
        f"update 3: the gradient of {GRADIENT} is not finite (examples {examples}; kept as "
        f"{path}): lower --lr, or leave such updates out by --skip-nonfinite 10"
    )
    assert [path.name for path in folder.glob("*.pt")] == [path.name]
    kept = torch.load(path, weights_only=True)
    assert (kept["update"], kept["batch"]) == (3, 0)
    for batch, expected in zip(kept["batches"], seen[2], strict=True):
        assert_same_values(batch, expected)


def assert_same_values(one, other):
    if isinstance(other, dict):
        assert one.keys() == other.keys()
        for name, value in other.items():
            assert_same_values(one[name], value)
    else:
        assert type(one) is type(other)
        assert torch.equal(one, other) if torch.is_tensor(other) else one == other


def test_no_more_than_so_many_in_a_row(corpus, fairseq_train, tmp_path):
    name = "generator.head.bias"
    folder = tmp_path / "run"
    with before_updates(InWeight(name, 3, 1)), pytest.raises(SystemExit) as ended:
        fairseq_train(corpus.data, folder, "--max-update", "9", "--skip-nonfinite", "2")
    assert ended.value.code.startswith(
        f"update 2: the loss is not finite, nor is {name} (examples "
    )
    assert ended.value.code.endswith(
        "): after 2 updates that were left out: go back to an earlier checkpoint (copy it over "
        "checkpoint_last.pt), or lower --lr"
    )
    assert kept_in(folder) == ["not_finite_2.pt", "not_finite_2_2.pt", "not_finite_2_3.pt"]


@pytest.fixture
def on_two(forked, corpus, usual_arguments):
    """Train on two processes with what is planted; the exit status and error of each."""

    def run(folder, planted, *arguments):
        arguments = (
            *(*planted, corpus.data, *usual_arguments, "--save-dir", folder),
            *("--distributed-world-size", "2", "--distributed-no-spawn"),
            *("--distributed-init-method", f"tcp://localhost:{free_port()}"),
            *("--distributed-backend", "gloo", "--ddp-backend", "legacy_ddp"),
            *(*SCHEDULE, "--save-interval-updates", "3", *arguments),
        )
        command = ["python", planting.__file__, *map(str, arguments), "--distributed-rank"]
        pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        both = [subprocess.Popen([*command, rank], env=forked, **pipes) for rank in "01"]
        said = [process.communicate(timeout=100) for process in both]
        return [(one.returncode, *texts) for one, texts in zip(both, said, strict=True)]

    return run


def test_two_processes_leave_out_and_stop_alike(on_two, tmp_path):
    """The gradients of the second of them."""
    run = on_two(tmp_path / "run", (GRADIENT, 1, "1,4,5"), "--skip-nonfinite", "1")
    said = f"update 4: the gradient of {GRADIENT} is not finite (examples "
    for status, log, error in run:
        assert status == 1
        line = error.splitlines()[-1]
        assert line.startswith(said)
        assert " of worker 1; kept as " in line
        assert "Traceback" not in error
        assert log.count("left out (1 in a row, 1 at most)") == 2
    other = on_two(tmp_path / "other", ("-", 0, "1"), "--max-update", "3")
    assert [status for status, *_ in other] == [0, 0], other
    folders = (Run(tmp_path / name, {}) for name in ("run", "other"))
    assert_same_training(*folders, "checkpoint_1_3.pt")
    names = ["not_finite_2_worker_1.pt", "not_finite_4_worker_1.pt", "not_finite_4_worker_1_2.pt"]
    assert kept_in(tmp_path / "run") == names
