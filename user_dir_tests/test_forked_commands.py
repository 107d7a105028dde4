"""The forked commands are what the real ones are, to whoever calls them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import convbert_plugin

USER_DIR = str(Path(convbert_plugin.__file__).parent)
pytestmark = pytest.mark.slow

PROGRAM = """
import os, sys
print(sys.argv[1:], os.getcwd(), os.environ["TOLD"], sys.stdin.read(), "torch" in sys.modules)
print("a line", file=sys.stderr)
sys.exit(7)
"""


@pytest.mark.parametrize("named", ["by PATH", "by bash", "by Python"])
def test_arguments_folder_environment_and_files_are_the_callers(forked, tmp_path, named):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = {
        "by PATH": ["python", program, "one", "two words"],
        # A script that puts the checkout's .venv first, as those of examples/ do.
        "by bash": ["bash", "-c", f'PATH={sys.prefix}/bin:$PATH; python {program} one "two words"'],
        "by Python": [
            *("python", "-c", "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"),
            *("python", program, "one", "two words"),
        ],
    }[named]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**forked, "TOLD": "so"},
        input="given",
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"['one', 'two words'] {tmp_path} so given True\n"
    assert done.stderr == "a line\n"
    assert done.returncode == 7


@pytest.mark.parametrize(
    ("code", "status", "last_line"),
    [
        ("raise SystemExit('why')", 1, "why"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
    ],
)
def test_the_end_is_that_of_the_command(forked, code, status, last_line):
    done = subprocess.run(["python", "-c", code], env=forked, capture_output=True, text=True)
    assert done.returncode == status
    assert (done.stderr.splitlines() or [""])[-1] == last_line


def test_it_hears_a_signal_and_does_not_outlive_its_caller(forked, tmp_path):
    code = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(99)"
    command = ["python", "-c", code]
    with subprocess.Popen(command, env=forked, stdout=subprocess.PIPE, text=True) as caller:
        caller.stdout.readline()
        caller.send_signal(signal.SIGTERM)
    assert caller.returncode == -signal.SIGTERM
    with subprocess.Popen(command, env=forked, stdout=subprocess.PIPE, text=True) as caller:
        process = int(caller.stdout.readline())
        caller.kill()
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{process}") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{process}")


@pytest.mark.parametrize(
    "command", [["convbert"], ["fairseq-train"], ["fairseq-train", "--user-dir", USER_DIR]]
)
def test_the_entry_points_are_the_real_ones(forked, command):
    by_fork = subprocess.run(
        [*command, "--help"], env=forked, capture_output=True, text=True, check=True
    )
    environment = {**os.environ, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    real = subprocess.run(
        [*command, "--help"], env=environment, capture_output=True, text=True, check=True
    )
    # What fairseq logs of its own imports is not told again.
    told = [line for line in real.stdout.splitlines() if " | INFO | " not in line]
    assert by_fork.stdout.splitlines() == told
    assert len(told) > 5
    assert ("convbert_adamw" in by_fork.stdout) is ("--user-dir" in command)
