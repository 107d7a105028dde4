"""Every command of every page, run as it stands, page by page, after a short quickstart."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
STORIES = sorted(CHECKOUT.glob("examples/*/README.md"))
PAGES = ["README.md", "CONTRIBUTING.md", *(str(page.relative_to(CHECKOUT)) for page in STORIES)]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)\)")
FILE = re.compile(r"`([\w.*-]*/[\w./*-]*|[\w-]+\.py)`")
ROOTS = (CHECKOUT, CHECKOUT / "convbert_plugin")
# What sets up the environment, or runs these very tests or all checks of the whole checkout.
SET_UP = {
    "source examples/environment.sh",
    "bash examples/quickstart.sh",
    "bash user_dir_tests/run.sh",
    "bash user_dir_tests/run.sh fast",
    "bash .ci/run",
    "ruff check",
    "ruff format --check",
    "lint-imports --no-logo",
    "mypy",
}
SHORT = ("--max-update", "10", "--batch-size", "8", "--log-interval", "2")
GLUE = "GLUE=/path/to/glue"
VALID_LINES = 60
# Two processes that train together wait for each other; a page takes a tenth of this.
SECONDS = 300


class Block(NamedTuple):
    """A block of commands of a page, or of Python."""

    language: str
    text: str


def blocks(page: str) -> list[Block]:
    found = [Block(*match) for match in FENCE.findall((CHECKOUT / page).read_text())]
    # The one change that a page shows is applied by a test of its own, models/test_parts.py.
    return [block for block in found if block.language != "diff"]


def command_of(line: str) -> str:
    """A line of a block without its comment."""
    return line.split(" #")[0].strip()


def as_script(block: Block, glue: Path) -> str:
    """What a user would have pasted, where the data of GLUE lie in ``glue``."""
    if block.language == "python":
        return f"python -c {shlex.quote(block.text)}"
    lines = [line for line in block.text.splitlines() if command_of(line) not in SET_UP]
    return "\n".join(lines).replace(GLUE, f"GLUE={glue}")


@pytest.fixture(scope="session")
def checkout_copy(tmp_path_factory):
    """A copy of the checkout, so that nothing is left in it."""
    copy = tmp_path_factory.mktemp("pages") / "checkout"
    copy.mkdir()
    for name in ("convbert_plugin", "examples", "hubconf.py"):
        source = CHECKOUT / name
        copying = shutil.copytree if source.is_dir() else shutil.copy
        copying(source, copy / name)
    # The environment is that of the tests.
    (copy / "examples" / "environment.sh").write_text("source examples/waiting.sh\n")
    return copy


@pytest.fixture(scope="session")
def environment(forked, checkout_copy):
    return {**forked, "PYTHONPATH": str(checkout_copy)}


def run(script: str, folder: Path, environment: dict) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )


@pytest.fixture(scope="session")
def after_quickstart(checkout_copy, environment):
    """The copy of the checkout as the quickstart leaves it, with less training."""
    command = f"bash examples/quickstart.sh {' '.join(SHORT)}"
    finished = run(command, checkout_copy, environment)
    assert finished.returncode == 0, finished.stdout[-3000:]
    # Each training of a page validates on all of it.
    text = checkout_copy / "quickstart" / "text" / "valid.txt"
    text.write_text("".join(text.read_text().splitlines(keepends=True)[:VALID_LINES]))
    return checkout_copy


@pytest.mark.pretraining
@pytest.mark.weights
@pytest.mark.glue
@pytest.mark.parametrize("page", PAGES)
def test_commands_run_as_they_stand(page, after_quickstart, environment, request):
    text = "\n".join(block.text for block in blocks(page))
    glue = Path()
    if GLUE in text:
        glue = request.getfixturevalue("real_data") / "glue"
    shutil.rmtree(after_quickstart / "runs", ignore_errors=True)
    # One shell for the page, in which the variables of an earlier block stand.
    script = "\n".join(as_script(block, glue) for block in blocks(page))
    finished = run(f"set -x\n{script}", after_quickstart, environment)
    assert finished.returncode == 0, finished.stdout[-3000:]


def test_what_is_not_run_is_set_up():
    shown = [block for page in PAGES for block in blocks(page)]
    assert {block.language for block in shown} == {"bash", "python"}
    # Each of them stands on some page: the list holds nothing that has gone.
    assert {command_of(line) for block in shown for line in block.text.splitlines()} >= SET_UP


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_files_that_are_named_exist(page):
    text = FENCE.sub("", (CHECKOUT / page).read_text())
    for target in LINK.findall(text):
        assert target.startswith("https://") or ((CHECKOUT / page).parent / target).exists(), target


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "examples/results/README.md"])
def test_files_of_the_tables_exist(page):
    rows = [row for row in (CHECKOUT / page).read_text().splitlines() if row.startswith("| ")]
    named = [file for row in rows for file in FILE.findall(row)]
    assert named
    missing = [file for file in named if not any(list(root.glob(file)) for root in ROOTS)]
    assert not missing
