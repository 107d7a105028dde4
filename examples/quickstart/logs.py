"""Read the lines that fairseq writes with --log-format json."""

import json
import re
from typing import Iterable, Iterator

LINE = re.compile(r"\| INFO \| (\w+) \| (\{.*\})\s*$")


def stats(lines: Iterable[str], tag: str) -> Iterator[dict]:
    """The logged numbers of one kind of line: ``train_inner``, ``train`` or ``valid``."""
    for line in lines:
        match = LINE.search(line)
        if match and match[1] == tag:
            yield {name: float(value) for name, value in json.loads(match[2]).items()}
