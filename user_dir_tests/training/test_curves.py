"""Files of TensorBoard on a disk that is full for a while, read by TensorBoard."""

import resource
import signal

import pytest
from fairseq.logging import progress_bar
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from convbert_plugin.training import curves
from convbert_plugin.training.curves import lasting

pytestmark = pytest.mark.survival


def curve(folder, tag="loss"):
    read = EventAccumulator(str(folder))
    read.Reload()
    return [(event.step, event.value) for event in read.Scalars(tag)]


def write(writer, steps):
    for step in steps:
        writer.add_scalar("loss", step / 2, step)
        # fairseq does so after each line.
        writer.flush()


@pytest.fixture
def disk():
    """Fill the disk, as far as this process sees it: a file gets so many bytes and no more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_they_are_those_of_torch(tmp_path):
    for name, kind in (("theirs", SummaryWriter), ("ours", lasting(SummaryWriter))):
        with kind(tmp_path / name) as writer:
            writer.add_text("sys.argv", "fairseq-train data")
            write(writer, range(5))
    ours, theirs = ([*(tmp_path / name).iterdir()] for name in ("ours", "theirs"))
    assert len(ours) == len(theirs) == 1
    assert ours[0].name.split(".")[:3] == theirs[0].name.split(".")[:3]
    assert curve(tmp_path / "ours") == curve(tmp_path / "theirs")
    assert progress_bar.SummaryWriter.__name__ == lasting(SummaryWriter).__name__


@pytest.mark.parametrize("room", [0, 10, 150])
def test_what_a_full_disk_keeps_out_comes_in_later(tmp_path, disk, caplog, room):
    """However little of an event it takes."""
    writer = lasting(SummaryWriter)(tmp_path)
    write(writer, range(3))
    [path] = tmp_path.iterdir()
    disk(path.stat().st_size // 2 + room)
    write(writer, range(3, 6))
    [line] = caplog.messages
    assert line == f"{path}: curves wait to be written (File too large)"
    disk(1 << 20)
    write(writer, range(6, 8))
    assert curve(tmp_path) == [(step, step / 2) for step in range(8)]
    writer.close()


def test_a_disk_that_is_full_from_the_first_on(tmp_path, disk):
    disk(0)
    writer = lasting(SummaryWriter)(tmp_path / "train")
    write(writer, range(2))
    disk(1 << 20)
    write(writer, range(2, 3))
    writer.close()
    assert curve(tmp_path / "train") == [(0, 0.0), (1, 0.5), (2, 1.0)]


def test_what_waits_is_not_kept_for_ever(tmp_path, disk, monkeypatch):
    monkeypatch.setattr(curves, "MOST_BYTES", 1000)
    writer = lasting(SummaryWriter)(tmp_path)
    disk(0)
    write(writer, range(100))
    assert sum(map(len, writer.file_writer.event_writer.waiting)) <= 1000
    disk(1 << 20)
    write(writer, [100])
    writer.close()
    assert curve(tmp_path)[-1] == (100, 50.0)
