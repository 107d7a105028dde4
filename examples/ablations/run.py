"""The comparisons of the paper: pretrain each model over seeds, fine-tune it, report on all.

    python examples/ablations/run.py --grids a,b --scale tiny --seeds 1,2,3 --max-update 4000 \
        --train train.txt --valid valid.txt --tokenizer runs/vocab --glue GLUE \
        --tasks sst-2,sts-b --out runs/ablations [--pretraining OVERRIDE ...] \
        [--fine-tuning OVERRIDE ...]

Grids: a (what each part brings), b (convolutions of equally many parameters), c (kernel sizes), d
(head ratios), e (replaced tokens or masked ones), options (what must not change a result). Rows
that two grids share are trained once. The recipes are the released ones, with what the scale
changes; overrides are those of fairseq-hydra-train and win over both. What is done is skipped, and
what was cut off goes on: run the same command again. More grids, seeds and tasks join what is
there.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence

from convbert_plugin.cli.quiet import quiet
from convbert_plugin.errors import UserError, mistakes_end_the_program, shown
from convbert_plugin.files.grids import GRID_FILE, SEED_FOLDER, Grid, read_grid, write_grid

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import sweep
from comparisons import COMPARISONS, OF_TRAINING, SCALES, Scale, SettledRow, settled
from preparing import prepared_glue, prepared_text, trained_tasks

# Beside the folders of the rows in OUT.
DATA = "data"
TASKS = "glue"
# What says them once for all runs.
SAID_OTHERWISE = {
    **{"common.seed": "--seeds", "checkpoint.save_dir": "--out", "task.data": "--train"},
    **{"optimization.max_update": "--max-update", "task.objective": "--grids e"},
    "lr_scheduler.budget_minutes": "--budget-minutes",
}
# Of these, what says it for the pretrainings alone.
OF_PRETRAINING = ("optimization.max_update",)


class Settings(NamedTuple):
    """The overrides of all pretrainings, and those of all fine-tunings."""

    pretraining: list[str]
    fine_tuning: list[str]

    @property
    def words(self) -> list[str]:
        """Each with what it is for."""
        parts = self._asdict().items()
        return [f"{part.replace('_', '-')}: {word}" for part, words in parts for word in words]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, many = parser.add_argument, sweep.listed(str)
    add("--grids", type=many, required=True, metavar="A,B,...", help=", ".join(COMPARISONS))
    add("--scale", choices=SCALES, default="tiny", help="of the models (default: %(default)s)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--max-update", type=int, help="updates of each pretraining")
    length.add_argument(
        "--budget-minutes", type=float, help="minutes of each pretraining, in place of updates"
    )
    add("--train", type=Path, required=True, help="text: plain, .gz, .xz or .bz2")
    add("--valid", type=Path, required=True, help="held-out text")
    add("--tokenizer", type=Path, required=True, help="a folder of convbert train-vocab")
    add("--glue", type=Path, help="the folder of the tasks' folders")
    add("--tasks", type=many, default=[], metavar="A,B,...", help="to fine-tune on (default: none)")
    sweep.add_arguments_of_runs(parser)
    for name in ("pretraining", "fine-tuning"):
        add(f"--{name}", nargs="+", action="extend", default=[], metavar="OVERRIDE")
    add("--data-only", action="store_true", help="make the data, and train nothing")
    return parser.parse_args()


def check(arguments: argparse.Namespace) -> None:
    """Give the tasks the names that the data have, and see that everything can be done.

    Raises:
        UserError: unknown names, numbers that leave nothing to do, overrides that clash.
    """
    for name in arguments.grids:
        if name not in COMPARISONS:
            raise UserError(f"--grids {shown(name)}: choose from {', '.join(COMPARISONS)}")
    for flag in ("jobs", "max_update", "budget_minutes"):
        value = getattr(arguments, flag)
        if value is not None and not value > 0:
            raise UserError(f"--{flag.replace('_', '-')} {value}: choose a number above 0")
    if min(arguments.seeds) < 0:
        raise UserError(f"--seeds {min(arguments.seeds)}: choose whole numbers from 0 on")
    if bool(arguments.glue) != bool(arguments.tasks):
        given, missing = ("glue", "tasks") if arguments.glue else ("tasks", "glue")
        raise UserError(f"--{given}: says nothing without --{missing}: give both, or neither")
    arguments.tasks = trained_tasks(arguments.tasks)
    for flag in ("pretraining", "fine_tuning"):
        for word in getattr(arguments, flag):
            _check_override(f"--{flag.replace('_', '-')}", word)


def _check_override(flag: str, word: str) -> None:
    name, is_given, _ = word.lstrip("+~").partition("=")
    if not is_given:
        raise UserError(f"{flag} {shown(word)}: an override has the form section.option=value")
    if name.startswith("model."):
        raise UserError(f"{flag} {word}: the models are those of the grids: choose another --scale")
    if name in SAID_OTHERWISE and not (flag == "--fine-tuning" and name in OF_PRETRAINING):
        raise UserError(f"{flag} {word}: say it by {SAID_OTHERWISE[name]}")


def settings_of(scale: Scale, arguments: argparse.Namespace) -> Settings:
    """What all runs have in common, the user's own words last."""
    pretraining = dict(scale.pretraining)
    if arguments.max_update:
        pretraining["optimization.max_update"] = arguments.max_update
    if arguments.budget_minutes:
        # The rate follows the time, and no number of updates ends it sooner.
        pretraining["lr_scheduler.budget_minutes"] = arguments.budget_minutes
        pretraining["optimization.max_update"] = 0
    return Settings(
        [*overrides(pretraining), *arguments.pretraining],
        [*overrides(scale.fine_tuning), *arguments.fine_tuning],
    )


def overrides(options: Mapping[str, Any]) -> list[str]:
    """Options as hydra has them."""
    words = {True: "true", False: "false"}
    # Two plus signs: an option that the recipe does not name is added.
    return [
        f"++{name}={words[value] if isinstance(value, bool) else value}"
        for name, value in options.items()
    ]


def row_options(settings: Mapping[str, Any], pretraining: bool) -> list[str]:
    """What makes one row, as hydra has it; the objective is that of its pretraining alone."""
    return overrides(
        {
            OF_TRAINING.get(name, f"model.{name}"): value
            for name, value in settings.items()
            if pretraining or name != "objective"
        }
    )


def vocabulary_of(data: Path) -> int:
    """Tokens of the vocabulary of binarized text."""
    with quiet():
        from convbert_plugin.data.vocabulary import open_vocabulary

    return len(open_vocabulary(data, "fairseq-preprocess"))


def with_earlier(grids: Sequence[Grid], out: Path) -> list[Grid]:
    """The grids, after those that an earlier call has left there."""
    earlier = read_grid(out) if (out / GRID_FILE).exists() else ()
    names = [grid.name for grid in grids]
    kept = [grid for grid in earlier if grid.name not in names]
    order = [*COMPARISONS, *(grid.name for grid in kept)]
    return sorted([*kept, *grids], key=lambda grid: order.index(grid.name))


def say(grids: Sequence[Grid]) -> None:
    """Print the rows with their parameters."""
    for grid in grids:
        print(f"\ngrid {grid.name}: {grid.title}")
        for row in grid.rows:
            counts = f"{row.parameters:,} parameters, {row.trained:,} while pretraining"
            print(f"  {row.name:<32} {counts:<56} {row.folder}")
        if grid.note:
            print(f"  {grid.note}")
    print(flush=True)


class Ablation:
    """The runs of a call, and by which commands they are done."""

    def __init__(self, scale: Scale, settings: Settings, data: Mapping[str, Path], out: Path):
        self.scale = scale
        self.settings = settings
        self.data = data
        self.out = out
        self.options: dict[Path, Mapping[str, Any]] = {}

    def chain(self, row: SettledRow, seed: int, tasks: Sequence[str]) -> list[sweep.Run]:
        """The pretraining of a row with a seed, and the fine-tunings that begin from it."""
        name = row.row.folder
        folder = self.out / name / SEED_FOLDER.format(seed=seed)
        runs = [
            sweep.Run(name, seed, folder),
            *(sweep.Run(f"{name}, {task}", seed, folder / TASKS / task) for task in tasks),
        ]
        self.options.update({run.folder: row.settings for run in runs})
        return runs

    def command(self, run: sweep.Run) -> list[str]:
        """What does a run."""
        size, options = self.scale.size, self.options[run.folder]
        if run.folder.parent.name != TASKS:
            words = [f"model=convbert_{size}", *self.settings.pretraining]
            words += row_options(options, pretraining=True)
            recipe = f"pretrain_convbert_{size}"
            return sweep.train_command(recipe, words, run, self.data[DATA], None, [])
        task = run.folder.name
        start = run.folder.parents[1] / sweep.LAST_CHECKPOINT
        words = [f"model=convbert_{size}", f"glue={task}", *self.settings.fine_tuning]
        words += row_options(options, pretraining=False)
        recipe = f"finetune_convbert_{size}"
        return sweep.train_command(recipe, words, run, self.data[task], start, [])


@mistakes_end_the_program()
def main() -> None:
    arguments = parse_arguments()
    check(arguments)
    sweep.settle(arguments)
    jobs, out = arguments.jobs, arguments.out
    cores = len(os.sched_getaffinity(0))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // jobs)))
    scale = SCALES[arguments.scale]
    settings = settings_of(scale, arguments)
    data = out / DATA
    prepared = {
        DATA: prepared_text(
            {f"--{name}": getattr(arguments, name) for name in ("train", "valid", "tokenizer")},
            data / "text" / "encoded",
            data / "text" / "binarized",
        ),
        **{
            task: prepared_glue(task, arguments.glue, data / task, arguments.tokenizer)
            for task in arguments.tasks
        },
    }
    is_begun = any(out.glob(f"*/seed*/{sweep.LAST_CHECKPOINT}"))
    words = [f"scale: {arguments.scale}", *settings.words]
    sweep.keep_settings(out, "runs", words, is_begun)
    grids, rows = settled(arguments.grids, scale, vocabulary_of(prepared[DATA]))
    write_grid(out, with_earlier(grids, out))
    say(grids)
    if arguments.data_only:
        return
    ablation = Ablation(scale, settings, prepared, out)
    chains = [
        ablation.chain(row, seed, arguments.tasks) for seed in arguments.seeds for row in rows
    ]
    sweep.do_and_report(chains, ablation.command, arguments)


if __name__ == "__main__":
    main()
