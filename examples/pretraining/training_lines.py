"""Show fairseq-train's JSON log, read from stdin, as a few columns."""

import json
import re
import sys
from typing import Iterable, Iterator

LOGGED = re.compile(r"\| INFO \| (\w+) \| (\{.*\})\s*$")
# What libraries warn of is left to the log.
WARNED = re.compile(r"\| WARNING \| convbert_plugin\S+ \| (.*)")
# Of what is logged by the one objective or the other, what is shown, and how.
SHOWN = {
    "num_updates": ("update", "{:8.0f}"),
    "loss": ("loss", "{:9.3f}"),
    "masked_lm_loss": ("masked-LM loss", "{:14.3f}"),
    "generator_loss": ("generator loss", "{:14.3f}"),
    "discriminator_loss": ("discriminator loss", "{:18.4f}"),
    "discriminator_auc": ("discriminator AUC", "{:17.4f}"),
    "wps": ("tokens/s", "{:9,.0f}"),
}
EVERY = 100


def stats(lines: Iterable[str], tag: str) -> Iterator[dict]:
    """The logged numbers of one kind of line: ``train_inner``, ``train`` or ``valid``."""
    for line in lines:
        match = LOGGED.search(line)
        if match and match[1] == tag:
            yield {name: float(value) for name, value in json.loads(match[2]).items()}


def warnings_told(lines: Iterable[str]) -> Iterator[str]:
    """The lines; what the plugin warns of goes to stderr too, once."""
    told = set()
    for line in lines:
        match = WARNED.search(line)
        if match and match[1] not in told:
            told.add(match[1])
            print(f"warning: {match[1]}", file=sys.stderr, flush=True)
        yield line


def main():
    is_first = True
    for entry in stats(warnings_told(sys.stdin), "train_inner"):
        if entry["num_updates"] % EVERY == 0:
            shown = [(*words, entry[name]) for name, words in SHOWN.items() if name in entry]
            cells = [form.format(value) for _, form, value in shown]
            if is_first:
                titles = zip(shown, cells, strict=True)
                print("  ".join(title.rjust(len(cell)) for (title, *_), cell in titles))
            print("  ".join(cells), flush=True)
            is_first = False


if __name__ == "__main__":
    main()
