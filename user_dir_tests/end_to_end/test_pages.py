"""Every command of every page, run as it stands, after a short quickstart."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Collection, Mapping, NamedTuple

import pytest
import torch
from filelock import FileLock

CHECKOUT = Path(__file__).resolve().parents[2]
STORIES = sorted(CHECKOUT.glob("examples/*/README.md"))
# What these show word for word as a story does, the story runs.
GENERAL = ("README.md", "CONTRIBUTING.md")
PAGES = [*GENERAL, *(str(page.relative_to(CHECKOUT)) for page in STORIES)]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)\)")
VARIABLE = re.compile(r"\w+=")
FILE = re.compile(r"`([\w.*-]*/[\w./*-]*|[\w-]+\.py)`")
ROOTS = (CHECKOUT, CHECKOUT / "convbert_plugin")
# What sets up the environment, runs these very tests or all checks of the whole checkout, or wants
# a network, a GPU, several, or the commits of a repository (test_golden_losses.py has some).
SET_UP = {
    'fairseq-train "${recipe[@]}" --no-epoch-checkpoints --save-dir runs/gpus '
    "--ddp-backend legacy_ddp",
    'torchrun --nproc-per-node 8 --no-python fairseq-train "${recipe[@]}" --save-dir runs/gpus '
    "--ddp-backend legacy_ddp",
    "srun --nodes 2 --gpus-per-node 8 --ntasks-per-node 1 --kill-on-bad-exit --signal USR1@120 "
    'fairseq-train "${recipe[@]}" --save-dir runs/gpus --ddp-backend legacy_ddp '
    "--distributed-port 29500 --save-on-signal",
    "bash examples/gpu/wheels.sh runs/gpu/wheels",
    "bash examples/gpu/check.sh --data runs/gpu/data --wheels runs/gpu/wheels --workers 6",
    "source examples/environment.sh",
    "bash examples/quickstart.sh",
    "bash user_dir_tests/run.sh",
    "bash user_dir_tests/run.sh fast",
    "bash .ci/run",
    "bash examples/compare_losses.sh HEAD~1 HEAD",
    "bash examples/compare_losses.sh HEAD~1 HEAD --objective masked_lm",
    "ruff check",
    "ruff format --check",
    "lint-imports --no-logo",
    "mypy",
}
# More trainings than a test has time for; test_ablations.py runs them with small programs instead.
STOOD_IN = {f'"${{grids[@]}}" --grids {name}' for name in ("a", "b", "c", "d", "options")}
SHORT = ("--max-update", "40", "--batch-size", "8", "--log-interval", "2")
# What stands on pages for the folders of data, and the fixtures that have these.
DATA = {"GLUE=/path/to/glue": "glue", "SQUAD=/path/to/squad": "squad"}
# What is trained on: enough for a vocabulary of 6,000 pieces, and for a score.
LINES, GLUE_ROWS, SQUAD_PARAGRAPHS = {"train": 6000, "valid": 60}, 60, 2
STAGES = ("kernels", "tests", "training", "step", "bench", "pretraining")
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


def commands(block: Block) -> list[str]:
    """Its commands, each with the lines in which it goes on."""
    return re.split(r"(?<!\\)\n", block.text)


def run_by_stories() -> set[str]:
    """The commands of the stories; the variables that a page sets are its own."""
    of_stories = [block for page in PAGES[len(GENERAL) :] for block in blocks(page)]
    lines = {command_of(each) for block in of_stories for each in commands(block)}
    return {line for line in lines if not VARIABLE.match(line)}


def as_script(block: Block, data: Mapping[str, Path], left_out: Collection[str]) -> str:
    """What a user would have pasted; ``data``: the folders for the words that stand for them."""
    if block.language == "python":
        return f"python -c {shlex.quote(block.text)}"
    ours = [each for each in commands(block) if command_of(each) not in left_out]
    script = "\n".join(ours)
    for words, folder in data.items():
        script = script.replace(words, f"{words.split('=')[0]}={folder}")
    return script


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
    for name in ("convbert_plugin", "examples", "user_dir_tests", "hubconf.py", "pyproject.toml"):
        source = CHECKOUT / name
        copying = shutil.copytree if source.is_dir() else shutil.copy
        copying(source, copy / name)
    # The environment is that of the tests.
    (copy / "examples" / "environment.sh").write_text("source examples/waiting.sh\n")
    # All of the text is collected, and less of it trained on.
    script = copy / "examples" / "quickstart.sh"
    collected, following = 'quickstart/collect_text.py "$out/text"\n', '\nstep "a vocabulary'
    assert f"{collected}{following}" in script.read_text()
    cut = "".join(
        f'sed -i "{lines + 1},\\$d" "$out/text/{split}.txt"\n' for split, lines in LINES.items()
    )
    script.write_text(script.read_text().replace(collected, collected + cut))


def shorten(file: Path, lines: int) -> None:
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:lines]))


@pytest.fixture
def after_quickstart(run, shared_folder):
    """A copy of the checkout as the quickstart leaves it, with less training; one for all tests."""
    copy = shared_folder / "after_quickstart"
    with FileLock(f"{copy}.lock"):
        if not (copy / "printed").exists():
            copy_checkout(copy)
            printed = run(f"bash examples/quickstart.sh {' '.join(SHORT)}", copy)
            (copy / "printed").write_text(printed)
    return copy


@pytest.fixture
def checkout(after_quickstart, tmp_path):
    """That copy, for one page."""
    return shutil.copytree(after_quickstart, tmp_path / "checkout")


@pytest.fixture
def glue(real_data, tmp_path):
    """The first rows of what GLUE's folders hold."""
    copy = shutil.copytree(real_data / "glue", tmp_path / "glue")
    for file in copy.rglob("*.tsv"):
        shorten(file, GLUE_ROWS)
    return copy


@pytest.fixture
def squad(real_data, tmp_path):
    """The first articles of SQuAD 2.0, by the official names of its files."""
    folder = tmp_path / "squad"
    folder.mkdir()
    for split in ("train", "dev"):
        content = json.loads((real_data / "squad" / f"v2.0-{split}.json").read_text())
        articles = [
            {**article, "paragraphs": article["paragraphs"][:SQUAD_PARAGRAPHS]}
            for article in content["data"][:1]
        ]
        (folder / f"{split}-v2.0.json").write_text(json.dumps({**content, "data": articles}))
    return folder


@pytest.mark.pretraining
@pytest.mark.weights
@pytest.mark.glue
@pytest.mark.squad
@pytest.mark.experiments
@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_commands_run_as_they_stand(page, checkout, run, request):
    text = "\n".join(block.text for block in blocks(page))
    data = {words: request.getfixturevalue(name) for words, name in DATA.items() if words in text}
    # One shell for the page, in which the variables of an earlier block stand.
    left_out = SET_UP | STOOD_IN | (run_by_stories() if page in GENERAL else set())
    script = "\n".join(as_script(block, data, left_out) for block in blocks(page))
    run(f"set -x\n{script}", checkout)
    if page in LEAVES:
        LEAVES[page](checkout)


def assert_every_stage_passed(checkout):
    """By the figures of the script for a GPU, which has run on a CPU."""
    out = checkout / "runs" / "gpu-check"
    figures = json.loads((out / "figures.json").read_text())["stages"]
    assert {name: row["status"] for name, row in figures.items()} == dict.fromkeys(STAGES, "pass")
    assert set(figures["training"]["figures"]["modes"]) >= {"fp32", "bf16"}
    assert len(figures["step"]["figures"]["steps"]["bf16"]["largest"]) == 10
    curve = figures["pretraining"]["figures"]["curve"]
    assert curve[-1]["generator_loss"] < curve[0]["generator_loss"]
    assert (out / "pretraining.png").stat().st_size > 1000
    assert "passed" in figures["tests"]["line"]


def assert_both_rows_are_compared(checkout):
    out = checkout / "runs" / "ablations"
    report = (out / "report.html").read_text()
    assert "masked language modelling" in report
    records = [out / row / "seed1" for row in ("convbert", "objective_masked_lm")]
    for record in records:
        assert json.loads((record / "pretraining.json").read_text())["ended"] == "max_update"
        assert (record / "glue" / "cola" / "scores.json").exists()


def assert_other_workers_went_on(checkout):
    """With what two began, one goes on, in their place."""
    updates = {name: updates_of(checkout / "runs" / name) for name in ("two", "torchrun")}
    assert updates == {"two": 6, "torchrun": 2}


def updates_of(folder):
    state = torch.load(folder / "checkpoint_last.pt", weights_only=True)
    return state["optimizer_history"][-1]["num_updates"]


# What has to hold after the commands of a page.
LEAVES = {
    "examples/gpu/README.md": assert_every_stage_passed,
    "examples/ablations/README.md": assert_both_rows_are_compared,
    "examples/distributed/README.md": assert_other_workers_went_on,
}


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
    assert {
        command_of(line) for block in shown for line in block.text.splitlines()
    } >= SET_UP | STOOD_IN


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
