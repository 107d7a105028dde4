"""What tests of every room may ask for."""

import signal

import pytest

SECONDS = 20


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
