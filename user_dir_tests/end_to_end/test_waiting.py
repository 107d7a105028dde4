"""How the scripts of examples/ have threads wait, unless the user chose."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
CHOICES = {
    "OMP_WAIT_POLICY": "ACTIVE",
    "GOMP_SPINCOUNT": "7",
    "OMP_NUM_THREADS": "1",
    "KMP_BLOCKTIME": "7",
}
POLICY = {"GOMP_SPINCOUNT": "1000"}
SOURCED = "source examples/waiting.sh; env"
COMMAND = "bash examples/waiting.sh env"
ENVIRONMENT = "source examples/environment.sh >&2; env"

in_own_venv = pytest.mark.skipif(
    Path(sys.prefix).resolve() != (CHECKOUT / ".venv").resolve(),
    reason="the tests do not run in the checkout's .venv, which this would make",
)
each_way = pytest.mark.parametrize(
    "way", [SOURCED, COMMAND, pytest.param(ENVIRONMENT, marks=in_own_venv)]
)


def variables_of(way, **chosen):
    """The variables of waiting that a program sees."""
    inherited = {name: value for name, value in os.environ.items() if name not in CHOICES}
    printed = subprocess.run(
        ["bash", "-ec", way],
        cwd=CHECKOUT,
        env={**inherited, **chosen},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    variables = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
    return {name: variables[name] for name in CHOICES if name in variables}


@each_way
def test_threads_leave_the_cores_to_others(way):
    assert variables_of(way) == POLICY


@each_way
@pytest.mark.parametrize("name", CHOICES)
def test_what_the_user_chose_is_kept(way, name):
    chosen = {name: CHOICES[name]}
    assert variables_of(way, **chosen) == chosen


def test_every_script_that_trains_has_them():
    scripts = {path: path.read_text() for path in CHECKOUT.glob("examples/**/*.sh")}
    training = {path.name: text for path, text in scripts.items() if "\nfairseq-train " in text}
    assert set(training) == {"pretrain.sh"}
    for text in training.values():
        before, _, _ = text.partition("\nfairseq-train ")
        assert "\nsource examples/environment.sh\n" in before


def test_a_command_ends_as_it_does_alone():
    finished = subprocess.run(["bash", CHECKOUT / "examples" / "waiting.sh", "sh", "-c", "exit 3"])
    assert finished.returncode == 3
