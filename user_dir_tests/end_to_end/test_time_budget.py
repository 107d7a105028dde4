"""--budget-minutes: the rate and the end of a run follow its time, resumed and on two processes."""

import json
import types

import fairseq.trainer
import pytest

from convbert_plugin.files.pretraining_records import read_pretraining_record
from convbert_plugin.training.recording import Recording
from convbert_plugin.training.trainer import SurvivingTrainer

pytestmark = [pytest.mark.experiments, pytest.mark.survival]

PEAK, BUDGET, WARMUP = 2e-3, 12, 0.25
BUDGETED = ("--budget-minutes", BUDGET / 60, "--warmup-ratio", WARMUP, "--lr", PEAK)


@pytest.fixture
def clock(monkeypatch):
    """fairseq's, on which each update takes a second and nothing else any time."""
    now = types.SimpleNamespace(seconds=1_000_000.0)
    train_step = fairseq.trainer.Trainer.train_step

    def slow_step(*arguments, **options):
        now.seconds += 1
        return train_step(*arguments, **options)

    monkeypatch.setattr(fairseq.trainer.Trainer, "train_step", slow_step)
    monkeypatch.setattr(fairseq.trainer, "time", types.SimpleNamespace(time=lambda: now.seconds))
    return now


def rate(seconds):
    """As released, of the time in place of updates."""
    share = seconds / BUDGET
    return PEAK * (1 - share) * min(1, share / WARMUP)


def recorded(run):
    return read_pretraining_record(run.folder / "pretraining.json")


def test_the_rate_and_the_end_follow_the_time_over_resumes(
    corpus, fairseq_train, tmp_path, clock, caplog
):
    for parts in ((), ("--max-update", "5")):
        folder = tmp_path / f"run{len(parts)}"
        first = fairseq_train(corpus.data, folder, *BUDGETED, *parts) if parts else None
        clock.seconds += 500
        run = fairseq_train(corpus.data, folder, *BUDGETED)
        lines = [*(first.logs["train_inner"] if first else ()), *run.logs["train_inner"]]
        # What is logged with an update is the rate of the next.
        rates = [float(line["lr"]) for line in lines]
        assert rates == pytest.approx([rate(update) for update in range(1, 13)], rel=1e-5)
        record = recorded(run)
        assert [point["lr"] for point in record["points"]] == pytest.approx(
            [rate(update) for update in range(1, 13)], rel=1e-9, abs=1e-15
        )
        assert [point["seconds"] for point in record["points"]] == list(range(1, 13))
        assert (record["ended"], record["budget_minutes"]) == ("budget", BUDGET / 60)
        assert record["settings"]["budget_minutes"] == BUDGET / 60
        # The last update is validated and saved.
        assert record["validations"][-1]["updates"] == 12
        state = run.checkpoint()
        assert state["optimizer_history"][-1]["num_updates"] == 12
        # No other way to end stands in what is kept.
        assert record["settings"]["stop_time_hours"] == 0
        assert state["cfg"]["optimization"]["stop_time_hours"] == 0
    fairseq_train(corpus.data, folder, *BUDGETED)
    assert "finished, with 0.2 of 0.2 minutes: nothing is trained (a higher" in caplog.text
    assert recorded(run) == record
    # More time goes on.
    longer = ("--budget-minutes", 14 / 60, "--warmup-ratio", WARMUP, "--lr", PEAK)
    run = fairseq_train(corpus.data, folder, *longer)
    assert [point["updates"] for point in recorded(run)["points"]] == list(range(1, 15))
    assert recorded(run)["settings"]["before"] == [{"budget_minutes": BUDGET / 60}]


def test_the_time_of_the_run_that_it_begins_from_does_not_count(
    corpus, fairseq_train, tmp_path, clock
):
    source = fairseq_train(corpus.data, tmp_path / "source", *BUDGETED, "--max-update", "9")
    begun = ("--finetune-from-model", source.folder / "checkpoint_last.pt")
    for updates in ("4", "99"):
        arguments = (*BUDGETED, *begun, "--max-update", updates, "--log-interval", "3")
        run = fairseq_train(corpus.data, tmp_path / "run", *arguments)
    record = recorded(run)
    assert [point["seconds"] for point in record["points"]] == [3, 6, 9, 12]
    assert (record["points"][-1]["updates"], record["ended"]) == (12, "budget")


def test_without_it_nothing_is_said_of_it(corpus, fairseq_train, tmp_path):
    run = fairseq_train(corpus.data, tmp_path / "run", "--max-update", "1", "--no-last-checkpoints")
    record = recorded(run)
    assert record["budget_minutes"] is None
    assert "budget_minutes" not in record["settings"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--stop-time-hours", "1"), "--budget-minutes and --stop-time-hours exclude each other"),
        (("--warmup-ratio", "0", "--warmup-updates", "5"), "--budget-minutes: the rate follows"),
        (("--total-num-update", "5"), "--budget-minutes: the rate follows the time, not updates"),
        (("--budget-minutes", "0"), "--budget-minutes 0.0: choose a number of minutes above 0"),
        (("--budget-minutes", "nan"), "--budget-minutes nan: choose a number of minutes above 0"),
    ],
)
def test_what_does_not_go_with_it_is_one_line(corpus, fairseq_train, tmp_path, arguments, line):
    with pytest.raises(SystemExit) as ended:
        fairseq_train(corpus.data, tmp_path / "run", *BUDGETED, *arguments)
    assert str(ended.value).startswith(line)
    assert not list((tmp_path / "run").glob("*.pt"))


def test_two_processes_agree_on_it(corpus, train_on_two, usual_arguments, tmp_path):
    usual = (corpus.data, *usual_arguments, "--save-dir", tmp_path / "two")
    budget = ("--budget-minutes", "0.02", "--warmup-ratio", "0.1", "--disable-validation")
    train_on_two(*usual, *budget)
    ours, theirs = (
        [update["lr"] for update in json.loads((tmp_path / f"updates_of_{rank}.json").read_text())]
        for rank in (0, 1)
    )
    assert ours == theirs
    assert ours[-1] == 0 < ours[-2]
    record = read_pretraining_record(tmp_path / "two" / "pretraining.json")
    assert (record["ended"], record["budget_minutes"]) == ("budget", 0.02)
    # Between them they know the time before an update.
    points = record["points"]
    assert all(point["lr"] == pytest.approx(at(point["seconds"]), rel=1e-9) for point in points)


def at(seconds):
    share = min(seconds / 1.2, 1)
    return 2e-3 * (1 - share) * min(1, share / 0.1)


def test_workers_that_have_agreed_on_no_time_yet_take_that_of_the_checkpoint(monkeypatch):
    monkeypatch.setattr(SurvivingTrainer, "data_parallel_world_size", 2)
    trainer = SurvivingTrainer.__new__(SurvivingTrainer)
    trainer.recording = Recording()
    trainer._start_time, trainer._previous_training_time = 0.0, 7.0
    trainer._cumulative_training_time = None
    assert trainer.training_seconds() == 7.0
    trainer._cumulative_training_time = 9.5
    assert trainer.training_seconds() == 9.5
