"""A progress bar over the bytes of input files."""

import contextlib
import os
import sys
from typing import Callable, Iterator

from convbert_plugin.files.text_files import (
    Block,
    PathLike,
    behind,
    check_is_file,
    read_blocks,
)

# A log file is not a terminal: there a bar is drawn rarely.
SECONDS_BETWEEN_DRAWINGS = {True: 0.1, False: 10.0}


@contextlib.contextmanager
def bar_of_bytes(paths: list[PathLike], description: str) -> Iterator[Callable[[int], None]]:
    """A bar on stderr over the bytes of files on disk, one behind the other.

    What is given takes the position in all of them, which then is shown.
    """
    from tqdm import tqdm

    for path in paths:
        check_is_file(path)
    bar = tqdm(
        total=sum(os.path.getsize(path) for path in paths) or None,
        desc=description,
        unit="B",
        unit_scale=True,
        mininterval=SECONDS_BETWEEN_DRAWINGS[sys.stderr.isatty()],
    )
    with bar:
        yield lambda position: bar.update(position - bar.n)


@contextlib.contextmanager
def blocks_with_progress(paths: list[PathLike], description: str) -> Iterator[Iterator[Block]]:
    """The blocks of all files, with a bar on stderr that counts their bytes on disk."""
    with bar_of_bytes(paths, description) as show:

        def blocks() -> Iterator[Block]:
            before = 0
            for path in paths:
                yield from read_blocks(path, behind(before, show))
                before += os.path.getsize(path)

        yield blocks()
