"""A progress bar over the bytes of input files."""

import contextlib
import os
import sys
from functools import partial
from typing import Iterator

from convbert_plugin.files.text_files import Block, PathLike, check_is_file, read_blocks

# A log file is not a terminal: there a bar is drawn rarely.
SECONDS_BETWEEN_DRAWINGS = {True: 0.1, False: 10.0}


@contextlib.contextmanager
def blocks_with_progress(paths: list[PathLike], description: str) -> Iterator[Iterator[Block]]:
    """The blocks of all files, with a bar on stderr that counts their bytes on disk."""
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

    def show(before: int, position: int) -> None:
        bar.update(before + position - bar.n)

    def blocks() -> Iterator[Block]:
        before = 0
        for path in paths:
            yield from read_blocks(path, partial(show, before))
            before += os.path.getsize(path)
        bar.close()

    with bar:
        yield blocks()
