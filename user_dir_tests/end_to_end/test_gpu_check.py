"""How the stages of the script for machines with a GPU end; test_pages.py runs them all."""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import convbert_plugin

pytestmark = pytest.mark.speed

CHECKOUT = Path(convbert_plugin.__file__).parents[1]


@pytest.fixture
def check(forked, tmp_path):
    """Run the script on a CPU; its exit status, what it printed, and the figures."""

    def run(*arguments):
        out = tmp_path / "out"
        words = ["bash", "examples/gpu/check.sh", "--device", "cpu", "--toy", "--out", out]
        finished = subprocess.run(
            [*map(str, words), *map(str, arguments)],
            cwd=CHECKOUT,
            env={**forked, "PYTHON": "python"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        figures = out / "figures.json"
        stages = json.loads(figures.read_text())["stages"] if figures.exists() else {}
        return finished.returncode, finished.stdout, stages

    return run


@pytest.mark.slow
def test_a_stage_that_fails_does_not_keep_the_others(check, tmp_path):
    stages = ("--stages", "training,step,kernels")
    status, printed, figures = check("--data", tmp_path / "nowhere", *stages)
    assert status == 1
    ended = {name: row["status"] for name, row in figures.items()}
    assert ended == {"kernels": "pass", "training": "fail", "step": "fail"}
    assert "nowhere" in figures["training"]["line"]
    assert printed.count("FAILED") == 4
    status, _, figures = check(*stages[:1], "training,step")
    assert status == 0
    assert [row["line"] for row in figures.values()] == ["no --data"] * 2


@pytest.fixture
def load(monkeypatch):
    """Loads a file beside the script."""
    folder = CHECKOUT / "examples" / "gpu"
    monkeypatch.syspath_prepend(str(folder))

    def load(name):
        spec = importlib.util.spec_from_file_location(f"gpu_{name}", folder / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in ("measuring", "forking"):
        sys.modules.pop(name, None)


ENDS = {
    "a status": ("print('so'); raise SystemExit(3)", "fail", "so"),
    "a line": ("print('first'); print('== last ==')", "pass", "last"),
    "nothing": ("", "pass", "it said nothing"),
    "an error": ("raise ValueError('no')", "fail", "ValueError: no"),
    "too long": ("import time; time.sleep(60)", "fail", "not done within 1 s"),
    # The outcome of a stage counts, also where its process dies after it.
    "an outcome": (
        "import os, sys; place = sys.argv[sys.argv.index('--outcome') + 1]\n"
        'open(place, \'w\').write(\'{"status": "skip", "line": "why"}\'); os.kill(os.getpid(), 9)',
        "skip",
        "why",
    ),
}


@pytest.fixture
def run_stage(load, tmp_path):
    def run(code, seconds):
        module, script = load("check"), tmp_path / "check_one.py"
        script.write_text(code)
        options = argparse.Namespace(out=tmp_path, device="cpu", toy=True, data=None, workers=0)
        return module.run(module.Stage("one", 1, script), options, seconds)

    return run


@pytest.mark.process
def test_what_a_stage_has_so_far(run_stage):
    """It comes to no end, and what it kept counts."""
    code = (
        "import pathlib, sys, time, types, measuring\n"
        "place = pathlib.Path(sys.argv[sys.argv.index('--outcome') + 1])\n"
        "outcome = measuring.Outcome('pass', 'so far', {'a': 1})\n"
        "measuring.keep(types.SimpleNamespace(outcome=place), outcome)\n"
        "time.sleep(60)"
    )
    ended = run_stage(code, 3.0)
    assert ended["status"] == "fail"
    assert ended["line"] == "not done within 3 s; so far"
    assert ended["figures"] == {"a": 1}


@pytest.mark.process
@pytest.mark.parametrize(("code", "status", "line"), ENDS.values(), ids=ENDS.keys())
def test_how_a_stage_ends(run_stage, tmp_path, code, status, line):
    ended = run_stage(code, 1.4)
    assert ended["status"] == status
    assert ended["line"].startswith(line)
    assert not list(tmp_path.glob("*.json"))


def test_a_stage_for_which_no_time_is_left(run_stage):
    assert run_stage("raise ValueError", 0.5)["line"] == "no time is left"


@pytest.mark.process
def test_what_a_stage_started_ends_with_it(run_stage, tmp_path):
    code = f"import subprocess; subprocess.Popen(['sleep', '{tmp_path.name[-3:]}{PROCESSES}'])"
    code += "\nimport time; time.sleep(60)"
    assert run_stage(code, 1.2)["line"].startswith("not done within 1 s")
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if is_running(path)]
    assert not left


# Seconds that nobody else sleeps.
PROCESSES = "86399.5"


def is_running(path):
    try:
        return PROCESSES in path.read_text()
    except OSError:
        return False


@pytest.mark.process
def test_work_that_is_spread_and_not_done(load):
    """What was told before the end counts."""
    forking = load("forking")

    def work(item, emit):
        emit(item)
        time.sleep(60 if item == "slow" else 0)
        emit(item * 2)

    results, undone = forking.spread(work, ["a", "slow", "b", "c", "d"], 2, 1.0)
    assert sorted(results) == ["a", "aa", "b", "bb", "d", "dd", "slow"]
    # The one that is slow, and the one behind it.
    assert undone == 2


def test_every_test_for_a_gpu_is_found(load):
    """Those that a whole collection would take, by the text of their files."""
    chosen = load("check_tests").chosen_tests("cuda")
    files = {Path(word).name for word in chosen if word.endswith(".py")}
    assert {"test_on_devices.py", "test_training_on_a_gpu.py", "test_extreme_inputs.py"} <= files
    assert "test_shape.py" not in files


def test_a_gpu_that_is_not_there(load, monkeypatch, capsys):
    check = load("check")
    monkeypatch.setattr(check, "has_gpu", lambda: False)
    monkeypatch.setattr(sys, "argv", ["check.sh"])
    with pytest.raises(SystemExit):
        check.parse_arguments()
    assert "there is no GPU here: give --device cpu" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["check.sh", "--stages", "kernel"])
    with pytest.raises(SystemExit):
        check.parse_arguments()
    assert "--stages kernel: choose from kernels," in capsys.readouterr().err
