"""The script for machines with a GPU, at toy size on a CPU, and how its stages end."""

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import convbert_plugin

pytestmark = pytest.mark.speed

CHECKOUT = Path(convbert_plugin.__file__).parents[1]
STAGES = ("kernels", "tests", "training", "step", "bench", "pretraining")


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
def test_every_stage_runs_on_a_cpu(check, corpus, tmp_path):
    status, printed, figures = check("--data", corpus.data)
    assert (status, [row["status"] for row in figures.values()]) == (0, ["pass"] * 6), printed
    assert tuple(figures) == STAGES
    assert set(figures["training"]["figures"]["modes"]) >= {"fp32", "bf16"}
    assert len(figures["step"]["figures"]["steps"]["bf16"]["largest"]) == 10
    curve = figures["pretraining"]["figures"]["curve"]
    assert curve[-1]["generator_loss"] < curve[0]["generator_loss"]
    assert (tmp_path / "out" / "pretraining.png").stat().st_size > 1000
    assert "passed" in figures["tests"]["line"]


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
def module():
    place = CHECKOUT / "examples" / "gpu" / "check.py"
    spec = importlib.util.spec_from_file_location("gpu_check", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ENDS = {
    "a status": ("print('so'); raise SystemExit(3)", "fail", "so"),
    "a line": ("print('first'); print('== last ==')", "pass", "last"),
    "nothing": ("", "pass", "it said nothing"),
    "too long": ("import time; time.sleep(60)", "fail", "not done within 1 s"),
    # The outcome of a stage counts, also where its process dies after it.
    "an outcome": (
        'import os, sys; open(sys.argv[1], \'w\').write(\'{"status": "skip", "line": "why"}\');'
        "os.abort()",
        "skip",
        "why",
    ),
}


@pytest.mark.parametrize(("code", "status", "line"), ENDS.values(), ids=ENDS.keys())
def test_how_a_stage_ends(module, tmp_path, code, status, line):
    stage = module.Stage("one", 1, lambda _, outcome, __: [sys.executable, "-c", code, outcome])
    ended = module.run(stage, argparse.Namespace(out=tmp_path), 1.4)
    assert ended["status"] == status
    assert ended["line"].startswith(line)
    assert not list(tmp_path.glob("*.json"))


def test_what_is_lacking_is_skipped(module, tmp_path):
    stage = module.Stage("one", 1, None, lambda: "there is no convbert bench")
    ended = module.run(stage, argparse.Namespace(out=tmp_path), 9.0)
    assert ended == {"status": "skip", "line": "there is no convbert bench", "seconds": 0.0}
    ended = module.run(stage, argparse.Namespace(out=tmp_path), 0.5)
    assert ended["line"] == "no time is left"


def test_every_test_for_a_gpu_is_found(module):
    """Those that a whole collection would take, by the text of their files."""
    chosen = module.tests(argparse.Namespace(device="cuda", workers=0), None, 1)
    files = {Path(word).name for word in chosen if word.endswith(".py")}
    assert {"test_on_devices.py", "test_training_on_a_gpu.py", "test_extreme_inputs.py"} <= files
    assert "test_shape.py" not in files


def test_a_gpu_that_is_not_there(module, monkeypatch, capsys):
    monkeypatch.setattr(module, "has_gpu", lambda: False)
    monkeypatch.setattr(sys, "argv", ["check.sh"])
    with pytest.raises(SystemExit):
        module.parse_arguments()
    assert "there is no GPU here: give --device cpu" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["check.sh", "--stages", "kernel"])
    with pytest.raises(SystemExit):
        module.parse_arguments()
    assert "--stages kernel: choose from kernels," in capsys.readouterr().err
