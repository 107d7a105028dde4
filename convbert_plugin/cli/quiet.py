"""fairseq in a command that is not its own: without what it tells of itself, and quickly."""

import contextlib
import gc
import logging
import sys
from types import ModuleType
from typing import Iterator

# They alone need scikit-learn and scipy.stats: a quarter of what the import of fairseq takes.
UNUSED_PARTS = (
    "fairseq.criterions.sentence_prediction",
    "fairseq.criterions.sentence_prediction_adapters",
    "fairseq.tasks.audio_classification",
)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what fairseq tells of optional packages while it is imported, and of files.

    If it is imported here, parts of it that no command uses are left out; who names one later
    gets it.
    """
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    left_out = {name: ModuleType(name) for name in UNUSED_PARTS if name not in sys.modules}
    sys.modules.update(left_out)
    try:
        yield
    finally:
        logging.disable(before)
        for name in left_out:
            sys.modules.pop(name, None)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Without collecting garbage meanwhile, nor in what was imported later.

    Of half a million objects that all stay, that is a fifth of what the import of fairseq takes.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
