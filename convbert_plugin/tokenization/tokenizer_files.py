"""The files that make a tokenizer, by their names in a folder."""

from pathlib import Path
from typing import Mapping, Optional

from convbert_plugin.errors import UserError
from convbert_plugin.files.whole_output import whole_files

VOCAB_FILE = "vocab.txt"
PIPELINE_FILE = "tokenizer.json"
SENTENCEPIECE_FILE = "sentencepiece.bpe.model"
SETTINGS_FILE = "tokenizer_config.json"
# It numbers the pieces, whatever cuts them.
DICTIONARY_FILE = "dict.txt"

# What belongs to a tokenizer's main file, itself included.
FILES_OF = {
    # transformers 4 wrote vocab.txt beside it.
    PIPELINE_FILE: (PIPELINE_FILE, SETTINGS_FILE, VOCAB_FILE),
    VOCAB_FILE: (VOCAB_FILE, SETTINGS_FILE),
    SENTENCEPIECE_FILE: (SENTENCEPIECE_FILE,),
}
TOKENIZER_FILES = (VOCAB_FILE, PIPELINE_FILE, SENTENCEPIECE_FILE, SETTINGS_FILE)


def main_file(folder: Path) -> Optional[Path]:
    """The file of a folder that is its tokenizer; None where there is none.

    A ``tokenizer.json`` is, wherever it stands, but beside a sentencepiece model with a
    dictionary: there it is the translation of that model for transformers.
    Errors: a vocab.txt and a sentencepiece model without any of this.
    """
    held = [name for name in FILES_OF if (folder / name).exists()]
    if SENTENCEPIECE_FILE in held and (folder / DICTIONARY_FILE).exists():
        held = [name for name in held if name != PIPELINE_FILE]
    if held[:1] != [PIPELINE_FILE] and len(held) > 1:
        raise UserError(
            f"{folder / held[0]} and {folder / held[1]} stand in one folder: remove one of them"
        )
    return folder / held[0] if held else None


def is_of_tokenizer(path: Path) -> bool:
    """Whether a file is one of a tokenizer, or its dictionary, by its name."""
    return path.name in (DICTIONARY_FILE, *TOKENIZER_FILES)


def write_missing(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write these files, but for those that stand there already; all of them, or none."""
    missing = [name for name in files if not (folder / name).exists()]
    with whole_files([folder / name for name in missing]) as opened:
        for name, file in zip(missing, opened, strict=True):
            file.write(files[name])
