"""The tokenizer of a file or a folder, whatever cuts the text into pieces.

A tokenizer lives in a folder: its own files beside the ``dict.txt`` that numbers its pieces.
"""

from pathlib import Path
from typing import Optional

from convbert_plugin.errors import UserError
from convbert_plugin.files.text_files import PathLike, check_is_file, read_file
from convbert_plugin.tokenization.pipeline_limits import check_size
from convbert_plugin.tokenization.pipeline_reading import load_pipeline
from convbert_plugin.tokenization.sentencepiece_tokenizer import (
    SentencePieceTokenizer,
    load_sentencepiece,
)
from convbert_plugin.tokenization.tokenizer_files import (
    DICTIONARY_FILE,
    PIPELINE_FILE,
    VOCAB_FILE,
    main_file,
)
from convbert_plugin.tokenization.tokenizer_interface import Tokenizer
from convbert_plugin.tokenization.tokenizer_writing import transformers_files
from convbert_plugin.tokenization.wordpiece import (
    WordPieceSettings,
    WordPieceTokenizer,
    load_wordpiece,
)

__all__ = [
    "DICTIONARY_FILE",
    "SentencePieceTokenizer",
    "Tokenizer",
    "WordPieceSettings",
    "WordPieceTokenizer",
    "load_tokenizer",
]


def load_tokenizer(
    path: PathLike, *, cased: bool = False, strip_accents: Optional[bool] = None
) -> Tokenizer:
    """Load a ``tokenizer.json``, a ``vocab.txt``, a sentencepiece ``.model``, or their folder.

    ``cased`` and ``strip_accents`` say how a bare vocab.txt is used; settings stored beside it
    win, and a flag that contradicts them is an error. A ``dict.txt`` beside the file numbers the
    pieces and has to fit.
    """
    flags = WordPieceSettings(cased, strip_accents)
    file = Path(path)
    if file.is_dir():
        file = main_file(file)
        if (translated := _translated(file, flags)) is not None:
            return translated
    check_is_file(file)
    if file.name == PIPELINE_FILE:
        return load_pipeline(file, flags)
    if file.suffix != ".model":
        return load_wordpiece(file, flags)
    if flags != WordPieceSettings():
        raise UserError(
            f"{file}: a sentencepiece model has its own rules for case and accents: drop "
            "--cased, --strip-accents and --keep-accents"
        )
    return load_sentencepiece(file)


def _translated(file: Path, flags: WordPieceSettings) -> Optional[WordPieceTokenizer]:
    """The WordPiece of the vocab.txt of which ``tokenizer.json`` is what this project makes.

    Both give the same pieces then, and the vocab.txt is what came first. None of any other.
    """
    vocab = file.with_name(VOCAB_FILE)
    if file.name != PIPELINE_FILE or not vocab.exists():
        return None
    check_size(file)
    content = read_file(file)
    try:
        tokenizer = load_wordpiece(vocab, flags)
    except UserError:
        # What is wrong is told where tokenizer.json is read.
        return None
    return tokenizer if transformers_files(tokenizer)[PIPELINE_FILE] == content else None
