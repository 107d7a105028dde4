"""Files and folders that appear whole or not at all, however the writing ends."""

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from convbert_plugin.errors import UserError
from convbert_plugin.files import whole_output
from convbert_plugin.files.whole_output import whole_file, whole_files, whole_folder

REPOSITORY = Path(__file__).resolve().parents[2]
OLD, NEW = b"old" * 1000, b"new" * 1_000_000
# Writing fails beyond so many bytes of a file.
LIMIT = 100_000


def write_file(path: Path) -> None:
    with whole_file(path) as file:
        file.write(NEW)


def write_folder(path: Path) -> None:
    with whole_folder(path) as folder:
        (folder / "within").mkdir()
        (folder / "within" / "data").write_bytes(NEW)


WRITERS = {"file": write_file, "folder": write_folder}


@pytest.fixture(params=WRITERS)
def write(request):
    return WRITERS[request.param]


def content_of(path: Path) -> bytes:
    return (path if path.is_file() else path / "within" / "data").read_bytes()


def test_missing_folders_are_made(write, tmp_path):
    write(tmp_path / "a" / "b" / "out")
    assert content_of(tmp_path / "a" / "b" / "out") == NEW
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["out"]


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), UserError("why")])
@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_what_fails_leaves_nothing(tmp_path, whole, error):
    with pytest.raises(type(error)), whole(tmp_path / "a" / "b" / "out"):
        raise error
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced_only_at_the_end(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(OLD)
    with whole_file(path) as file:
        file.write(NEW)
        assert path.read_bytes() == OLD
    assert path.read_bytes() == NEW
    with pytest.raises(ValueError, match="mine"), whole_file(path) as file:
        raise ValueError("mine")
    assert path.read_bytes() == NEW
    assert list(tmp_path.iterdir()) == [path]


def write_files(folder: Path) -> None:
    with whole_files([folder / "a", folder / "b"]) as files:
        for file in files:
            file.write(NEW)


def test_files_appear_together(tmp_path, monkeypatch):
    folder = tmp_path / "made" / "out"
    with pytest.raises(ValueError, match="mine"), whole_files([folder / "a", folder / "b"]):
        raise ValueError("mine")
    assert not list(tmp_path.iterdir())
    write_files(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a": NEW, "b": NEW}
    with (
        pytest.raises(UserError, match=r"out/b: cannot be written \(File too large\): make room"),
        whole_files([folder / "a", folder / "b"]),
    ):
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a": NEW, "b": NEW}


def test_what_one_of_several_files_cannot_be_none_is(tmp_path, monkeypatch):
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match=r"b: a folder, where a file is to be written"):
        write_files(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    (tmp_path / "b").rmdir()
    brought = []

    def fsync(descriptor):
        brought.append(descriptor)
        if len(brought) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(whole_output.os, "fsync", fsync)
    with pytest.raises(UserError, match=r"b: cannot be written \(No space left on device\)"):
        write_files(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_in_a_folder_is_named_by_where_it_will_be(tmp_path):
    with (
        pytest.raises(UserError) as error,
        whole_folder(tmp_path / "out") as folder,
        whole_file(folder / "part" / "a"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(error.value).startswith(f"{tmp_path / 'out' / 'part' / 'a'}: cannot be written (No")
    assert not list(tmp_path.iterdir())


def test_the_usual_permissions(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_file(tmp_path / "out")
    (tmp_path / "made").mkdir()
    write_folder(tmp_path / "folder")
    for ours, plain in (("out", "plain"), ("folder", "made")):
        assert (tmp_path / ours).stat().st_mode == (tmp_path / plain).stat().st_mode


def test_a_link_stays_one(write, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "out")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert content_of(tmp_path / "elsewhere" / "out") == NEW


def test_what_an_earlier_process_of_the_same_number_left_is_no_hindrance(write, tmp_path):
    part = tmp_path / f".out.{os.getpid()}.part"
    part.mkdir()
    (part / "within").write_bytes(OLD)
    write(tmp_path / "out")
    assert content_of(tmp_path / "out") == NEW
    assert not part.exists()


def in_the_way(tmp_path: Path, kind: str) -> tuple[Path, str]:
    """A place where no file can be written, and the beginning of the line that says so."""
    path = tmp_path / "out"
    if kind == "a folder":
        path.mkdir()
        return path, f"{path}: a folder, where a file is to be written: "
    if kind == "a device":
        path.symlink_to(os.devnull)
        return path, f"{os.devnull}: a device, where a file is to be written: "
    if kind == "standard output":
        path.symlink_to("/dev/stdout")
        return path, f"{path}: an open file, which cannot be replaced: "
    if kind == "a link to itself":
        path.symlink_to("out")
        return path, f"{path}: a link that leads to itself: "
    path.write_bytes(OLD)
    place = path / "out" if kind == "a file for its folder" else path / "more" / "out"
    return place, f"{place}: cannot be made (Not a directory): "


@pytest.mark.parametrize(
    "kind",
    [
        "a folder",
        "a device",
        "standard output",
        "a link to itself",
        "a file for its folder",
        "a file for a folder above",
    ],
)
def test_what_is_in_the_way_of_a_file(tmp_path, kind):
    path, line = in_the_way(tmp_path, kind)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as error:
        write_file(path)
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def read_in_thread(pipe: Path, count: int = -1) -> Future:
    """What a reader of the pipe gets."""

    def read():
        with open(pipe, "rb") as file:
            return file.read(count)

    return ThreadPoolExecutor().submit(read)


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.parametrize("is_link", [False, True])
def test_a_reader_of_a_pipe_gets_all(tmp_path, pipe, is_link):
    reader = read_in_thread(pipe)
    if is_link:
        (tmp_path / "link").symlink_to("pipe")
    write_file(tmp_path / "link" if is_link else pipe)
    assert reader.result(timeout=60) == NEW
    assert pipe.is_fifo()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), UserError("wrong")], ids=repr)
def test_a_reader_of_a_pipe_gets_nothing_of_what_fails(pipe, error):
    reader = read_in_thread(pipe)

    def write_and_fail(file):
        file.write(NEW)
        raise error

    with pytest.raises(type(error)), whole_file(pipe) as file:
        write_and_fail(file)
    assert reader.result(timeout=60) == b""
    assert pipe.is_fifo()


def test_a_reader_of_a_pipe_that_is_gone(pipe):
    reader = read_in_thread(pipe, 1)
    with pytest.raises(UserError, match=r"pipe: cannot be written \(Broken pipe\): choose another"):
        write_file(pipe)
    assert reader.result(timeout=60) == NEW[:1]


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("leads_to", ["a file", "a pipe", "a device"])
def test_an_open_file_stays_open(tmp_path, name, leads_to):
    """A shell appends to it; to replace it would lose what stands there."""
    out = tmp_path / "out" if leads_to == "a file" else Path(os.devnull)
    out.write_bytes(OLD)
    code = "from convbert_plugin.errors import mistakes_end_the_program\n"
    code += "from user_dir_tests.files.test_whole_output import Path, write_file\n"
    code += f"with mistakes_end_the_program(): write_file(Path({name!r}))"
    command = [sys.executable, "-c", code]
    with open(out, "ab") as stdout:
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE if leads_to == "a pipe" else stdout,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == f"{name}: an open file, which cannot be replaced: name one in a folder\n"
    assert not done.stdout
    assert leads_to != "a file" or out.read_bytes() == OLD


LIMITED = f"""
import resource, sys
from pathlib import Path
from convbert_plugin.errors import mistakes_end_the_program
from user_dir_tests.files.test_whole_output import WRITERS
resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT}, {LIMIT}))
with mistakes_end_the_program():
    WRITERS[sys.argv[1]](Path(sys.argv[2]))
"""


def run(code: str, *arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, text=True, capture_output=True)


@pytest.mark.parametrize("kind", WRITERS)
def test_no_room_is_one_line(tmp_path, kind):
    (tmp_path / "mine").write_bytes(OLD)
    done = run(LIMITED, kind, tmp_path / "a" / "out")
    assert done.returncode == 1
    assert done.stderr == (
        f"{tmp_path / 'a' / 'out'}: cannot be written (File too large): make room, or choose "
        "another place\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_no_room_leaves_the_old_file(tmp_path):
    (tmp_path / "out").write_bytes(OLD)
    assert run(LIMITED, "file", tmp_path / "out").returncode == 1
    assert (tmp_path / "out").read_bytes() == OLD
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    size = f"size={LIMIT}"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder]).returncode:
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_one_line(write, small_disk):
    (small_disk / "mine").write_bytes(OLD)
    with pytest.raises(UserError) as error:
        write(small_disk / "a" / "out")
    assert str(error.value).startswith(
        f"{small_disk / 'a' / 'out'}: cannot be written (No space left on device): make room"
    )
    assert [path.name for path in small_disk.iterdir()] == ["mine"]


def test_a_read_only_disk_is_one_line(write, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(UserError) as error:
        write(small_disk / "a" / "out")
    assert str(error.value).startswith(
        f"{small_disk / 'a' / 'out'}: cannot be made (Read-only file system): choose"
    )


def test_an_error_of_what_is_read_is_not_one_of_the_output(tmp_path):
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "out"):
        (tmp_path / "missing").read_bytes()
    with pytest.raises(OSError, match="Input/output"), whole_folder(tmp_path / "out"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    assert not list(tmp_path.iterdir())


def test_all_is_on_the_disk_before_the_name_and_the_name_at_the_end(write, tmp_path, monkeypatch):
    """What fsync was called for and os.replace did, in order, as the paths of the descriptors."""
    calls = []

    def fsync(descriptor):
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        calls.append(os.readlink(f"/proc/self/fd/{number}"))

    def replace(source, destination):
        calls.append("rename")
        os.rename(source, destination)

    monkeypatch.setattr(whole_output.os, "fsync", fsync)
    monkeypatch.setattr(whole_output.os, "replace", replace)
    write(tmp_path / "a" / "b" / "out")
    part = f"{tmp_path / 'a' / 'b'}/.out.{os.getpid()}.part"
    written = [part] if write is write_file else [f"{part}/within/data", f"{part}/within", part]
    # The folders that hold the new name, and those that were made for it.
    holders = [f"{tmp_path / 'a' / 'b'}", f"{tmp_path / 'a'}", f"{tmp_path}"]
    assert calls == [*written, "rename", *holders]


def test_what_cannot_be_brought_to_the_disk_is_not_there(write, tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(whole_output.os, "fsync", fsync)
    with pytest.raises(UserError, match=r"out: cannot be written \(Input/output error\): choose"):
        write(tmp_path / "a" / "out")
    assert not list(tmp_path.iterdir())


ENDLESS = """
import sys
from user_dir_tests.files.test_whole_output import NEW, OLD, whole_file
while True:
    for content in (NEW, OLD):
        with whole_file(sys.argv[1]) as file:
            file.write(content)
"""


def test_a_killed_process_leaves_the_old_or_the_new(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(OLD)
    for number in range(12):
        process = subprocess.Popen([sys.executable, "-c", ENDLESS, path], cwd=REPOSITORY)
        begun = path.stat().st_ino
        deadline = time.monotonic() + 30
        while path.stat().st_ino == begun and time.monotonic() < deadline:
            time.sleep(0.001)
        # At another place of writing, syncing and renaming each time.
        time.sleep(0.0013 * number)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert path.read_bytes() in (OLD, NEW)
