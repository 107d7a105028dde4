"""Files of GLUE tasks made by hand, and what was prepared of them read back as words."""

from pathlib import Path
from typing import NamedTuple, Optional

from convbert_plugin.data.glue.glue_description import read_description
from convbert_plugin.data.glue.glue_files import load_vocabulary, open_rows

# The specials stand at odd rows, so that no id agrees by chance; a word for every letter.
SPECIALS = ["a", "[PAD]", "b", "[UNK]", "##s", "[CLS]", ",", "[SEP]", '"', "[MASK]", "."]
ROWS = [*SPECIALS, *"cdefghijklmnopqrstuvwxyz", "é"]


class Read(NamedTuple):
    """A split as it was prepared."""

    texts: list[tuple[str, ...]]
    targets: Optional[list]


def write_vocabulary(folder: Path, rows=ROWS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "vocab.txt"
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def write_table(path: Path, *rows: str) -> Path:
    """Write rows whose cells are given with "|" between them, as a .tsv."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(row.replace("|", "\t") + "\n" for row in rows), encoding="utf-8")
    return path


def read_back(folder: Path, split: str) -> Read:
    vocabulary = load_vocabulary(folder)
    rows = open_rows(folder, read_description(folder), split, vocabulary)
    columns = [
        [" ".join(vocabulary[token] for token in lines[n].tolist()[:-1]) for n in range(len(lines))]
        for lines in rows.texts
    ]
    texts = list(zip(*columns, strict=True))
    return Read(texts, None if rows.targets is None else rows.targets.tolist())
