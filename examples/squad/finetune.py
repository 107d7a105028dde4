"""Fine-tune a checkpoint on SQuAD with several seeds, and report on all of it.

    python examples/squad/finetune.py --squad SQUAD/train-v2.0.json SQUAD/dev-v2.0.json \
        --name squad2.0 --checkpoint runs/small/checkpoint_last.pt --seeds 1,2,3 \
        --out runs/squad [OVERRIDE ...]

The released recipe of the size next to the checkpoint's is taken, which goes twice through the
windows of the data; overrides are those of fairseq-hydra-train and win over it, as
optimization.max_update=300 does. What is done is skipped, and what was cut off goes on: run the
same command again. With --random-weights the same model starts from nothing, beside the other runs.
"""

import argparse
import sys
from pathlib import Path

from convbert_plugin.errors import mistakes_end_the_program

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import sweep
from preparing import prepared


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--squad", type=Path, nargs="+", required=True, metavar="SRC",
        help="the files to train and validate on, or a folder that holds them and no others",
    )  # fmt: skip
    parser.add_argument(
        "--name", default="squad", help="of the data, in OUT (default: %(default)s)"
    )
    sweep.add_arguments(parser)
    return parser.parse_args()


@mistakes_end_the_program()
def main() -> None:
    arguments = parse_arguments()
    sweep.settle(arguments)
    size, model = sweep.model_options(arguments.checkpoint)
    start, overrides = sweep.start_of(arguments), arguments.overrides
    sources = {f"--squad {source.name}": source for source in arguments.squad}
    data = arguments.out / "data" / arguments.name
    prepared(data, ["prepare-squad"], sources, arguments.checkpoint.parent)

    def command(run: sweep.Run) -> list[str]:
        recipe = f"finetune_squad_convbert_{size}"
        return sweep.train_command(recipe, model, run, data, start, overrides)

    sweep.train_all(sweep.runs_of([arguments.name], arguments), command, arguments)


if __name__ == "__main__":
    main()
