"""Every command that writes, where its output is a pipe, a link or a device."""

import os
import resource
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from convbert_plugin.cli import main
from convbert_plugin.files.json_files import read_json_object, write_json
from convbert_plugin.files.records import RECORD_FILE

TEXT = "the cat\n\nsat\n"
RECORDS = Path(__file__).resolve().parents[1] / "fixtures" / "records"
# What each makes a file of, and how a file begins that is whole.
FILES = {
    "encode": (("--tokenizer", "vocab.txt", "text.txt"), b"the cat\n\nsat\n"),
    "report": ((str(RECORDS),), b"<!DOCTYPE html>"),
}
# What makes a folder.
FOLDERS = {
    "train-vocab": ("--vocab-size", "9", "text.txt"),
    "prepare-glue": ("--glue-task", "rte", "--tokenizer", ".", "."),
    "prepare-squad": ("--tokenizer", ".", "text.txt"),
    "predict-glue": ("--path", ".", "."),
    "predict-squad": ("--path", ".", "."),
    "convert": ("--from", "fairseq", "--to", "hf", "."),
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)
    Path("vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\ncat\nsat\n")
    return tmp_path


def read_in_thread(pipe):
    return ThreadPoolExecutor().submit(Path(pipe).read_bytes)


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_gets_what_a_file_gets(name):
    arguments, beginning = FILES[name]
    os.mkfifo("pipe.html")
    reader = read_in_thread("pipe.html")
    assert main([name, *arguments, "pipe.html"]) == 0
    content = reader.result(timeout=60)
    assert content.startswith(beginning)
    assert Path("pipe.html").is_fifo()
    assert main([name, *arguments, "file.html"]) == 0
    assert content == Path("file.html").read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_the_target_of_a_link_is_written(name):
    arguments, beginning = FILES[name]
    Path("target").write_text("old")
    Path("link.html").symlink_to("target")
    assert main([name, *arguments, "link.html"]) == 0
    assert Path("link.html").is_symlink()
    assert Path("target").read_bytes().startswith(beginning)


def test_the_record_behind_a_link_is_written():
    Path("elsewhere").mkdir()
    Path("elsewhere/record").write_text("{}")
    Path(RECORD_FILE).symlink_to("elsewhere/record")
    write_json(RECORD_FILE, {"seed": 1})
    assert Path(RECORD_FILE).is_symlink()
    assert read_json_object("elsewhere/record") == {"seed": 1}


@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
def test_a_device_stays_one(name):
    arguments = FILES[name][0] if name in FILES else FOLDERS[name]
    Path("link.html").symlink_to("/dev/full")
    before = sorted(Path().iterdir())
    with pytest.raises(SystemExit) as ended:
        main([name, *arguments, "link.html"])
    assert isinstance(ended.value.code, str)
    assert ended.value.code.startswith(("/dev/full: ", "link.html: "))
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("name", FOLDERS)
def test_a_pipe_for_a_folder_stays_one(name, folder):
    os.mkfifo("pipe")
    before = sorted(Path().iterdir())
    with pytest.raises(SystemExit) as ended:
        main([name, *FOLDERS[name], "pipe"])
    assert isinstance(ended.value.code, str)
    assert ended.value.code.startswith(("pipe: ", f"{folder / 'pipe'}: "))
    assert sorted(Path().iterdir()) == before
    assert Path("pipe").is_fifo()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/stderr", "/dev/fd/1"])
def test_encode_to_an_open_file_is_refused(name):
    """Its tokenizer and dict.txt would have no folder to stand in."""
    with pytest.raises(SystemExit) as ended:
        main(["encode", *FILES["encode"][0], name])
    assert str(ended.value.code).startswith(f"{name}: an open file, which cannot be replaced: ")


@pytest.mark.parametrize(("room", "name"), [(1, "pieces"), (230, "tokenizer_config.json")])
def test_encode_on_a_full_disk_leaves_nothing(folder, room, name):
    """Not the pieces and vocab.txt either, which there was room for."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    entries = sorted(Path().iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(SystemExit) as ended:
            main(["encode", *FILES["encode"][0], "out/pieces"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert ended.value.code == (
        f"{folder / 'out' / name}: cannot be written (File too large): make room, or choose "
        "another place"
    )
    assert sorted(Path().iterdir()) == entries
