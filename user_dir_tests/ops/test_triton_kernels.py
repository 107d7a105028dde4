"""Runs the checks of the Triton kernels in a process of their own: see triton_checks.py."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.speed

ROOT = Path(__file__).resolve().parents[2]
# Where run.sh puts it for machines without a GPU: what finds it in .venv would use it.
TRITON = ROOT / ".venv" / "triton"


def test_the_kernels_equal_the_loops():
    """On a GPU, else by Triton's interpreter."""
    environment = dict(os.environ)
    if importlib.util.find_spec("triton") is None:
        if not (TRITON / "triton").exists():
            pytest.skip('Triton is absent: "bash user_dir_tests/run.sh all" fetches it')
        paths = [str(TRITON), *environment.get("PYTHONPATH", "").split(os.pathsep)]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    if not torch.cuda.is_available():
        environment["TRITON_INTERPRET"] = "1"
    checks = Path(__file__).with_name("triton_checks.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [*command, str(checks)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
