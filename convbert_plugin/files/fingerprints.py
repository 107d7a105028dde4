"""What files hold, as a few letters."""

import hashlib
from typing import Iterable

from convbert_plugin.files.text_files import PathLike

LETTERS = 16


def fingerprint_of(files: Iterable[PathLike]) -> str:
    """A hex digest of what these files hold, one after the other: equal where all are."""
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:LETTERS]
