"""Fine-tune a checkpoint on tasks of GLUE, with several seeds each, and report on all of it.

    python examples/glue/finetune.py --glue GLUE --checkpoint runs/small/checkpoint_last.pt \
        --tasks cola,mrpc,rte --seeds 1,2,3 --out runs/glue [OVERRIDE ...]

GLUE holds the official folders (CoLA, MRPC, ...). The released recipe of the size next to the
checkpoint's is taken; overrides are those of fairseq-hydra-train and win over it, as
optimization.max_update=300 does. What is done is skipped, and what was cut off goes on: run the
same command again. With --random-weights the same model starts from nothing, beside the other runs.
"""

import argparse
import sys
from pathlib import Path

from convbert_plugin.data.glue.glue_tasks import TRAIN, official_task
from convbert_plugin.errors import UserError, mistakes_end_the_program

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import sweep


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--glue", type=Path, required=True, help="the folder of the tasks' folders")
    parser.add_argument("--tasks", type=sweep.listed(str), required=True, metavar="A,B,...")
    sweep.add_arguments(parser)
    return parser.parse_args()


def trained_tasks(names: list[str]) -> list[str]:
    """The tasks of these names. Raises UserError: an unknown one, or one without training set."""
    tasks = {task.name: task for task in map(official_task, names)}
    for name, task in tasks.items():
        if TRAIN not in task.sources:
            raise UserError(f"--tasks {name}: has no training set: a model of MNLI answers it")
    return list(tasks)


def prepare(task: str, arguments: argparse.Namespace) -> Path:
    """The prepared data of a task, made where it is not there yet."""
    sources = [folder for folder in sorted(arguments.glue.glob("*")) if folder.name.lower() == task]
    if not sources:
        raise UserError(f"{arguments.glue}: no folder of {task} in it")
    command = ("prepare-glue", "--glue-task", task)
    return sweep.prepared(task, command, {"--glue": sources[0]}, arguments)


@mistakes_end_the_program()
def main() -> None:
    arguments = parse_arguments()
    tasks = trained_tasks(arguments.tasks)
    sweep.settle(arguments)
    size, model = sweep.model_options(arguments.checkpoint)
    data = {task: prepare(task, arguments) for task in tasks}

    def command(run: sweep.Run) -> list[str]:
        options = [*model, f"glue={run.task}"]
        recipe = f"finetune_convbert_{size}"
        return sweep.train_command(recipe, options, run, data[run.task], arguments)

    sweep.train_all(sweep.runs_of(tasks, arguments), command, arguments)


if __name__ == "__main__":
    main()
