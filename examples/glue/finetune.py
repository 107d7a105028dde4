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

from convbert_plugin.errors import mistakes_end_the_program

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import sweep
from preparing import prepared_glue, trained_tasks


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--glue", type=Path, required=True, help="the folder of the tasks' folders")
    parser.add_argument("--tasks", type=sweep.listed(str), required=True, metavar="A,B,...")
    sweep.add_arguments(parser)
    return parser.parse_args()


@mistakes_end_the_program()
def main() -> None:
    arguments = parse_arguments()
    tasks = trained_tasks(arguments.tasks)
    sweep.settle(arguments)
    size, model = sweep.model_options(arguments.checkpoint)
    start, overrides = sweep.start_of(arguments), arguments.overrides
    tokenizer, folder = arguments.checkpoint.parent, arguments.out / "data"
    data = {task: prepared_glue(task, arguments.glue, folder / task, tokenizer) for task in tasks}

    def command(run: sweep.Run) -> list[str]:
        options = [*model, f"glue={run.task}"]
        recipe = f"finetune_convbert_{size}"
        return sweep.train_command(recipe, options, run, data[run.task], start, overrides)

    sweep.train_all(sweep.runs_of(tasks, arguments), command, arguments)


if __name__ == "__main__":
    main()
