"""The files that make a tokenizer, by their names in a folder."""

from pathlib import Path

from convbert_plugin.errors import UserError

VOCAB_FILE = "vocab.txt"
PIPELINE_FILE = "tokenizer.json"
SENTENCEPIECE_FILE = "sentencepiece.bpe.model"
SETTINGS_FILE = "tokenizer_config.json"
# It numbers the pieces, whatever cuts them.
DICTIONARY_FILE = "dict.txt"

WORDPIECE_FILES = (VOCAB_FILE, SETTINGS_FILE)
PIPELINE_FILES = (PIPELINE_FILE, SETTINGS_FILE)
SENTENCEPIECE_FILES = (SENTENCEPIECE_FILE,)
TOKENIZER_FILES = (VOCAB_FILE, PIPELINE_FILE, SENTENCEPIECE_FILE, SETTINGS_FILE)


def main_file(folder: Path) -> Path:
    """The file of a folder that is its tokenizer.

    A ``tokenizer.json`` is, wherever it stands, but for the folders that this project exports from
    a sentencepiece model with a dictionary: there it is the translation of that model.
    Errors: none in the folder, or two of them.
    """
    names = (VOCAB_FILE, PIPELINE_FILE, SENTENCEPIECE_FILE)
    held = [name for name in names if (folder / name).exists()]
    if PIPELINE_FILE in held and not is_sentencepiece_export(folder):
        return folder / PIPELINE_FILE
    paths = [folder / name for name in held if name != PIPELINE_FILE]
    if not paths:
        raise UserError(
            f"{folder}: holds no tokenizer: expected {VOCAB_FILE} or {SENTENCEPIECE_FILE} or "
            f"{PIPELINE_FILE} in it"
        )
    if len(paths) > 1:
        raise UserError(f"{paths[0]} and {paths[1]} stand in one folder: remove one of them")
    return paths[0]


def is_sentencepiece_export(folder: Path) -> bool:
    """Whether ``tokenizer.json`` is there beside a sentencepiece model with a dictionary."""
    names = (PIPELINE_FILE, SENTENCEPIECE_FILE, DICTIONARY_FILE)
    return all((folder / name).exists() for name in names)
