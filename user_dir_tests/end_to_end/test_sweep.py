"""What many trainings share, with small programs in place of the trainings."""

import argparse
import fcntl
import importlib.util
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

import convbert_plugin

pytestmark = [pytest.mark.glue, pytest.mark.survival]

PATH = Path(convbert_plugin.__file__).parents[1] / "examples" / "sweep.py"
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TRAINS = """
import sys
open(f"{sys.argv[1]}/checkpoint_last.pt", "w").close()
"""
FAILS = """
import sys
print("Traceback\\n\\n  ValueError: too much  \\n")
print("Set the environment variable HYDRA_FULL_ERROR=1 for a complete stack trace.")
sys.exit(int(sys.argv[1].endswith("2")))
"""
HANGS = """
import sys, time
open(f"{sys.argv[1]}/checkpoint_last.pt", "w").close()
time.sleep(60)
"""


@pytest.fixture(scope="module")
def sweep():
    spec = importlib.util.spec_from_file_location("sweep", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def runs(sweep, tmp_path):
    """Two seeds of a task."""
    return [sweep.Run("rte", seed, tmp_path / f"seed{seed}") for seed in (1, 2)]


TELLS = """
import os, sys
open(f"{sys.argv[1]}/waiting", "w").write(str(os.environ.get("GOMP_SPINCOUNT")))
"""


def command(program, *words):
    return lambda run: [sys.executable, "-c", program, str(run.folder), *words]


def do(sweep, program, runs, *words):
    """Do the runs; what was begun, and what failed."""
    doing = sweep.Sweep(command(program, *words))
    for run in runs:
        doing.work(run)
    return doing.failures


def test_what_is_done_is_skipped_and_what_was_cut_off_goes_on(sweep, runs, capsys):
    assert do(sweep, TRAINS, runs) == []
    assert capsys.readouterr().out.splitlines() == [
        *("rte, seed 1: begins", "rte, seed 1: done", "rte, seed 2: begins", "rte, seed 2: done")
    ]
    (runs[1].folder / "done").unlink()
    assert do(sweep, TRAINS, runs) == []
    assert capsys.readouterr().out.splitlines() == [
        *("rte, seed 1: done before", "rte, seed 2: goes on", "rte, seed 2: done")
    ]


def test_a_run_that_fails_says_why_and_does_not_keep_the_others(sweep, runs):
    log = runs[1].folder / "train.log"
    assert do(sweep, FAILS, runs[::-1]) == [f"{log}: ValueError: too much"]
    assert [(run.folder / "done").exists() for run in runs] == [True, False]


HYDRA = """
print("Key 'old' not in 'FairseqConfig'")
print("    full_key: old")
print("    object_type=FairseqConfig")
print("Set the environment variable HYDRA_FULL_ERROR=1 for a complete stack trace.")
raise SystemExit(1)
"""
KILLED = """
import os, signal
print("a line of training", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
SILENT = "raise SystemExit(1)"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (HYDRA, "old: Key 'old' not in 'FairseqConfig'"),
        (KILLED, "ended by SIGKILL, perhaps for want of memory"),
        (KILLED.replace("KILL)", "SEGV)"), "ended by SIGSEGV"),
        (SILENT, "nothing was printed"),
    ],
)
def test_why_a_run_failed(sweep, runs, program, reason):
    # What an earlier attempt said is not the reason of this one.
    do(sweep, FAILS, runs[1:])
    log = runs[1].folder / "train.log"
    assert do(sweep, program, runs[1:]) == [f"{log}: {reason}"]


def test_why_runs_failed_is_said_where_there_is_nothing_to_report(sweep, runs, tmp_path, capfd):
    arguments = argparse.Namespace(random_weights=True, out=tmp_path, jobs=1)
    handlers = {number: signal.getsignal(number) for number in ENDING}
    try:
        with pytest.raises(SystemExit) as ended:
            sweep.train_all(runs[1:], command(HYDRA), arguments)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert ended.value.code == 1
    # And nothing else.
    (line,) = capfd.readouterr().err.splitlines()
    assert line == f"{runs[1].folder / 'train.log'}: old: Key 'old' not in 'FairseqConfig'"


def test_what_failed_before_it_was_trained_may_be_put_right(sweep, runs):
    assert len(do(sweep, FAILS, runs[1:], "lr=1")) == 1
    assert do(sweep, TRAINS, runs[1:], "lr=2") == []


def test_other_settings_are_not_taken_for_the_same(sweep, runs):
    assert do(sweep, TRAINS, runs, "lr=1") == []
    settings = runs[0].folder / "settings.txt"
    assert settings.read_text() == f"{runs[0].folder}\nlr=1\n"
    (failure,) = do(sweep, TRAINS, runs[:1], "lr=2")
    assert failure.startswith(f"{runs[0].folder}: a run with other settings (see settings.txt")
    assert "before: lr=1; now: lr=2)" in failure
    assert settings.read_text() == f"{runs[0].folder}\nlr=1\n"


def test_one_at_a_time_trains_in_a_folder(sweep, runs):
    runs[0].folder.mkdir()
    with open(runs[0].folder / "train.log", "a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        assert do(sweep, TRAINS, runs) == [f"{runs[0].folder}: another training is running there"]
    assert do(sweep, TRAINS, runs) == []


def test_a_stop_ends_what_is_running_and_begins_no_more(sweep, runs):
    doing = sweep.Sweep(command(HANGS))
    working = threading.Thread(target=lambda: list(map(doing.work, runs)))
    working.start()
    while not (runs[0].folder / "checkpoint_last.pt").exists():
        time.sleep(0.01)
    doing.stop(signal.SIGTERM, None)
    working.join(timeout=30)
    assert not working.is_alive()
    assert doing.failures == []
    assert not (runs[0].folder / "done").exists()
    assert not runs[1].folder.exists()
    assert do(sweep, TRAINS, runs) == []


def test_trainings_wait_as_the_scripts_do(sweep, runs, monkeypatch):
    for name in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "KMP_BLOCKTIME", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    assert do(sweep, TELLS, runs[:1]) == []
    assert (runs[0].folder / "waiting").read_text() == "1000"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert do(sweep, TELLS, runs[1:]) == []
    assert (runs[1].folder / "waiting").read_text() == "None"
