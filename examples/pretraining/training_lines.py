"""Show fairseq-train's JSON log, read from stdin, as a few columns."""

import json
import re
import sys
from typing import Iterable, Iterator

LOGGED = re.compile(r"\| INFO \| (\w+) \| (\{.*\})\s*$")
# Their titles, and how the numbers of the log are shown; the objectives log some of them.
COLUMNS = {
    "num_updates": ("update", "{:8.0f}"),
    "loss": ("loss", "{:9.3f}"),
    "masked_lm_loss": ("masked-LM", "{:9.3f}"),
    "generator_loss": ("generator", "{:9.3f}"),
    "discriminator_loss": ("discriminator", "{:13.4f}"),
    "discriminator_auc": ("AUC", "{:7.4f}"),
    "wps": ("tokens/s", "{:9,.0f}"),
}
EVERY = 100


def stats(lines: Iterable[str], tag: str) -> Iterator[dict]:
    """The logged numbers of one kind of line: ``train_inner``, ``train`` or ``valid``."""
    for line in lines:
        match = LOGGED.search(line)
        if match and match[1] == tag:
            yield {name: float(value) for name, value in json.loads(match[2]).items()}


def main():
    is_first = True
    for entry in stats(sys.stdin, "train_inner"):
        if entry["num_updates"] % EVERY == 0:
            cells = {
                title: form.format(entry[name])
                for name, (title, form) in COLUMNS.items()
                if name in entry
            }
            if is_first:
                print("  ".join(title.rjust(len(cell)) for title, cell in cells.items()))
            print("  ".join(cells.values()), flush=True)
            is_first = False


if __name__ == "__main__":
    main()
