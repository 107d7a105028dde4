"""The checkpoints of hostile_checkpoints.py through every door: each through one, in turn."""

import itertools
import shutil

from user_dir_tests.end_to_end.bad_inputs import NAME, Case
from user_dir_tests.end_to_end.bad_inputs_of_fairseq import TRAIN, VALIDATE
from user_dir_tests.end_to_end.hostile_checkpoints import BROKEN, HOSTILE, UNFINISHED

GIVEN = f"{{bad}}/{NAME}"
DOORS = (
    ("fairseq-validate", f"{VALIDATE} --path {GIVEN}"),
    ("convbert convert", f"--from fairseq --to hf {GIVEN} {{out}}"),
    ("fairseq-train", f"{TRAIN} --finetune-from-model {GIVEN}"),
    ("convbert predict-glue", f"--path {GIVEN} {{glue}} {{out}}"),
    ("fairseq-train", f"{TRAIN} --restore-file {GIVEN}"),
    ("python", f"'' {{bad}} {NAME}"),
    ("convbert predict-squad", f"--path {GIVEN} {{squad}} {{out}}"),
    ("fairseq-train", f"{TRAIN} --save-dir {{bad}}"),
)
GOING_ON = (DOORS[4], DOORS[7])


def spoiled(spoil):
    """A copy of a run whose checkpoint is spoiled."""

    def make(path, world):
        shutil.copytree(world["run"], path)
        # Of two that are sound in themselves, a run goes on from the newest.
        (path / "checkpoint_best.pt").unlink()
        spoil(path / NAME)

    return make


def through(doors, table):
    for (name, (spoil, _)), (command, words) in zip(table.items(), itertools.cycle(doors)):
        wrong = f"a checkpoint: {name.replace('_', ' ')}"
        yield Case(command, wrong, words, "", spoiled(spoil))


CASES = [*through(DOORS, {**HOSTILE, **BROKEN}), *through(GOING_ON, UNFINISHED)]
