"""Show fairseq-train's JSON log, read from stdin, as a few columns."""

import json
import re
import sys
from typing import Iterable, Iterator

LOGGED = re.compile(r"\| INFO \| (\w+) \| (\{.*\})\s*$")
HEADER = "  update       loss  generator  discriminator      AUC   tokens/s"
LINE = (
    "{num_updates:8.0f}  {loss:9.3f}  {generator_loss:9.3f}  {discriminator_loss:13.4f}  "
    "{discriminator_auc:7.4f}  {wps:9,.0f}"
)
EVERY = 100


def stats(lines: Iterable[str], tag: str) -> Iterator[dict]:
    """The logged numbers of one kind of line: ``train_inner``, ``train`` or ``valid``."""
    for line in lines:
        match = LOGGED.search(line)
        if match and match[1] == tag:
            yield {name: float(value) for name, value in json.loads(match[2]).items()}


def main():
    print(HEADER)
    for entry in stats(sys.stdin, "train_inner"):
        if entry["num_updates"] % EVERY == 0:
            print(LINE.format(**entry), flush=True)


if __name__ == "__main__":
    main()
