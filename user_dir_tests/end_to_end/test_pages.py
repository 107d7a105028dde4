"""Every command of every page, run as it stands, page by page, after a short quickstart."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from filelock import FileLock

CHECKOUT = Path(__file__).resolve().parents[2]
STORIES = sorted(CHECKOUT.glob("examples/*/README.md"))
PAGES = ["README.md", "CONTRIBUTING.md", *(str(page.relative_to(CHECKOUT)) for page in STORIES)]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)\)")
FILE = re.compile(r"`([\w.*-]*/[\w./*-]*|[\w-]+\.py)`")
ROOTS = (CHECKOUT, CHECKOUT / "convbert_plugin")
# What sets up the environment, runs these very tests or all checks of the whole checkout, or wants
# a network or a GPU.
SET_UP = {
    "bash examples/gpu/wheels.sh runs/gpu/wheels",
    "bash examples/gpu/check.sh --data runs/gpu/data --wheels runs/gpu/wheels --workers 6",
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
SHORT = ("--max-update", "40", "--batch-size", "8", "--log-interval", "2")
GLUE = "GLUE=/path/to/glue"
# What the pages train on: enough for a vocabulary of 6,000 pieces, and for a score.
TRAIN_LINES, VALID_LINES, GLUE_ROWS = 6000, 60, 200
RESULTS = {"generator_loss", "unigram_cross_entropy", "discriminator_auc", "tokens_per_second"}
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


@pytest.fixture
def run(forked):
    """Run a script in a copy of the checkout; what it prints."""

    def run(script: str, checkout: Path) -> str:
        finished = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=checkout,
            env={**forked, "PYTHONPATH": str(checkout)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        assert finished.returncode == 0, finished.stdout[-3000:]
        return finished.stdout

    return run


def copy_checkout(copy: Path) -> None:
    """What a page's commands use, so that nothing is left in the checkout."""
    copy.mkdir()
    for name in ("convbert_plugin", "examples", "hubconf.py"):
        source = CHECKOUT / name
        copying = shutil.copytree if source.is_dir() else shutil.copy
        copying(source, copy / name)
    # The environment is that of the tests.
    (copy / "examples" / "environment.sh").write_text("source examples/waiting.sh\n")


def shorten(file: Path, lines: int) -> None:
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:lines]))


@pytest.fixture
def after_quickstart(run, tmp_path_factory):
    """A copy of the checkout as the quickstart leaves it, with less training; one for all tests."""
    folder = tmp_path_factory.getbasetemp()
    # Each worker of xdist has a folder of its own in that of the session.
    copy = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "after_quickstart"
    with FileLock(f"{copy}.lock"):
        if not (copy / "printed").exists():
            copy_checkout(copy)
            printed = run(f"bash examples/quickstart.sh {' '.join(SHORT)}", copy)
            (copy / "printed").write_text(printed)
    return copy


@pytest.fixture
def checkout(after_quickstart, tmp_path):
    """That copy, for one page, with less to train on."""
    copy = shutil.copytree(after_quickstart, tmp_path / "checkout")
    for split, lines in (("train", TRAIN_LINES), ("valid", VALID_LINES)):
        shorten(copy / "quickstart" / "text" / f"{split}.txt", lines)
    return copy


@pytest.fixture
def glue(real_data, tmp_path):
    """The first rows of what GLUE's folders hold."""
    copy = shutil.copytree(real_data / "glue", tmp_path / "glue")
    for file in copy.rglob("*.tsv"):
        shorten(file, GLUE_ROWS)
    return copy


@pytest.mark.pretraining
@pytest.mark.weights
@pytest.mark.glue
@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_commands_run_as_they_stand(page, checkout, run, request):
    text = "\n".join(block.text for block in blocks(page))
    glue = request.getfixturevalue("glue") if GLUE in text else Path()
    # One shell for the page, in which the variables of an earlier block stand.
    script = "\n".join(as_script(block, glue) for block in blocks(page))
    run(f"set -x\n{script}", checkout)


@pytest.mark.pretraining
@pytest.mark.slow
def test_the_quickstart_shortened(after_quickstart):
    printed = (after_quickstart / "printed").read_text()
    results = json.loads((after_quickstart / "quickstart" / "results.json").read_text())
    assert set(results) >= RESULTS
    # Forty updates do not beat token frequencies, but leave the uniform guess over 6,000 pieces.
    assert 5 < results["generator_loss"] < 8.7
    assert 5 < results["unigram_cross_entropy"] < 8
    assert f"{results['generator_loss']:.3f}" in printed
    assert "words were replaced. The discriminator finds" in printed
    assert list((after_quickstart / "quickstart/tensorboard").rglob("events.out.tfevents.*"))


def test_what_is_not_run_is_set_up():
    shown = [block for page in PAGES for block in blocks(page)]
    assert {block.language for block in shown} == {"bash", "python"}
    # Each of them stands on some page: the list holds nothing that has gone.
    assert {command_of(line) for block in shown for line in block.text.splitlines()} >= SET_UP


def test_no_training_of_a_page_keeps_a_checkpoint_an_epoch():
    """The best and the last are enough, and a full disk is the price of more."""
    commands = [
        command
        for page in PAGES
        for block in blocks(page)
        for command in block.text.replace("\\\n", " ").splitlines()
    ]
    trainings = [each for each in commands if each.lstrip().startswith("fairseq-train ")]
    assert len(trainings) > 3
    assert all("--no-epoch-checkpoints" in training for training in trainings)
    # What fairseq-hydra-train and the script take.
    recipes = sorted((CHECKOUT / "convbert_plugin" / "config" / "recipe").glob("*ing.yaml"))
    assert [recipe.stem for recipe in recipes] == ["finetuning", "pretraining"]
    assert all("  no_epoch_checkpoints: true\n" in recipe.read_text() for recipe in recipes)
    script = (CHECKOUT / "examples" / "pretraining" / "pretrain.sh").read_text()
    assert "--no-epoch-checkpoints" in script


def test_the_guide_says_which_export_holds_at_every_length():
    """Of the two of torch.onnx the one that follows the program which the page exports and runs."""
    page = (CHECKOUT / "examples" / "python" / "README.md").read_text()
    [paragraph] = [each for each in page.split("\n\n") if "torch.onnx.export" in each]
    assert "dynamo=True)` " in paragraph
    assert "`dynamo=False` writes the\nlength of its example into the model" in paragraph
    [exported] = [block for block in blocks("examples/python/README.md") if "Dim" in block.text]
    assert "dynamic_shapes=(sizes, sizes)" in exported.text


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
