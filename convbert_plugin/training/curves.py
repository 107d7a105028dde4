"""TensorBoard's files of a run, which a full disk does not end.

tensorboard writes them by a thread that dies there, and its trainer with it. Here what could not be
written waits for the next time.
"""

import io
import itertools
import logging
import os
import socket
import time
from pathlib import Path
from typing import Any

from fairseq.logging import progress_bar

logger = logging.getLogger(__name__)

# What waits for room, at most: of a run that logs every second, that of a day.
MOST_BYTES = 1 << 26
_numbers = itertools.count()


def keep_curves() -> None:
    """Let fairseq write its curves so for the rest of this process, where it writes any."""
    writer = progress_bar.SummaryWriter
    if writer is not None and writer.__module__.startswith("torch.utils.tensorboard"):
        progress_bar.SummaryWriter = lasting(writer)


def lasting(writer: type) -> type:
    """torch's ``SummaryWriter``, with files that last."""
    from torch.utils.tensorboard import FileWriter

    class EventWriter(FileWriter):
        def __init__(self, folder: str):
            self.event_writer = EventFile(folder)

    class LastingSummaryWriter(writer):
        file_writer: Any
        all_writers: Any

        def _get_file_writer(self) -> FileWriter:
            if self.file_writer is None:
                folder = str(self.log_dir)
                self.file_writer = EventWriter(folder)
                self.all_writers = {folder: self.file_writer}
            return self.file_writer

    return LastingSummaryWriter


class EventFile:
    """A file of events as ``tensorboard`` names and frames them, written by ``flush``."""

    def __init__(self, folder: str):
        from tensorboard.compat.proto.event_pb2 import Event

        self.folder = folder
        names = (f"{int(time.time()):010d}", socket.gethostname(), os.getpid(), next(_numbers))
        self.path = Path(folder, ".".join(map(str, ("events.out.tfevents", *names))))
        self.size = 0
        self.waiting: list[bytes] = []
        self.is_told = False
        self.add_event(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def get_logdir(self) -> str:
        return self.folder

    def add_event(self, event: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        framed = io.BytesIO()
        RecordWriter(framed).write(event.SerializeToString())
        self.waiting.append(framed.getvalue())

    def flush(self) -> None:
        """Write what waits; where that fails, tell so once, and keep it."""
        waiting = b"".join(self.waiting)
        if not waiting:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self.path.exists():
                self.path.touch()
                self.size = 0
            with open(self.path, "r+b") as file:
                # At the end of what is whole: half an event would hide all that follow it.
                file.truncate(self.size)
                file.seek(self.size)
                file.write(waiting)
        except OSError as error:
            if not self.is_told:
                logger.warning(f"{self.path}: curves wait to be written ({error.strerror})")
            self.is_told = True
            if len(waiting) > MOST_BYTES:
                # The first event says what the file is.
                del self.waiting[1 : len(self.waiting) // 2]
            return
        self.size += len(waiting)
        self.waiting, self.is_told = [], False

    def close(self) -> None:
        self.flush()
