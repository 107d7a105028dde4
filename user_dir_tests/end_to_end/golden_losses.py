"""What tiny trainings lose, update by update, in float64: kept, to see that no change changes it.

    python -m user_dir_tests.end_to_end.golden_losses

writes golden_losses.json anew, for a change that is meant to change numbers, or another torch.
Processors add up in other orders: with torch's kernels without vectors and MKL's for every machine
the numbers differ by up to 1.4e-15 relative, so that TOLERANCE leaves room for any of them, and for
no change of the code.
"""

import contextlib
import json
import tempfile
from pathlib import Path

import fairseq_cli.train
import pytest
import torch

from user_dir_tests.end_to_end.conftest import RECIPE, TASK, TINY, make_corpus, run_main
from user_dir_tests.end_to_end.unrounded import unrounded_updates

RECORD = Path(__file__).with_suffix(".json")
TOLERANCE = 1e-10
NUMBERS = {
    "replaced_token_detection": ("loss", "generator_loss", "discriminator_loss", "gnorm"),
    "masked_lm": ("loss", "gnorm"),
}
UPDATES = 15


@contextlib.contextmanager
def in_float64():
    """Whatever is computed where nothing else is asked for."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def losses(patch, data, objective, folder):
    """The numbers of each update of a training."""
    length = ("--max-update", UPDATES, "--no-save", "--disable-validation")
    arguments = (*TASK, *TINY, *RECIPE, "--objective", objective, *length, "--save-dir", folder)
    with in_float64(), unrounded_updates() as updates:
        run_main(patch, fairseq_cli.train, data, *arguments)
    return {name: [update[name] for update in updates] for name in NUMBERS[objective]}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        data = make_corpus(Path(place)).data
        record = {objective: losses(patch, data, objective, place) for objective in NUMBERS}
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
