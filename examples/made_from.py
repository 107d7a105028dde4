"""What a file or folder is made from, kept beside it, so that it is not taken for another.

python made_from.py MADE NAME=SOURCE ... comes before MADE is made, and keeps it in MADE.made_from;
where MADE is there already, it ends with status 1 if a source holds something else than it did.
SOURCE: a file, a folder of a tokenizer (its files count), or another folder (all files in it do).
"""

import os
import sys
from pathlib import Path
from typing import Mapping

from convbert_plugin.errors import UserError, mistakes_end_the_program
from convbert_plugin.files.fingerprints import fingerprint_of
from convbert_plugin.files.json_files import read_json_object, write_json
from convbert_plugin.tokenization.tokenizer_files import DICTIONARY_FILE, FILES_OF, main_file


def files_of(source: Path) -> list[Path]:
    """The files of a source that say what is made from it."""
    if not source.is_dir():
        return [source]
    main = main_file(source)
    names = (*FILES_OF[main.name], DICTIONARY_FILE) if main else sorted(os.listdir(source))
    return [source / name for name in names if (source / name).is_file()]


def check(made: Path, sources: Mapping[str, Path]) -> None:
    """Write down what ``made`` is made from, or see that it was made from the same.

    Raises:
        UserError: a source that holds something else than it did, or is not there to make it from.
    """
    record = made.with_name(f"{made.name}.made_from")
    there = {name: source for name, source in sources.items() if source.exists()}
    digests = {name: fingerprint_of(files_of(source)) for name, source in there.items()}
    if not made.exists() and (missing := sorted(sources.keys() - there.keys())):
        raise UserError(f"{missing[0]} {sources[missing[0]]}: no such file or folder")
    if not (made.exists() and record.exists()):
        write_json(record, digests)
        return
    before = read_json_object(record)
    others = [name for name, digest in digests.items() if before.get(name, digest) != digest]
    if others:
        named = " and ".join(f"{name} than {sources[name]}" for name in others)
        raise UserError(f"{made}: was made from another {named}: name another OUT, or remove it")


@mistakes_end_the_program()
def main() -> None:
    made, *named = sys.argv[1:] or ("",)
    pairs = [word.partition("=") for word in named]
    if not made or not all(path for _, _, path in pairs):
        sys.exit("usage: python made_from.py MADE NAME=SOURCE ...")
    check(Path(made), {name: Path(path) for name, _, path in pairs})


if __name__ == "__main__":
    main()
