"""Silence for what fairseq tells of itself."""

import contextlib
import logging
from typing import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what fairseq tells of optional packages while it is imported, and of files."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)
