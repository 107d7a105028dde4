"""Collect real text that is on every machine with this project: the documentation of its packages.

python collect_text.py OUT writes OUT/train.txt and OUT/valid.txt: one paragraph a line, the
docstrings of one source file a document, an empty line between documents. One file of twenty is
held out.
"""

import ast
import re
import sys
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Iterator, List

from tqdm import tqdm

from convbert_plugin.errors import mistakes_end_the_program
from convbert_plugin.files.whole_output import check_place, whole_file

PACKAGES = ("scipy", "sklearn", "numpy")
HELD_OUT = 20
SHORTEST_PARAGRAPH = 40
# Headings, examples, formulas and tables are no prose.
NO_PROSE = re.compile(r"-{4}|>>>|::|\\|=")
SHARE_OF_LETTERS = 0.85


def source_files() -> List[Path]:
    """Modules of the packages, without their tests, in a fixed order."""
    files = []
    for package in PACKAGES:
        folder = Path(find_spec(package).submodule_search_locations[0])
        files += [
            path
            for path in sorted(folder.rglob("*.py"))
            if "tests" not in path.relative_to(folder).parts
        ]
    return files


def docstrings(path: Path) -> Iterator[str]:
    """The docstrings of a module, its classes and its functions."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            yield text


def paragraphs(text: str) -> Iterator[str]:
    """Paragraphs of prose, each on one line."""
    for block in re.split(r"\n\s*\n", text):
        line = " ".join(block.split()).replace("`", "")
        letters = sum(character.isalpha() or character == " " for character in line)
        if (
            len(line) >= SHORTEST_PARAGRAPH
            and letters > SHARE_OF_LETTERS * len(line)
            and not NO_PROSE.search(line)
        ):
            yield line


def main(out: Path):
    check_place(out / "train.txt")
    out.mkdir(parents=True, exist_ok=True)
    documents = {"train": [], "valid": []}
    for path in tqdm(source_files(), desc="reading docstrings", unit=" files", disable=None):
        lines = [line for text in docstrings(path) for line in paragraphs(text)]
        # By name, so that the same files are held out wherever the packages stand.
        name = "/".join(path.parts[path.parts.index("site-packages") :])
        split = "valid" if zlib.crc32(name.encode()) % HELD_OUT == 0 else "train"
        if lines:
            documents[split].append("\n".join(lines) + "\n")
    for split, texts in documents.items():
        with whole_file(out / f"{split}.txt") as file:
            file.write("\n".join(texts).encode())
        characters = sum(map(len, texts))
        print(f"{split}: {len(texts):,} documents, {characters:,} characters")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python collect_text.py OUT")
    with mistakes_end_the_program():
        main(Path(sys.argv[1]))
