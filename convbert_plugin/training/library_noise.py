"""What is no news for who trains: of libraries about fairseq, and of fairseq about its loaders."""

import logging
import warnings

# fairseq configures hydra 1.3 in the style of 1.0, names autocast as it was called before, and pins
# memory on machines without a GPU too.
OF_FAIRSEQ = (
    r"\s*hydra\.experimental",
    r"\s*The version_base parameter",
    r"\s*The strict flag",
    r"\s*In '\w+': Usage of deprecated keyword",
    r"\s*'\w+' is validated against ConfigStore",
    "`torch.cuda.amp",
    "'pin_memory' argument is set as true",
)
# Four lines an epoch and split of how batches are cached.
OF_EPOCHS = "fairseq.tasks.fairseq_task"


def silence() -> None:
    """Leave it out of the rest of this process."""
    for beginning in OF_FAIRSEQ:
        warnings.filterwarnings("ignore", beginning)
    logging.getLogger(OF_EPOCHS).setLevel(logging.WARNING)
