"""See at the start that the checkpoints which a run is to begin from are there, sound and fit."""

from pathlib import Path

from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.errors import UserError
from convbert_plugin.formats.fairseq_checkpoint import read_checkpoint
from convbert_plugin.models.convbert import ConvBertModel
from convbert_plugin.models.loading import TOKEN_TABLE, empty_model_of

# fairseq's default, which stands for the one in the folder of the run.
DEFAULT_RESTORE_FILE = "checkpoint_last.pt"


def check_checkpoints(cfg, vocabulary: Vocabulary):
    """Read the checkpoint that fairseq will load, and compare the dictionaries beside it.

    fairseq itself would train from scratch where --restore-file names nothing, end in a traceback
    where the file is damaged, and hand the vocabulary of a checkpoint over only where a run is
    resumed whole.

    Raises:
        UserError: a file that is missing, damaged, not safe to load, or of another vocabulary.
    """
    last = Path(cfg.save_dir) / DEFAULT_RESTORE_FILE
    named = None if cfg.restore_file == DEFAULT_RESTORE_FILE else cfg.restore_file
    source = cfg.finetune_from_model
    for option, path in (("--restore-file", named), ("--finetune-from-model", source)):
        if path and not Path(path).is_file() and not (path == source and last.is_file()):
            raise UserError(f"{option} {path}: no such file")
    folders = [last.parent, *(Path(path).parent for path in (named, source) if path)]
    for folder in folders:
        if (folder / "dict.txt").is_file() and not is_beside(folder, vocabulary):
            raise UserError(
                f"{folder / 'dict.txt'}: the checkpoints there have another vocabulary than "
                f"{cfg.data}: binarize with that dict.txt, or choose another folder"
            )
    start = named or (last if last.is_file() else cfg.continue_once or source)
    if start:
        checkpoint = read_checkpoint(start)
        rows = range(len(checkpoint.tensors.get(TOKEN_TABLE, ())))
        empty_model_of(ConvBertModel, checkpoint, rows, start)
    # Now, and not when the first checkpoint is written there.
    vocabulary.check_folder(last.parent)


def is_beside(folder: Path, vocabulary: Vocabulary) -> bool:
    """Whether the dict.txt in ``folder`` numbers the same symbols alike."""
    return Vocabulary.load(folder / "dict.txt").fingerprint() == vocabulary.fingerprint()
