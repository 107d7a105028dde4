"""What tests leave behind in the folder in which they are run: nothing.

Two that train there at once, as two workers of xdist do, keep each other out, and what is left
there makes the next run another.
"""

import os
import sys
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
MAKING = {"os.mkdir", "os.rename", "os.link", "os.symlink"}
# Those of pytest, hypothesis and Python itself; others begin with a dot.
CACHE = "__pycache__"


class WorkingFolder:
    """Sees what this process writes below a folder, and what anyone makes in it.

    What is undone before one looks, such as a lock, is seen of this process alone.
    """

    def __init__(self, folder: Path):
        self.folder = os.path.realpath(folder)
        self.written: set[str] = set()
        self.known = self.names()
        self.is_watched = True
        # Nothing takes it away again.
        sys.addaudithook(self.see)

    def see(self, event: str, arguments: tuple) -> None:
        if not self.is_watched:
            return
        if event == "open":
            path, _, flags = arguments
            if flags & WRITING:
                self.note(path)
        elif event in MAKING:
            self.note(arguments[event != "os.mkdir"])

    def note(self, path: object) -> None:
        # Files that are open already have a number.
        if isinstance(path, (str, bytes, os.PathLike)):
            name = os.path.relpath(os.path.realpath(os.fsdecode(path)), self.folder)
            if not any(part == CACHE or part.startswith(".") for part in name.split(os.sep)):
                self.written.add(name)

    def names(self) -> set[str]:
        return {name for name in os.listdir(self.folder) if name != CACHE and name[0] != "."}

    def news(self) -> list[str]:
        """What was written or made since the last look."""
        found = sorted(self.written | self.names() - self.known)
        self.known |= self.names()
        self.written.clear()
        return found
