"""Mistakes of the user: one line that says what to do, status 1, nothing half written."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fairseq_cli.train
import fairseq_cli.validate
import numpy as np
import pytest
import torch
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

import convbert_plugin
from convbert_plugin.cli import main as convbert
from convbert_plugin.training.run_lock import LOCK_FILE
from user_dir_tests.end_to_end.conftest import TASK

pytestmark = pytest.mark.pretraining

OURS_ALONE = ("--embedding-dim", "--conv-kernel-size")
CHECKOUT = Path(convbert_plugin.__file__).parents[1]


ELECTRA = ("--arch", "electra_small")


@pytest.fixture
def fails(tmp_path):
    """Run something that has to end in one line; return the line.

    Beside the folder that fairseq itself makes for checkpoints, nothing may be written.
    """

    def run(action, *arguments):
        before = files_below(tmp_path)
        with pytest.raises(SystemExit) as ended:
            action(*arguments)
        assert files_below(tmp_path) == before
        return one_line(ended.value)

    return run


def files_below(folder):
    # The lock is removed as its process ends, which here is that of the tests.
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK_FILE)
    return {path: path.read_bytes() for path in files}


def one_line(error):
    # SystemExit with a text: Python prints it to stderr and ends with status 1.
    assert not isinstance(error, Exception)
    line = error.code
    assert isinstance(line, str)
    assert line.strip()
    assert "\n" not in line
    return line


def without_options(arguments, *names):
    """A command line without some options and their values."""
    places = {arguments.index(name) for name in names}
    return [
        word
        for place, word in enumerate(arguments)
        if place not in places and place - 1 not in places
    ]


@pytest.fixture
def train_fails(corpus, run_fairseq, usual_arguments, fails, tmp_path):
    def run(*arguments, data=corpus.data, without=()):
        usual = without_options(usual_arguments, *without)
        usual += ["--save-dir", tmp_path / "run", "--max-update", "1"]
        return fails(run_fairseq, fairseq_cli.train, data, *usual, *arguments)

    return run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--conv-kernel-size", "4"), ("--conv-kernel-size 4", "odd number")),
        (("--encoder-embed-dim", "30"), ("30", "4 heads", "--encoder-attention-heads")),
        (("--ffn-groups", "3"), ("3 groups", "--ffn-groups")),
        (("--generator-size", "0.8"), ("does not divide", "--generator-size")),
        (("--generator-size", "0"), ("--generator-size 0", "fraction")),
        (("--encoder-layers", "0"), ("--encoder-layers 0", "at least 1")),
        (("--tokens-per-sample", "41"), ("41", "40 positions", "--max-positions")),
        (("--tokens-per-sample", "3"), ("--tokens-per-sample 3", "at least")),
        (("--mask-prob", "1.5"), ("--mask-prob 1.5", "between 0 and 1")),
        (("--bf16",), ("--bf16", "--autocast-dtype bfloat16")),
        (("--fp16",), ("--fp16 needs a GPU", "--autocast-dtype bfloat16")),
        (("--amp",), ("--amp needs a GPU", "--autocast-dtype bfloat16")),
        (("--valid-subset", "test"), ("test.bin is missing", "another split")),
        (("--finetune-from-model", "nowhere.pt"), ("nowhere.pt", "no such file")),
        (("--train-subset", "test"), ("test.bin is missing", "another split")),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else None,
)
def test_options_that_do_not_fit(train_fails, arguments, words):
    line = train_fails(*arguments)
    assert all(word in line for word in words), line


TASK_NAME = "replaced_token_detection"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--criterion", "masked_lm"), ("--criterion masked_lm", f"--task {TASK_NAME}")),
        (("--criterion", "glue"), ("--criterion glue", f"--task {TASK_NAME}")),
        (("--arch", "roberta_base"), ("--arch roberta_base", TASK_NAME, "convbert_small")),
        (
            ("--task", "masked_lm", "--criterion", "masked_lm"),
            ("--arch convbert_small", "MaskedLMTask", f"--task glue or {TASK_NAME}"),
        ),
        (
            ("--task", "masked_lm", "--arch", "roberta"),
            (f"--criterion {TASK_NAME}", "--task masked_lm: give", f"--task {TASK_NAME}"),
        ),
    ],
    ids=["criterion", "criterion of another task", "arch", "task", "criterion alone"],
)
def test_what_does_not_go_together(train_fails, arguments, words):
    # An encoder of fairseq knows no options of ours.
    drop = OURS_ALONE if "roberta" in " ".join(arguments) else ()
    line = train_fails(*arguments, without=drop)
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    "option", [("--max-tokens", "23"), ("--max-tokens", "24", "--max-tokens-valid", "23")]
)
def test_an_example_that_is_longer_than_a_batch(train_fails, option):
    line = train_fails(*option, without=("--batch-size",))
    assert line.startswith("--max-tokens 23: the longest example has 24 tokens")


def test_a_batch_may_be_as_long_as_the_longest_example(
    run_fairseq, usual_arguments, corpus, tmp_path
):
    run_fairseq(
        fairseq_cli.train,
        corpus.data,
        *without_options(usual_arguments, "--batch-size"),
        *("--max-tokens", "24", "--max-update", "1", "--save-dir", tmp_path),
    )


def test_training_without_a_batch_size(train_fails):
    assert train_fails(without=("--batch-size",)).startswith("--batch-size is missing")


@pytest.mark.parametrize("batches", [(), ("--max-tokens", "30"), ("--batch-size", "1")])
def test_validating_takes_any_batch_size_or_none(run_fairseq, corpus, pretrained, batches):
    path = ("--path", pretrained.folder / "checkpoint_last.pt")
    usual = ("--cpu", "--log-format", "json", "--num-workers", "0")
    logs = run_fairseq(fairseq_cli.validate, corpus.data, *TASK, *path, *usual, *batches)
    of_two = run_fairseq(
        fairseq_cli.validate, corpus.data, *TASK, *path, *usual, "--batch-size", "2"
    )
    # One loss is of all examples, whatever the batches.
    assert float(logs["valid"][-1]["valid_loss"]) == pytest.approx(
        float(of_two["valid"][-1]["valid_loss"]), abs=2e-4
    )


@pytest.mark.parametrize(
    ("path", "words"),
    [((), "--path is missing"), (("--path", "nowhere.pt"), "nowhere.pt: no such file")],
)
def test_validating_no_checkpoint(fails, run_fairseq, corpus, path, words):
    line = fails(run_fairseq, fairseq_cli.validate, corpus.data, *TASK, *path, "--cpu")
    assert line.startswith(words)


def test_validating_passes_over_options_of_the_training(fairseq_validate, corpus, pretrained):
    arguments = ("--criterion", TASK_NAME, "--optimizer", "convbert_adamw")
    fairseq_validate(corpus.data, pretrained.folder / "checkpoint_last.pt", *arguments)


def test_data_that_is_not_there(train_fails, corpus, tmp_path):
    line = train_fails(data=tmp_path / "nowhere")
    assert f"{tmp_path / 'nowhere' / 'dict.txt'} is missing" in line
    assert "fairseq-preprocess" in line
    line = train_fails(data=f"{corpus.data}:{tmp_path / 'nowhere'}")
    assert str(tmp_path / "nowhere") in line


def test_text_in_the_place_of_data(train_fails, corpus):
    """The folder of pieces holds a dict.txt too."""
    assert "fairseq-preprocess" in train_fails(data=corpus.pieces)


def data_with_rows(corpus, folder, rows):
    """The data beside another dictionary and its tokenizer."""
    shutil.copytree(corpus.data, folder)
    (folder / "vocab.txt").write_text("".join(f"{row}\n" for row in rows))
    (folder / "dict.txt").write_text("".join(f"{row} 1\n" for row in rows))
    return folder


def rows_of(corpus):
    return (corpus.text / "vocab.txt").read_text().split()


def test_a_dictionary_without_a_mask(train_fails, corpus, tmp_path):
    rows = [row for row in rows_of(corpus) if row != "[MASK]"]
    line = train_fails(data=data_with_rows(corpus, tmp_path / "data", rows))
    assert "dict.txt" in line
    assert "[MASK]" in line


def test_ids_beyond_the_dictionary(train_fails, corpus, tmp_path):
    data = data_with_rows(corpus, tmp_path / "data", rows_of(corpus)[:-6])
    line = train_fails(data=data)
    assert "another vocabulary" in line
    assert "binarize" in line


def test_separators_that_are_not_the_dictionarys(train_fails, corpus, tmp_path):
    rows = rows_of(corpus)
    separator, other = rows.index("[SEP]"), rows.index("the")
    rows[separator], rows[other] = rows[other], rows[separator]
    line = train_fails(data=data_with_rows(corpus, tmp_path / "data", rows))
    assert "another vocabulary" in line
    assert "binarize" in line


def test_a_tokenizer_beside_the_data_that_is_not_its_own(
    train_fails, corpus, other_order, tmp_path
):
    data = shutil.copytree(corpus.data, tmp_path / "data")
    shutil.copy(other_order.data / "vocab.txt", data)
    line = train_fails(data=data)
    assert str(data / "dict.txt") in line
    assert str(data / "vocab.txt") in line


def test_shards_of_two_vocabularies(train_fails, corpus, other_order):
    line = train_fails(data=f"{corpus.data}:{other_order.data}")
    assert str(other_order.data / "dict.txt") in line
    assert "--srcdict" in line


@pytest.fixture(params=["no lines", "empty lines"])
def empty_data(request, corpus, tmp_path):
    """What fairseq-preprocess makes of a corpus without text."""
    data = shutil.copytree(corpus.data, tmp_path / "data")
    builder = MMapIndexedDatasetBuilder(str(data / "train.bin"), dtype=np.uint16)
    separator = torch.tensor([rows_of(corpus).index("[SEP]")])
    for _ in range(3 if request.param == "empty lines" else 0):
        builder.add_item(separator)
    builder.finalize(str(data / "train.idx"))
    return data


def test_data_of_an_empty_corpus(train_fails, empty_data):
    line = train_fails(data=empty_data)
    assert str(empty_data / "train.bin") in line
    assert "no text" in line


@pytest.mark.parametrize("other", ["other_order", "other_size"])
@pytest.mark.parametrize("flag", ["--restore-file", "--finetune-from-model", "--save-dir"])
def test_a_checkpoint_of_another_vocabulary(train_fails, pretrained, request, flag, other):
    data = request.getfixturevalue(other).data
    value = pretrained.folder if flag == "--save-dir" else pretrained.folder / "checkpoint_last.pt"
    line = train_fails(flag, value, "--max-update", "4", data=data)
    assert "vocabulary" in line
    assert "checkpoint" in line


@pytest.mark.parametrize("other", ["other_order", "other_size"])
def test_a_checkpoint_of_another_vocabulary_without_a_dictionary_beside_it(
    train_fails, pretrained, tmp_path, request, other
):
    checkpoint = tmp_path / "elsewhere" / "checkpoint.pt"
    checkpoint.parent.mkdir()
    shutil.copy(pretrained.folder / "checkpoint_last.pt", checkpoint)
    data = request.getfixturevalue(other).data
    line = train_fails("--restore-file", checkpoint, "--max-update", "4", data=data)
    assert "vocabulary" in line


@pytest.mark.parametrize("other", ["other_order", "other_size"])
def test_validating_with_data_of_another_vocabulary(
    fails, fairseq_validate, pretrained, request, other
):
    data = request.getfixturevalue(other).data
    line = fails(fairseq_validate, data, pretrained.folder / "checkpoint_last.pt")
    assert str(data) in line
    assert "another vocabulary" in line


@pytest.mark.parametrize("flag", ["--restore-file", "--finetune-from-model", "--save-dir"])
@pytest.mark.parametrize(
    "sizes",
    [("--encoder-layers", "3"), ("--encoder-embed-dim", "48"), ("--arch", "electra_small")],
    ids=lambda sizes: " ".join(sizes),
)
def test_a_checkpoint_of_another_architecture(train_fails, pretrained, flag, sizes):
    value = pretrained.folder if flag == "--save-dir" else pretrained.folder / "checkpoint_last.pt"
    line = train_fails(flag, value, *sizes)
    assert "does not fit --arch" in line
    assert "was trained with" in line


@pytest.mark.parametrize("flag", ["--restore-file", "--finetune-from-model", "--save-dir"])
@pytest.mark.parametrize(
    ("trained", "now", "told"),
    [
        (ELECTRA, ("--encoder-attention-heads", "2"), "--encoder-attention-heads 4 (here 2)"),
        ((), ("--pads-visible",), "--pads-visible False (here True)"),
    ],
    ids=["heads", "pads"],
)
def test_the_same_tensors_as_another_model(
    corpus, fairseq_train, train_fails, tmp_path, flag, trained, now, told
):
    run = fairseq_train(corpus.data, tmp_path / "before", *trained, "--max-update", "1").folder
    value = run if flag == "--save-dir" else run / "checkpoint_last.pt"
    line = train_fails(flag, value, "--max-update", "2", *trained, *now)
    assert f"the checkpoint's encoder was trained with {told}: its tensors fit" in line
    arguments = (*trained, "--dropout", "0.3", "--conv-backend", "fairseq", "--max-update", "2")
    fairseq_train(corpus.data, run, *arguments)


def test_a_generator_of_another_size(train_fails, pretrained):
    line = train_fails(
        "--restore-file", pretrained.folder / "checkpoint_last.pt", "--generator-size", "1"
    )
    assert "--generator-size" in line
    assert "--arch" not in line


@pytest.mark.parametrize(
    "option",
    [
        ("--restore-file", "checkpoint_2.pt"),
        *((f"--reset-{part}",) for part in ("optimizer", "lr-scheduler", "meters", "dataloader")),
    ],
    ids=lambda option: option[0],
)
def test_what_goes_with_no_finetuning(train_fails, pretrained, option):
    source = pretrained.folder / "checkpoint_last.pt"
    line = train_fails("--finetune-from-model", source, *option)
    assert line.startswith(f"--finetune-from-model {source} and {' '.join(option)} exclude")


@pytest.mark.parametrize("flag", ["--restore-file", "--finetune-from-model"])
@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_a_beginning_that_is_no_file(train_fails, tmp_path, flag, kind):
    path = tmp_path / "model.pt"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    line = train_fails(flag, path)
    assert line.startswith(f"{path}: ")
    assert "no such file" not in line


@pytest.mark.parametrize("flag", ["--restore-file", "--finetune-from-model"])
def test_a_beginning_without_a_name(train_fails, flag):
    assert train_fails(flag, "") == f"{flag} '': no such file"


PLACES = {
    "a folder": Path.mkdir,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a device": lambda path: path.symlink_to("/dev/null"),
    "a pipe": os.mkfifo,
}


@pytest.mark.survival
@pytest.mark.parametrize("name", ["checkpoint_last.pt", "checkpoint_best.pt"])
@pytest.mark.parametrize("kind", PLACES)
def test_what_stands_where_a_checkpoint_of_the_run_belongs(train_fails, tmp_path, kind, name):
    """fairseq would begin anew, and over it, or fail at the first checkpoint."""
    place = tmp_path / "run" / name
    place.parent.mkdir()
    PLACES[kind](place)
    told = {"a link to a device": "a pipe or a device", "a pipe": "a pipe or a device"}
    told["a link to itself"] = "a link to nothing"
    before = place.lstat()
    assert train_fails() == (
        f"{place}: {told.get(kind, kind)}, where a checkpoint of the run belongs: remove it, or "
        "choose another --save-dir"
    )
    assert place.lstat() == before


@pytest.mark.survival
def test_a_folder_that_cannot_be_saved_in(train_fails, tmp_path):
    (tmp_path / "file").touch()
    words = "cannot be written in (Not a directory): choose another folder"
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        assert train_fails("--save-dir", folder) == f"--save-dir {folder}: {words}"
    (tmp_path / "link").symlink_to("nowhere")
    line = train_fails("--save-dir", tmp_path / "link")
    assert line.startswith(f"--save-dir {tmp_path / 'link'}: cannot be written in (File exists")
    # Where not even root can make a folder.
    assert train_fails("--save-dir", "/proc/a/run").startswith("--save-dir /proc/a/run: cannot be")


def test_a_checkpoint_of_the_other_objective(train_fails, pretrained):
    """Resumed, its optimizer state belongs to other parameters."""
    line = train_fails("--save-dir", pretrained.folder, "--objective", "masked_lm")
    assert "--reset-optimizer" in line


@pytest.mark.parametrize(
    ("arguments", "before", "now"),
    [
        (("--optimizer", "adam"), "ConvBertAdamW", "FairseqAdam"),
        (("--criterion", "masked_lm"), "ReplacedTokenDetectionCriterion", "MaskedLmLoss"),
    ],
)
@pytest.mark.parametrize("flag", ["--restore-file", "--save-dir"])
def test_a_checkpoint_of_another_component(train_fails, pretrained, flag, arguments, before, now):
    value = pretrained.folder if flag == "--save-dir" else pretrained.folder / "checkpoint_last.pt"
    line = train_fails(flag, value, *arguments, "--max-update", "4")
    assert f"was trained with {before}, and this run has {now}: " in line
    assert "--reset-optimizer" in line


def test_another_optimizer_may_begin_from_the_weights(corpus, fairseq_train, pretrained, tmp_path):
    arguments = ("--optimizer", "adam", "--max-update", "3", "--reset-optimizer")
    start = ("--restore-file", pretrained.folder / "checkpoint_last.pt")
    run = fairseq_train(corpus.data, tmp_path / "run", *arguments, *start)
    assert run.checkpoint()["optimizer_history"][-1]["optimizer_name"] == "FairseqAdam"


def encode(*arguments):
    return convbert(["encode", "--workers", "1", *map(str, arguments)])


def test_encoding_without_a_mask_in_the_vocabulary(fails, corpus, tmp_path):
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("".join(f"{row}\n" for row in rows_of(corpus) if row != "[MASK]"))
    arguments = ("--tokenizer", vocabulary, corpus.text / "train.txt", tmp_path / "out" / "pieces")
    line = fails(encode, *arguments)
    assert str(vocabulary) in line
    assert "[MASK]" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["", "\n \n\n"])
def test_encoding_an_empty_corpus(fails, corpus, tmp_path, content):
    text = tmp_path / "text.txt"
    text.write_text(content)
    out = tmp_path / "out" / "pieces"
    line = fails(encode, "--tokenizer", corpus.text / "vocab.txt", text, out)
    assert str(text) in line
    assert "no text" in line
    assert not out.parent.exists()


# What follows costs some seconds a test: real processes.


def run_process(*command, **options):
    options = {"cwd": CHECKOUT, "capture_output": True, "text": True, **options}
    return subprocess.run([str(word) for word in command], **options)


def last_line_of_failure(done):
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    return done.stderr.splitlines()[-1]


def test_text_that_is_not_utf8(corpus, tmp_path):
    text = tmp_path / "text.txt"
    text.write_bytes("the cat\na caf\u00e9\n".encode("latin-1"))
    out = tmp_path / "out" / "pieces"
    arguments = ("encode", "--tokenizer", corpus.text / "vocab.txt", text, out)
    line = last_line_of_failure(
        run_process(sys.executable, "-m", "convbert_plugin.cli", *arguments)
    )
    assert f"{text}:2" in line
    assert "iconv" in line
    assert not out.parent.exists()


def test_the_last_line_of_fairseq_train(corpus, usual_arguments, tmp_path):
    arguments = (*usual_arguments, "--save-dir", tmp_path / "run", "--conv-kernel-size", "4")
    command = (sys.executable, "-m", "fairseq_cli.train", corpus.data, *arguments)
    line = last_line_of_failure(run_process(*command))
    assert line.startswith("--conv-kernel-size 4")
    assert not list((tmp_path / "run").iterdir())


def test_fairseq_is_missing():
    code = (
        "import sys\n"
        "class Nowhere:\n"
        "    def find_spec(name, *_):\n"
        "        if name == 'fairseq': raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Nowhere)\n"
        "from convbert_plugin import ConvBertModel\n"
    )
    done = run_process(sys.executable, "-c", code)
    assert done.returncode == 1
    assert "ModuleNotFoundError: fairseq is missing: pip install" in done.stderr.splitlines()[-1]


UNSAFE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@pytest.mark.parametrize(
    "command",
    [
        ("fairseq-train", "data", *TASK),
        ("fairseq-validate", "data", *TASK),
    ],
    ids=lambda command: command[0],
)
def test_unsafe_loading_ends_a_command(forked, tmp_path, command):
    done = run_process(*command, cwd=tmp_path, env={**forked, UNSAFE: "1"})
    assert last_line_of_failure(done).startswith(UNSAFE)


def test_unsafe_loading_is_an_exception_in_python():
    code = "from convbert_plugin import ConvBertModel"
    done = run_process(sys.executable, "-c", code, env={UNSAFE: "1"})
    assert done.returncode == 1
    assert f"UserValueError: {UNSAFE}" in done.stderr.splitlines()[-1]


def test_a_folder_of_another_tokenizer_is_refused_before_training(train_fails, corpus, tmp_path):
    """The dictionary is the same, the case is not: no checkpoint could be written there."""
    settings = json.loads((corpus.data / "tokenizer_config.json").read_text())
    settings["do_lower_case"] = not settings["do_lower_case"]
    run = tmp_path / "old run"
    run.mkdir()
    (run / "tokenizer_config.json").write_text(json.dumps(settings))
    line = train_fails("--save-dir", run)
    assert str(run / "tokenizer_config.json") in line
    assert "another tokenizer" in line
