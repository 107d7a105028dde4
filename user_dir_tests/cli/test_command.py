import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from convbert_plugin import cli
from convbert_plugin.cli import SUBCOMMANDS, main
from convbert_plugin.errors import UserError

PLUGIN = Path(cli.__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "convbert_plugin.cli"]


def convbert(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=PLUGIN.parent, text=True, capture_output=True, **options
    )


def test_help_lists_every_subcommand():
    result = convbert("--help")
    assert result.returncode == 0
    assert all(name in result.stdout for name in SUBCOMMANDS)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_help_imports_nothing_heavy(name):
    code = (
        "import sys\n"
        "from convbert_plugin.cli import main\n"
        f"try: main([{name!r}, '--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'fairseq', 'transformers', 'tokenizers', 'sentencepiece', 'numpy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PLUGIN.parent, check=True, timeout=20)


WRITTEN = Path(__file__).parents[1] / "fixtures" / "written_by_71ce252"
# What no command here needs; each of them takes from half a second to three.
HEAVY = {"torch", "fairseq", "transformers", "scipy", "sklearn", "hydra", "tensorboard"}


@pytest.mark.parametrize(
    "arguments",
    [
        "prepare-glue --glue-task rte --tokenizer PIECES TEXT/RTE OUT",
        "prepare-squad --tokenizer PIECES nowhere OUT",
        "encode --workers 1 --tokenizer PIECES TEXT/train.txt OUT/pieces",
        "train-vocab --vocab-size 40 TEXT/train.txt OUT",
        "report RUN OUT.html",
        "predict-glue --path nowhere DATA OUT",
        "predict-glue --path RUN TEXT OUT",
        "predict-squad --path nowhere DATA OUT",
        "attention --path nowhere TEXT/train.txt OUT.json",
        "convert --from tf --to fairseq nowhere OUT",
    ],
)
def test_a_command_imports_no_more_than_it_needs(tmp_path, arguments):
    folders = {
        "PIECES": WRITTEN / "pieces",
        "TEXT": WRITTEN / "text",
        "RUN": shutil.copytree(WRITTEN / "glue" / "sts-b" / "run", tmp_path / "run"),
        "DATA": WRITTEN / "glue" / "rte" / "data",
        "OUT": tmp_path / "out",
    }
    for name, folder in folders.items():
        arguments = arguments.replace(name, str(folder))
    code = (
        "import sys\n"
        "from convbert_plugin.cli import main\n"
        "from convbert_plugin.errors import UserError\n"
        "try: main(sys.argv[1:])\n"
        "except UserError as error: print(error)\n"
        f"print({HEAVY!r} & sys.modules.keys())\n"
    )
    command = [sys.executable, "-c", code, *arguments.split()]
    done = subprocess.run(command, cwd=PLUGIN.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told, imported = done.stdout.splitlines()[-2:]
    assert imported == "set()"
    # It came to its end, or to what is missing.
    assert len(list(tmp_path.iterdir())) > 1 or "no such file" in told or "is missing" in told


def test_converting_leaves_out_what_fairseq_alone_needs(tmp_path):
    """Who wants it later in the same process gets it."""
    run = WRITTEN / "glue" / "sts-b" / "run"
    code = (
        "import sys\n"
        "from convbert_plugin.cli import main\n"
        "main(sys.argv[1:])\n"
        "print({'sklearn', 'scipy', 'transformers'} & sys.modules.keys())\n"
        "from fairseq.criterions.sentence_prediction import SentencePredictionCriterion\n"
        "from fairseq.tasks.audio_classification import AudioClassificationTask\n"
    )
    arguments = ["convert", "--from", "fairseq", "--to", "hf", run / "checkpoint_best.pt"]
    command = [sys.executable, "-c", code, *map(str, arguments), str(tmp_path / "out")]
    done = subprocess.run(command, cwd=PLUGIN.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    "arguments",
    [[], ["nothing"], ["encode"], ["user-dir", "more"], ["encode", "--workers", "0", "a", "b"]],
)
def test_wrong_arguments_end_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "error: " in capsys.readouterr().err.splitlines()[-1]


def test_user_dir_prints_the_plugins_folder(capsys):
    assert main(["user-dir"]) == 0
    assert capsys.readouterr().out == f"{PLUGIN}\n"


def fail_with(error):
    def run(arguments):
        raise error

    return run


def test_an_interrupt_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("convbert_plugin.cli.user_dir.run", fail_with(KeyboardInterrupt()))
    assert main(["user-dir"]) == 130
    assert capsys.readouterr().err == "convbert user-dir: interrupted\n"


def test_an_error_of_the_system_is_one_line(monkeypatch):
    error = OSError(28, "No space left on device", "out.txt")
    monkeypatch.setattr("convbert_plugin.cli.user_dir.run", fail_with(error))
    with pytest.raises(UserError, match=r"^out.txt: No space left on device$"):
        main(["user-dir"])


def test_a_mistake_ends_with_status_1_and_its_line(tmp_path):
    result = convbert("train-vocab", "--vocab-size", "99", str(tmp_path / "no"), str(tmp_path))
    assert result.returncode == 1
    assert result.stderr == f"{tmp_path / 'no'}: no such file\n"


def test_a_closed_pipe_is_no_traceback():
    result = subprocess.run(
        [
            "bash",
            "-c",
            f"trap '' PIPE; {' '.join(COMMAND)} user-dir | true; echo ${{PIPESTATUS[0]}}",
        ],
        cwd=PLUGIN.parent,
        text=True,
        capture_output=True,
        preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN),
    )
    assert "Traceback" not in result.stderr
    assert "BrokenPipe" not in result.stderr
    assert result.stdout in ("0\n", "1\n")
