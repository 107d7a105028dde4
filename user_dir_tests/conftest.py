"""What tests of every room may ask for."""

import signal
import subprocess
from pathlib import Path

import pytest

SECONDS = 20
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def no_hanging():
    """End a test that waits, such as for the writer of a pipe."""

    def give_up(*_):
        raise TimeoutError(f"nothing came for {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def real_data(tmp_path_factory):
    """The folder of the shared data, unpacked."""
    if not DATA.exists():
        pytest.skip("the shared data are absent")
    folder = tmp_path_factory.mktemp("real_data")
    subprocess.run(["bash", DATA / "unpack.sh", folder], check=True, capture_output=True)
    return folder
