"""What tests of every room may ask for, and the markers that follow from what a test uses."""

import functools
import gc
import inspect
import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from user_dir_tests.forked_commands import forked_commands
from user_dir_tests.working_folder import WorkingFolder

SECONDS = 20
TESTS = Path(__file__).resolve().parent
DATA = TESTS.parents[1] / "shared" / "data"
# What trains a model for the test that asks for it, and data by the thousand rows.
COSTLY_FIXTURES = {"fairseq_train", "fine_tune", "find_words", "real_data"}
# What the name of a test calls models of full sizes.
LARGE = {"medium", "base", "convbert_medium", "convbert_base", "electra_base"}
# What leads to the TensorFlow that tests have.
NEEDS_TENSORFLOW = "tensorflow_python"


# Before -m looks at them.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        of_test = (item.function, *fixture_functions(item, scopes=("function",)))
        if any(starts_processes(function) for function in called_from(of_test)):
            item.add_marker("process")
        of_all = called_from(fixture_functions(item, scopes=("function", "module", "session")))
        if any(function.__name__ == NEEDS_TENSORFLOW for function in of_all):
            item.add_marker("tensorflow")
            item.add_marker("slow")
        sizes = LARGE & set(item.name.rstrip("]").replace("[", "-").split("-"))
        if sizes or COSTLY_FIXTURES & set(item.fixturenames):
            item.add_marker("slow")
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        items[:] = dear_first(items, workers)


def dear_first(items, workers):
    """The equal share of each worker begins with the files of tests that take long.

    What the workers take from each other at the end is short then.
    """
    marks = ("slow", "process")
    dear = {item.path for item in items if any(map(item.get_closest_marker, marks))}
    kinds = [[item for item in items if (item.path in dear) is first] for first in (True, False)]
    ordered = []
    for number in range(workers):
        for kind in kinds:
            start, stop = (len(kind) * place // workers for place in (number, number + 1))
            ordered += kind[start:stop]
    return ordered


def pytest_collection_finish():
    """What is imported by now stays: looking through it for garbage takes a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("there is no GPU")


@pytest.fixture(scope="session")
def working_folder():
    return WorkingFolder(Path.cwd())


@pytest.fixture(autouse=True)
def _nothing_is_left_in_the_working_folder(working_folder):
    yield
    found = ", ".join(working_folder.news())
    assert not found, f"{found}: written in the working folder by this test, or one beside it"


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request, monkeypatch):
    """Each device in turn; a GPU computes products and convolutions of fp32 in fp32."""
    # By default it takes ten bits of mantissa for convolutions.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return torch.device(request.param)


def fixture_functions(item, scopes):
    definitions = item._fixtureinfo.name2fixturedefs.values()
    return tuple(one.func for several in definitions for one in several if one.scope in scopes)


# The thousands of tests that a few hundred functions make are looked at once a function.
@functools.cache
def called_from(functions):
    """The functions of tests that these name, and those name, themselves among them."""
    known, left = set(), list(functions)
    while left:
        function = inspect.unwrap(left.pop())
        if is_of_tests(function) and function not in known:
            known.add(function)
            left += named_by(function)
    return known


def is_of_tests(value):
    return inspect.isfunction(value) and value.__code__.co_filename.startswith(f"{TESTS}{os.sep}")


@functools.cache
def named_by(function):
    """The globals that the code of a function names."""
    codes = [function.__code__]
    for code in codes:
        codes += filter(inspect.iscode, code.co_consts)
    names = {name for code in codes for name in code.co_names}
    return [function.__globals__[name] for name in names & function.__globals__.keys()]


def starts_processes(function):
    return any(value is subprocess for value in named_by(function))


@pytest.fixture(scope="session")
def forked(tmp_path_factory):
    """An environment in which commands are forked from a process that has imported torch."""
    with forked_commands(tmp_path_factory.mktemp("forked") / "bin") as environment:
        yield {**os.environ, **environment}


@pytest.fixture
def by_torch_alone(monkeypatch):
    """A CPU that stands for a GPU: it has no code of its own here, but torch's operations."""
    from convbert_plugin.modules import convolution
    from convbert_plugin.ops import convolution_backends, cpu_library, cpu_rows

    monkeypatch.setattr(convolution, "goes_in_one", lambda hidden: False)
    for module in (convolution_backends, cpu_rows):
        monkeypatch.setattr(module, "library", lambda: cpu_library.Library(None, "left out"))


@pytest.fixture
def signals_of_a_terminal():
    """The signals as a program finds them in a terminal.

    Who starts the tests in the background, or under nohup, has the one or other ignored.
    """
    usual = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


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
def shared_folder(tmp_path_factory):
    """A folder of all workers of xdist, each of which has its own in it."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def real_data(shared_folder):
    """The folder of the shared data, unpacked."""
    if not DATA.exists():
        pytest.skip("the shared data are absent")
    folder = shared_folder / "real_data"
    with FileLock(f"{folder}.lock"):
        subprocess.run(["bash", DATA / "unpack.sh", folder], check=True, capture_output=True)
    return folder
