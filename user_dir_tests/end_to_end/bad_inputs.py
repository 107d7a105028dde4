"""Gives every command what is wrong, and prints a table of the lines that it gets.

    python -m user_dir_tests.end_to_end.bad_inputs [--only WORDS] [--every N]

What is tried stands in bad_inputs_of_*.py. Each case is forked from this process, in a folder of
its own, and has to end by itself with the status and the line that the table says: without a
traceback, and with no file that was not there before. Ends with status 1 where one does not.
"""

import argparse
import contextlib
import ctypes
import importlib
import os
import re
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Callable, NamedTuple

import fairseq_cli.hydra_train
import fairseq_cli.preprocess
import fairseq_cli.train
import fairseq_cli.validate
import pytest
import torch

from convbert_plugin import ConvBertModel
from convbert_plugin.cli import main as convbert
from user_dir_tests.end_to_end import glue_runs, squad_runs
from user_dir_tests.end_to_end.conftest import RECIPE, TASK, TINY, make_corpus, run_main

CHECKOUT = Path(__file__).resolve().parents[2]
NAME = "checkpoint_last.pt"
SECONDS = 60
MEMORY = 4 << 30
POLL_SECONDS = 0.002
FAILED, WRONG_ARGUMENTS = 1, 2
TRACE = "Traceback (most recent call last)"
# How a system call says which capabilities a process has, of which a root has all: version 3.
CAPABILITIES = 0x20080522
# What a run may leave: its lock, and hydra its log and the options it was given.
LEFT = re.compile(r"(.*/)?(run\.lock|hydra_train\.log|\.hydra/.*)")


class Case(NamedTuple):
    """A command line, what is wrong with it, and what the last line on stderr holds.

    ``words``: as in a shell, with the names of what ``World`` holds in braces; ``{bad}`` is what
    ``spoil`` makes in the folder of the case, ``{out}`` what is not there yet. ``is_theirs``: what
    hydra or fairseq say before they ask the plugin, in a line among others. ``is_plain_user``: run
    with a plain user's permissions, with no HOME, and no folder for temporary files but its own.
    """

    command: str
    wrong: str
    words: str
    told: str
    spoil: Callable = lambda path, world: None
    status: int = FAILED
    is_theirs: bool = False
    is_plain_user: bool = False


class Ended(NamedTuple):
    """How a case ended: ``problem`` is empty where it ended as it should."""

    case: Case
    status: int
    line: str
    seconds: float
    problem: str


class World:
    """What is right: a corpus, models and data of each task, made once in ``folder``."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.paths = {
            "vocab": folder / "corpus/text/vocab.txt",
            "text": folder / "corpus/text/train.txt",
            "pieces": folder / "corpus/pieces",
            "data": folder / "corpus/data",
            "run": folder / "run",
            "checkpoint": folder / "run" / NAME,
            "rte": folder / "rte",
            "glue": folder / "glue",
            "glue_run": folder / "glue_run",
            "json": folder / "json/train.json",
            "squad": folder / "squad",
            "squad_run": folder / "squad_run",
            "hf": folder / "hf",
            "plugin": CHECKOUT / "convbert_plugin",
        }

    def __getitem__(self, name: str) -> Path:
        return self.paths[name]

    def make(self) -> None:
        """All of it; in a fork, since what trains starts threads."""
        make_corpus(self.folder / "corpus")
        tokenizer = ("--tokenizer", self["run"])
        self._train(self["run"], self["data"], *TASK, *TINY, *RECIPE)
        glue_runs.write_pairs(self["rte"], ("0", "1"))
        call(convbert, "prepare-glue", "--glue-task", "wnli", *tokenizer, self["rte"], self["glue"])
        start = ("--finetune-from-model", self["run"] / NAME)
        usual = (*glue_runs.GLUE_USUAL, "--glue-task", "wnli", *start)
        self._train(self["glue_run"], self["glue"], *usual)
        for name in ("train", "dev"):
            squad_runs.write_squad(self["json"].with_name(f"{name}.json"), 6)
        sources = self["json"].parent
        call(convbert, "prepare-squad", "--workers", 1, *tokenizer, sources, self["squad"])
        self._train(self["squad_run"], self["squad"], *squad_runs.SQUAD_USUAL, *start)
        source = ("--from", "fairseq", "--to", "hf", self["run"] / NAME)
        call(convbert, "convert", *source, self["hf"])

    def _train(self, folder: Path, data: Path, *words) -> None:
        saving = ("--save-dir", folder, "--max-update", "1")
        with pytest.MonkeyPatch.context() as patch:
            run_main(patch, fairseq_cli.train, data, *words, *saving)


def call(function: Callable, *words) -> None:
    status = function([str(word) for word in words])
    assert status == 0, words


def of_fairseq(module) -> Callable:
    def run(words: list[str]) -> None:
        sys.argv[1:] = words
        module.cli_main()

    return run


def script(words: list[str]) -> int:
    """A script of examples/: of Python in this process, of bash in its own."""
    path = CHECKOUT / "examples" / words[0]
    if path.suffix == ".sh":
        with tempfile.TemporaryDirectory() as folder:
            environment = of_this_python(Path(folder))
            return subprocess.run(["bash", path, *words[1:]], env=environment).returncode
    sys.argv[:] = [str(path), *words[1:]]
    sys.path.insert(0, str(path.parent))
    runpy.run_path(str(path), run_name="__main__")
    return 0


def of_this_python(folder: Path) -> dict:
    """An environment in which a script sets up no .venv: it finds this Python."""
    functions = folder / "functions.sh"
    functions.write_text(
        'source() { case $1 in *environment.sh) ;; *) builtin source "$@" ;; esac; }\n'
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(CHECKOUT), "BASH_ENV": str(functions)}


def python(words: list[str]) -> None:
    """Code, given a folder: ``hub`` is the model that is loaded from it."""
    code, *folders = words
    try:
        exec(code, {"hub": ConvBertModel.from_pretrained(*folders), "torch": torch})
    # In Python a mistake is an exception of the language, with a line that says what to do.
    except (ValueError, TypeError, OSError) as error:
        sys.exit(str(error))


COMMANDS = {
    "convbert": convbert,
    "fairseq-preprocess": of_fairseq(fairseq_cli.preprocess),
    "fairseq-train": of_fairseq(fairseq_cli.train),
    "fairseq-validate": of_fairseq(fairseq_cli.validate),
    "fairseq-hydra-train": of_fairseq(fairseq_cli.hydra_train),
    "examples": script,
    "python": python,
}


def in_a_fork(log: Path, action: Callable) -> int:
    """The status with which ``action`` ends in a fork, its output in ``log``; as Python ends it."""
    assert threading.active_count() == 1, "a fork takes no threads along"
    sys.stdout.flush()
    if process := os.fork():
        return wait_for(process)
    status = FAILED
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for stream in (1, 2):
            os.dup2(output, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        status = action() or 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, (int, type(None))) else FAILED
        sys.stdout.flush()
        if not isinstance(ended.code, (int, type(None))):
            print(ended.code, file=sys.stderr)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit((status or 0) & 255)


def limit_memory() -> None:
    """So much more than is in use: what a hostile file asks for is not to be had."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, most))


def become_plain_user() -> None:
    """Let permissions hold for this process, whoever started it."""
    header, sets = (ctypes.c_uint32 * 2)(CAPABILITIES, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(header, sets) == 0
    os.environ.pop("HOME", None)
    os.environ["TMPDIR"] = "/nowhere"
    tempfile.tempdir = None
    os.umask(0o077)


def wait_for(process: int) -> int:
    end = time.monotonic() + SECONDS
    while not (ended := os.waitpid(process, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.killpg(process, signal.SIGKILL)
        time.sleep(POLL_SECONDS)
    return os.waitstatus_to_exitcode(ended[1])


def files_below(folder: Path) -> set[Path]:
    """All that is no folder, and links."""
    return {
        Path(place, name)
        for place, folders, files in os.walk(folder)
        for name in (*files, *folders)
        if not Path(place, name).is_dir() or Path(place, name).is_symlink()
    }


def run_case(case: Case, world: World, folder: Path) -> Ended:
    """Run it in a folder that is empty but for what it makes."""
    place, log = folder / "here", folder / "log"
    place.mkdir(parents=True)
    bad, out = place / "bad", place / "out"
    case.spoil(bad, world)
    names = {name: str(path) for name, path in world.paths.items()}
    names |= {"bad": str(bad), "out": str(out), "here": str(place), "nowhere": str(place / "no")}
    words = [word.format(**names) for word in split(case.words)]
    before = files_below(place)

    def action():
        limit_memory()
        os.chdir(place)
        if case.is_plain_user:
            become_plain_user()
        name = case.command.split()[0]
        return COMMANDS[name]([*case.command.split()[1:], *words])

    begin = time.monotonic()
    status = in_a_fork(log, action)
    seconds = time.monotonic() - begin
    text = log.read_text(errors="replace") if log.exists() else ""
    line = text.splitlines()[-1] if text else ""
    found = sorted(str(path.relative_to(place)) for path in files_below(place) - before)
    new = [name for name in found if not LEFT.fullmatch(name)]
    told = case.told.format(**names)
    problem = ""
    if status != case.status:
        problem = f"status {status} in place of {case.status}"
    elif case.is_theirs:
        line = next((row for row in text.splitlines() if told in row), "")
        problem = "" if line else f"does not say {told!r}"
    elif TRACE in text:
        problem = "a traceback"
    elif told not in line or not line.strip():
        problem = f"does not say {told!r}"
    elif new and case.status:
        problem = f"left {', '.join(new)}"
    for path, _, _ in os.walk(place):
        os.chmod(path, 0o755)
    shutil.rmtree(folder)
    if problem:
        text = text[-3000:]
        line = f"{line}\n{text}" if TRACE in text else line
    for name in sorted(names, key=lambda name: -len(names[name])):
        line = line.replace(names[name], name.upper())
    return Ended(case, status, line, seconds, problem)


def split(words: str) -> list[str]:
    """Words as in a shell, but for what stands in braces."""
    import shlex

    return shlex.split(words)


def table(ended: list[Ended]) -> str:
    rows = ["| command | what is wrong | status | the last line |", "|---|---|---|---|"]
    for each in ended:
        cells = (each.case.command, each.case.wrong, each.status, each.line)
        rows.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def run_all(cases: list[Case], folder: Path, told: Callable) -> list[Ended]:
    world = World(folder / "world")
    world.folder.mkdir()
    log = folder / "world.log"
    assert in_a_fork(log, world.make) == 0, log.read_text()[-3000:]
    ended = []
    for number, case in enumerate(cases):
        ended.append(run_case(case, world, folder / str(number)))
        told(ended[-1])
    return ended


def named(case: Case) -> str:
    user = " (a plain user)" if case.is_plain_user else ""
    return f"{case.command}{user}: {case.wrong}"


def all_cases() -> list[Case]:
    names = ("convbert", "fairseq", "python", "plain_user", "checkpoints")
    modules = (f"user_dir_tests.end_to_end.bad_inputs_of_{name}" for name in names)
    return [case for module in modules for case in importlib.import_module(module).CASES]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="")
    parser.add_argument("--every", type=int, default=1, help="try each N-th alone")
    given = parser.parse_args()
    wanted = [case for case in all_cases() if given.only in named(case)][:: given.every]
    with tempfile.TemporaryDirectory() as place:

        def tell(ended: Ended) -> None:
            if ended.problem:
                print(f"{named(ended.case)}: {ended.problem}", file=sys.stderr)
                print(f"    {ended.line}", file=sys.stderr)

        begin = time.monotonic()
        ended = run_all(wanted, Path(place), tell)
    print(table(ended))
    bad = [each for each in ended if each.problem]
    slow = sorted(ended, key=lambda each: -each.seconds)[:8]
    print(
        f"\n{len(ended)} bad inputs, {len(bad)} not told as they should be, "
        f"{time.monotonic() - begin:.0f} s",
        *(f"{each.seconds:.2f} s {each.case.command}: {each.case.wrong}" for each in slow),
        sep="\n",
        file=sys.stderr,
    )
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
