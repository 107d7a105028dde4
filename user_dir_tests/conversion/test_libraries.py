"""Options that contradict each other or the source, sources of another kind, and interruptions."""

import errno
import json
import logging
import os
import signal
import sys
import time

import pytest
import torch

from convbert_plugin.cli import main
from convbert_plugin.conversion import libraries as conversion
from user_dir_tests.oracles.transformers_models import save_folder, toy_model

pytestmark = pytest.mark.weights

# Of the toy model.
POSITIONS = 37


@pytest.fixture
def published(tmp_path):
    """A folder of transformers with a model without a head."""
    return save_folder(toy_model("ConvBertModel"), tmp_path / "published")


@pytest.fixture
def own(convert, published, tmp_path):
    """The same model as a folder of this plugin."""
    folder, _ = convert("hf", "fairseq", published, tmp_path / "own")
    return folder


@pytest.mark.parametrize(
    ("route", "options", "words"),
    [
        ("hf fairseq", "--network generator", "--to hf"),
        ("fairseq fairseq", "--network generator", "--to hf"),
        ("fairseq fairseq", "--head tone", "--from hf --to fairseq"),
        ("hf hf", "--head tone", "--from hf --to fairseq"),
        ("tf fairseq", "--head tone", "--from hf --to fairseq"),
        ("fairseq hf", "--head tone --network generator", "generator has no"),
        ("hf fairseq", "--head=", "plain word"),
        ("hf fairseq", "--head a.b", "plain word"),
        ("hf fairseq", "--head keys", "torch has taken this word"),
        ("hf fairseq", "--head training", "torch has taken this word"),
        ("hf fairseq", "--head __class__", "torch has taken this word"),
        ("hf fairseq", "--cased", "--tokenizer"),
        ("hf fairseq", "--strip-accents", "--tokenizer"),
        ("fairseq hf", "--keep-accents", "--vocab"),
        ("hf hf", "--cased --tokenizer a --vocab b", "give a folder with tokenizer_config.json"),
        ("hf hf", "--keep-accents --vocab b --tokenizer a", "of both --tokenizer and --vocab"),
        ("hf fairseq", "--max-positions 1048577", "at most 1,048,576"),
        ("hf fairseq", f"--max-positions {10**12}", "at most 1,048,576"),
        ("hf fairseq", f"--max-positions {10**29}", "at most 1,048,576"),
        ("hf fairseq", "--trained-length 0", "at least 1"),
    ],
)
def test_arguments_that_contradict_each_other(tmp_path, capsys, route, options, words):
    """Told before anything is read: there is no source here."""
    origin, target = route.split()
    arguments = ["--from", origin, "--to", target, *options.split(), str(tmp_path / "source")]
    with pytest.raises(SystemExit) as ended:
        main(["convert", *arguments, str(tmp_path / "there")])
    assert ended.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("convbert convert: error: ")
    assert words in line


@pytest.mark.parametrize("target", ["fairseq", "hf"])
def test_a_head_that_the_model_has_not(convert_fails, published, own, tmp_path, target):
    origin, source = ("hf", published) if target == "fairseq" else ("fairseq", own)
    line = convert_fails(origin, target, source, tmp_path / "there", "--head", "tone")
    assert line.startswith("--head tone: ")
    assert "has no" in line or "has none" in line


@pytest.mark.parametrize("length", [POSITIONS + 1, 2**31 - 1])
@pytest.mark.parametrize("origin", ["hf", "fairseq"])
def test_more_trained_positions_than_there_are(
    convert_fails, published, own, tmp_path, origin, length
):
    source = published if origin == "hf" else own
    arguments = (origin, "fairseq", source, tmp_path / "there", "--trained-length", length)
    assert f"--trained-length {length}: this model has only {POSITIONS}" in convert_fails(
        *arguments
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("origin", "target", "options", "is_assumed"),
    [
        ("hf", "fairseq", (), True),
        ("hf", "hf", (), False),
        ("hf", "hf", ("--max-positions", 60), True),
        ("hf", "fairseq", ("--max-positions", 60), True),
        ("hf", "fairseq", ("--max-positions", 60, "--trained-length", 20), False),
        ("fairseq", "fairseq", ("--max-positions", 60), False),
    ],
)
def test_an_assumed_length_of_training_is_told(
    convert, published, own, tmp_path, origin, target, options, is_assumed
):
    source = published if origin == "hf" else own
    _, lines = convert(origin, target, source, tmp_path / "there", *options)
    line = (
        f"assuming that all {POSITIONS} positions were trained: say --trained-length if fewer were"
    )
    assert (line in lines) is is_assumed


@pytest.mark.parametrize("target", ["hf", "fairseq"])
def test_pads_that_are_visible_anyway_are_told(convert, published, tmp_path, target):
    _, lines = convert("hf", target, published, tmp_path / "there", "--pads-visible")
    told = any(line.startswith("--pads-visible changes nothing here") for line in lines)
    assert told is (target == "hf")


def test_a_length_of_training_is_kept_without_a_change_of_positions(convert, published, tmp_path):
    folder, _ = convert("hf", "fairseq", published, tmp_path / "a", "--trained-length", 20)
    state = torch.load(folder / "model.pt", weights_only=True)
    assert state["cfg"]["task"]["tokens_per_sample"] == 20
    there, lines = convert("fairseq", "hf", folder, tmp_path / "b", "--max-positions", 60)
    assert json.loads((there / "config.json").read_text())["trained_positions"] == 20
    assert not any("assuming" in line for line in lines)


def tensorflow_prefix(folder):
    """The files by which a checkpoint of TensorFlow is known; nothing of them is read here."""
    folder.mkdir()
    (folder / "model.ckpt-1.index").write_bytes(b"")
    (folder / "model.ckpt-1.data-00000-of-00001").write_bytes(b"")
    return folder / "model.ckpt-1"


@pytest.mark.slow
@pytest.mark.parametrize("named", ["folder", "file"])
@pytest.mark.parametrize("kind", ["hf", "tf", "fairseq"])
@pytest.mark.parametrize("origin", ["hf", "tf", "fairseq"])
def test_a_source_of_another_kind(
    request, convert_fails, published, own, tmp_path, origin, kind, named
):
    if origin == kind or (kind, named) == ("hf", "file"):
        return
    prefix = tensorflow_prefix(tmp_path / "tf")
    sources = {
        "hf": {"folder": published},
        "tf": {"folder": prefix.parent, "file": prefix},
        "fairseq": {"folder": own, "file": own / "model.pt"},
    }
    source = sources[kind][named]
    line = convert_fails(origin, "fairseq", source, tmp_path / "there")
    assert line == f"{source}: not what --from {origin} takes: try --from {kind}"


@pytest.mark.parametrize("origin", ["hf", "tf", "fairseq"])
def test_a_source_that_is_not_there(convert_fails, tmp_path, origin):
    line = convert_fails(origin, "fairseq", tmp_path / "nowhere", tmp_path / "there")
    assert str(tmp_path / "nowhere") in line
    assert "--from" not in line


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "hung up"),
    ],
)
@pytest.mark.usefixtures("signals_of_a_terminal")
def test_a_signal_leaves_nothing_behind(
    published, tmp_path, monkeypatch, capsys, number, status, word
):
    write = conversion.WRITERS["hf"]

    def interrupted(model, folder, options):
        write(model, folder, options)
        assert (folder / "model.safetensors").is_file()
        os.kill(os.getpid(), number)
        time.sleep(30)

    monkeypatch.setitem(conversion.WRITERS, "hf", interrupted)
    before, handler = set(tmp_path.rglob("*")), signal.getsignal(number)
    arguments = ("convert", "--from", "hf", "--to", "hf", published, tmp_path / "new" / "there")
    assert main([str(word) for word in arguments]) == status
    assert set(tmp_path.rglob("*")) == before
    assert capsys.readouterr().err == f"convbert convert: {word}\n"
    assert signal.getsignal(number) is handler


@pytest.mark.usefixtures("signals_of_a_terminal")
def test_a_terminal_that_is_gone(published, tmp_path, monkeypatch):
    """Whoever closed it reads no line: what is half written goes all the same."""

    def hung_up(model, folder, options):
        (folder / "half").touch()
        monkeypatch.setattr(sys.stderr, "write", gone)
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(30)

    def gone(text):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setitem(conversion.WRITERS, "hf", hung_up)
    before = set(tmp_path.rglob("*"))
    arguments = ("convert", "--from", "hf", "--to", "hf", published, tmp_path / "there")
    assert main([str(word) for word in arguments]) == 129
    assert set(tmp_path.rglob("*")) == before


def test_under_nohup_a_closed_terminal_ends_nothing(convert, published, tmp_path, monkeypatch):
    write = conversion.WRITERS["hf"]

    def hung_up(model, folder, options):
        os.kill(os.getpid(), signal.SIGHUP)
        return write(model, folder, options)

    monkeypatch.setitem(conversion.WRITERS, "hf", hung_up)
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        folder, _ = convert("hf", "hf", published, tmp_path / "there")
    finally:
        signal.signal(signal.SIGHUP, handler)
    assert (folder / "model.safetensors").is_file()


def not_a_file(path, kind):
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path.with_name("nowhere"))


@pytest.mark.parametrize("kind", ["folder", "pipe", "broken link"])
@pytest.mark.parametrize("origin", ["hf", "fairseq"])
def test_tensors_that_are_no_file(convert_fails, published, own, tmp_path, origin, kind):
    source, name = (published, "model.safetensors") if origin == "hf" else (own, "model.pt")
    not_a_file(source / name, kind)
    line = convert_fails(origin, "fairseq", source, tmp_path / "there")
    assert line.startswith(f"{source / name}: ")
    assert "missing" not in line
    # A folder that is named itself is one to search.
    if origin == "fairseq" and kind != "folder":
        assert convert_fails(origin, "fairseq", source / name, tmp_path / "there") == line


def test_the_bar_counts_what_is_done(convert, published, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "write", written.append)
    convert("hf", "hf", published, tmp_path / "there")
    drawn = [text.strip() for text in written if "convert: " in text]
    for step, done in (("reading", "0/3"), ("changing", "1/3"), ("writing", "2/3")):
        assert any(f"convert: {step}" in text and f" {done} " in text for text in drawn), drawn
        assert not any(
            f"convert: {step}" in text and f" {done} " not in text for text in drawn[:-1]
        )
    assert " 3/3 " in drawn[-1]


def test_other_logs_are_heard_again(convert, published, tmp_path):
    convert("hf", "hf", published, tmp_path / "there")
    assert logging.getLogger("anything").isEnabledFor(logging.CRITICAL)
    assert logging.root.manager.disable == logging.NOTSET
