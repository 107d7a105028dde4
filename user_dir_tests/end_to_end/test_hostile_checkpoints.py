"""No checkpoint runs anything or ends in a traceback, whichever way it is loaded."""

import contextlib
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import convbert_plugin
from convbert_plugin import ConvBertModel
from convbert_plugin.cli import main as convbert_command
from convbert_plugin.errors import UserError
from convbert_plugin.formats.fairseq_checkpoint import read_checkpoint
from convbert_plugin.models.loading import empty_model_of
from convbert_plugin.models.state import TOKEN_TABLE
from convbert_plugin.tasks.replaced_token_detection import ReplacedTokenDetectionTask
from convbert_plugin.training.resuming import check_progress
from user_dir_tests.end_to_end.hostile_checkpoints import (
    BROKEN,
    HOSTILE,
    MARK,
    OF_OTHER_MOMENTS,
    UNFINISHED,
)
from user_dir_tests.oracles.transformers_models import save_folder, toy_model

pytestmark = [
    pytest.mark.weights,
    pytest.mark.survival,
    # of a pickle that torch has not written, and of a format that it gives up
    pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]

CHECKOUT = Path(convbert_plugin.__file__).parents[1]
CASES = {**HOSTILE, **BROKEN}
EVERY_CASE = {**CASES, **UNFINISHED, **OF_OTHER_MOMENTS}
# Of the tiny model every name fits into it, and of what a file says no more than a beginning.
LONGEST_LINE = 5000
NAME = "checkpoint_last.pt"


@pytest.fixture
def sound(pretrained_once):
    """The folder of a finished run, not to be changed."""
    return pretrained_once


@pytest.fixture
def spoiled(sound, tmp_path):
    """A copy of the run, its checkpoint spoiled; and the words that an error has to hold."""

    def make(case):
        folder = shutil.copytree(sound, tmp_path / "spoiled")
        spoil, words = EVERY_CASE[case]
        spoil(folder / NAME)
        return folder, words

    return make


@contextlib.contextmanager
def limited_memory():
    """A gigabyte beyond what is in use: what a hostile file asks for is not to be had."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def assert_told(line, folder, words):
    assert isinstance(line, str), line
    assert "\n" not in line
    assert len(line) <= LONGEST_LINE
    assert words in line
    assert str(folder) in line
    assert not list(folder.rglob(MARK))


@pytest.mark.slow
@pytest.mark.parametrize("case", {**CASES, **UNFINISHED})
def test_by_what_reads_them_for_every_door(spoiled, case):
    folder, words = spoiled(case)
    with limited_memory(), pytest.raises(UserError) as raised:
        read_all(folder / NAME)
    assert_told(str(raised.value), folder, words)


def read_all(path):
    """A checkpoint, the model that it describes and where its run stood, each checked."""
    checkpoint = read_checkpoint(path)
    rows = range(len(checkpoint.tensors[TOKEN_TABLE]))
    empty_model_of(ConvBertModel, checkpoint, rows, path)
    check_progress(checkpoint, path, ReplacedTokenDetectionTask.__name__, resets=())


def test_a_sound_one_passes(sound):
    read_all(sound / NAME)


# Each is found by another part of the reader: the pickle, the archive, the model, its numbers, the
# progress.
AT_A_DOOR = ("runs_a_command", "flipped_bit", "of_another_width", "holds_nan")


@pytest.mark.parametrize("case", AT_A_DOOR)
def test_through_from_pretrained(spoiled, case):
    folder, words = spoiled(case)
    with limited_memory(), pytest.raises(ValueError, match=NAME) as raised:
        ConvBertModel.from_pretrained(folder, NAME)
    assert_told(str(raised.value), folder, words)


@pytest.mark.parametrize("case", AT_A_DOOR)
def test_through_convert(spoiled, tmp_path, case):
    folder, words = spoiled(case)
    command = ["convert", "--from", "fairseq", "--to", "hf", folder / NAME, tmp_path / "out"]
    with limited_memory(), pytest.raises(SystemExit) as ended:
        convbert_command([str(word) for word in command])
    assert_told(ended.value.code, folder, words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("case", [*AT_A_DOOR, "updates_in_words"])
def test_through_restore_file(spoiled, corpus, fairseq_train, tmp_path, case):
    folder, words = spoiled(case)
    arguments = ("--restore-file", folder / NAME, "--max-update", "3")
    with limited_memory(), pytest.raises(SystemExit) as ended:
        fairseq_train(corpus.data, tmp_path / "run", *arguments)
    assert_told(ended.value.code, folder, words)
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file()]


@pytest.mark.parametrize("case", AT_A_DOOR)
def test_through_fairseq_validate(spoiled, corpus, fairseq_validate, case):
    folder, words = spoiled(case)
    with limited_memory(), pytest.raises(SystemExit) as ended:
        fairseq_validate(corpus.data, folder / NAME)
    assert_told(ended.value.code, folder, words)


@pytest.mark.parametrize(
    "case", ["flipped_bit", "packed_zeros", "of_many_layers", "bites_its_tail"]
)
def test_through_fairseq_validate_by_the_name_of_another_task(
    spoiled, corpus, fairseq_validate, case
):
    """Then fairseq asks none of ours for its options, and takes the task that the file names."""
    folder, words = spoiled(case)
    with limited_memory(), pytest.raises(SystemExit) as ended:
        fairseq_validate(corpus.data, folder / NAME, "--task", "masked_lm")
    assert_told(ended.value.code, folder, words)


def test_through_a_shard_beside_it(sound, corpus, fairseq_validate, tmp_path):
    """Which fairseq prefers to the file that is named."""
    folder = shutil.copytree(sound, tmp_path / "spoiled")
    shard = folder / "checkpoint_last-shard0.pt"
    shutil.copy(folder / NAME, shard)
    EVERY_CASE["flipped_bit"][0](shard)
    with pytest.raises(SystemExit) as ended:
        fairseq_validate(corpus.data, folder / NAME)
    assert_told(ended.value.code, shard, "does not match its checksum")


def test_a_place_in_an_epoch_that_is_not_there(sound, corpus, fairseq_train, tmp_path):
    state = torch.load(sound / NAME, weights_only=True)
    state["extra_state"]["train_iterator"]["iterations_in_epoch"] = 10**6
    torch.save(state, tmp_path / NAME)
    with pytest.raises(SystemExit) as ended:
        fairseq_train(
            corpus.data, tmp_path / "run", "--restore-file", tmp_path / NAME, "--max-update", "3"
        )
    assert_told(ended.value.code, tmp_path / NAME, "add --reset-dataloader")


@pytest.mark.parametrize("case", OF_OTHER_MOMENTS)
def test_moments_that_do_not_fit(spoiled, corpus, fairseq_train, tmp_path, case):
    """fairseq's log names the file before it."""
    folder, words = spoiled(case)
    arguments = ("--restore-file", folder / NAME, "--max-update", "3")
    with pytest.raises(SystemExit) as ended:
        fairseq_train(corpus.data, tmp_path / "run", *arguments)
    assert f"optimizer state does not fit: {words} of parameter 0" in ended.value.code
    assert "--reset-optimizer" in ended.value.code


@pytest.mark.parametrize(
    ("flag", "cases"),
    [
        (
            "--reset-optimizer",
            ("updates_in_words", "best_of_a_list", "moments_of_words", "moments_of_no_end"),
        ),
        ("--reset-optimizer", ("criterion_of_a_number", "optimizer_of_a_list")),
        ("--reset-lr-scheduler", ("schedule_of_nothing",)),
        ("--reset-meters", ("best_of_a_list", "meter_of_a_word")),
        ("--reset-dataloader", ("task_of_a_list",)),
        (
            "--finetune-from-model",
            ("updates_in_words", "optimizer_of_a_list", "metrics_of_a_list", "task_of_a_list"),
        ),
    ],
)
def test_what_is_reset_may_be_damaged(sound, corpus, fairseq_train, tmp_path, flag, cases):
    folder = shutil.copytree(sound, tmp_path / "spoiled")
    for case in cases:
        EVERY_CASE[case][0](folder / NAME)
    named = (flag,) if flag == "--finetune-from-model" else (flag, "--restore-file")
    arguments = (*named, folder / NAME, "--max-update", "3")
    run = fairseq_train(corpus.data, tmp_path / "run", *arguments)
    assert run.checkpoint()["optimizer_history"][-1]["num_updates"] == 3


def test_a_checkpoint_may_lack_what_a_run_goes_on_from(sound, corpus, fairseq_train, tmp_path):
    state = torch.load(sound / NAME, weights_only=True)
    del state["last_optimizer_state"]
    bare = {**state, "extra_state": {}, "optimizer_history": [{"lr_scheduler_state": {}}]}
    torch.save(bare, tmp_path / NAME)
    arguments = ("--restore-file", tmp_path / NAME, "--max-update", "1")
    run = fairseq_train(corpus.data, tmp_path / "run", *arguments)
    assert run.checkpoint()["optimizer_history"][-1]["num_updates"] == 1


def test_a_conversion_keeps_the_weights_of_a_run_that_cannot_go_on(
    sound, corpus, fairseq_train, tmp_path
):
    """As the line says: what is always read (where a run stood) is written anew."""
    folder = shutil.copytree(sound, tmp_path / "spoiled")
    for case in ("history_of_nothing", "iterator_of_a_list", "time_in_words"):
        UNFINISHED[case][0](folder / NAME)
    command = ["convert", "--from", "fairseq", "--to", "fairseq", folder / NAME, tmp_path / "anew"]
    assert convbert_command([str(word) for word in command]) == 0
    model = tmp_path / "anew" / "model.pt"
    # With a rate of 0, what was loaded is what is saved.
    kept = ("--restore-file", model, "--max-update", "1", "--lr", "0")
    run = fairseq_train(corpus.data, tmp_path / "run", *kept)
    given = torch.load(folder / NAME, weights_only=True)["model"]
    assert all(torch.equal(run.checkpoint()["model"][name], given[name]) for name in given)


@pytest.mark.parametrize("flag", ["--finetune-from-model", "--continue-once", "--save-dir"])
def test_through_the_other_ways_to_start(spoiled, corpus, fairseq_train, tmp_path, flag):
    folder, words = spoiled("runs_a_command")
    value = folder if flag == "--save-dir" else folder / NAME
    with pytest.raises(SystemExit) as ended:
        fairseq_train(corpus.data, tmp_path / "run", flag, value, "--max-update", "3")
    assert_told(ended.value.code, folder, words)


def test_the_last_line_of_real_processes(forked, spoiled, corpus, usual_arguments, tmp_path):
    folder, words = spoiled("runs_a_command")
    python = f"from convbert_plugin import ConvBertModel as M; M.from_pretrained({str(folder)!r})"
    convert = ("convert", "--from", "fairseq", "--to", "hf", folder, tmp_path / "out")
    train = (corpus.data, *usual_arguments, "--save-dir", tmp_path / "run", "--restore-file")
    (folder / "checkpoint_best.pt").unlink()
    for command in (
        ("-c", python),
        ("-m", "convbert_plugin.cli", *convert),
        ("-m", "fairseq_cli.train", *train, folder / NAME),
    ):
        done = subprocess.run(
            ["python", *map(str, command)],
            cwd=CHECKOUT,
            env=forked,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert ("Traceback" in done.stderr) == (command[0] == "-c")
        assert_told(done.stderr.splitlines()[-1], folder, words)


@pytest.mark.parametrize("case", ["history_of_nothing", "moments_of_another_shape"])
def test_the_last_line_of_a_run_that_cannot_go_on(
    forked, spoiled, corpus, usual_arguments, tmp_path, case
):
    folder, words = spoiled(case)
    run = ("--save-dir", tmp_path / "run", "--restore-file", folder / NAME, "--max-update", "3")
    command = ("fairseq-train", corpus.data, *usual_arguments, *run)
    done = subprocess.run(
        list(map(str, command)), cwd=CHECKOUT, env=forked, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert words in done.stderr.splitlines()[-1]
    assert "use another checkpoint" in done.stderr.splitlines()[-1]


def test_the_files_would_run_code_where_it_is_allowed(sound, tmp_path):
    """The payloads are live: loaded by pickle itself, they leave their mark."""
    for case in ("runs_a_command", "raw_pickle", "old_format", "evaluates_text"):
        folder = shutil.copytree(sound, tmp_path / case)
        HOSTILE[case][0](folder / NAME)
        with contextlib.suppress(Exception):
            torch.load(folder / NAME, weights_only=False)
        assert (folder / MARK).exists(), case


def truncated(path):
    path.write_bytes(path.read_bytes()[:-7])


def header_of_no_end(path):
    data = path.read_bytes()
    path.write_bytes((1 << 40).to_bytes(8, "little") + data[8:])


def offsets_beyond_the_file(path):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + size].replace(b'"shape":[40]', b'"shape":[41]')
    path.write_bytes(data[:8] + header + data[8 + size :])


def shapes_of_no_end(path):
    header = b'{"w":{"dtype":"F32","shape":[1000000000000,1000000],"data_offsets":[0,4]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


def whole_numbers(path):
    header = b'{"w":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))


@pytest.mark.parametrize(
    "spoil",
    [
        *(truncated, header_of_no_end, offsets_beyond_the_file, shapes_of_no_end, whole_numbers),
        *(lambda path: path.write_bytes(b""), lambda path: path.write_text("no tensors")),
    ],
)
def test_safetensors(tmp_path, spoil):
    folder = save_folder(toy_model("ConvBertModel"), tmp_path / "source")
    spoil(folder / "model.safetensors")
    command = ["convert", "--from", "hf", "--to", "fairseq", folder, tmp_path / "out"]
    with limited_memory(), pytest.raises(SystemExit) as ended:
        convbert_command([str(word) for word in command])
    assert_told(ended.value.code, folder, "model.safetensors")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("case", ["runs_a_command", "half", "packed_zeros"])
def test_pickled_models_of_transformers(tmp_path, sound, case):
    folder = save_folder(toy_model("ConvBertModel"), tmp_path / "source")
    (folder / "model.safetensors").unlink()
    shutil.copy(sound / NAME, folder / "pytorch_model.bin")
    spoil, words = CASES[case]
    spoil(folder / "pytorch_model.bin")
    command = ["convert", "--from", "hf", "--to", "fairseq", folder, tmp_path / "out"]
    with limited_memory(), pytest.raises(SystemExit) as ended:
        convbert_command([str(word) for word in command])
    assert_told(ended.value.code, folder, words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[1]", '{"model_type": "convbert", "hidden_size": NaN}', "[" * 100_000, "\x00\xff"],
    ids=["empty", "open", "a list", "no number", "deep", "no text"],
)
def test_configs(tmp_path, content):
    folder = save_folder(toy_model("ConvBertModel"), tmp_path / "source")
    (folder / "config.json").write_bytes(content.encode("latin-1"))
    command = ["convert", "--from", "hf", "--to", "fairseq", folder, tmp_path / "out"]
    with pytest.raises(SystemExit) as ended:
        convbert_command([str(word) for word in command])
    assert_told(ended.value.code, folder, "config.json")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [("--help",), ("user-dir",)])
def test_the_command_does_not_start_where_loading_would_run_code(command):
    environment = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "convbert_plugin.cli", *command],
        env=environment,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    assert not done.stdout


def test_the_variable_is_seen_when_it_is_set_later(sound, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(ValueError, match="TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"):
        ConvBertModel.from_pretrained(sound)
