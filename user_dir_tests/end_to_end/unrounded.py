"""fairseq-train with numbers that are not rounded: what it logs of each update, as JSON.

    python unrounded.py UPDATES.json ARGUMENTS OF fairseq-train, --log-interval 1 among them

fairseq's own log has three decimals, which hides what differs by less.
"""

import contextlib
import json
import sys
from pathlib import Path

import fairseq_cli.train
from fairseq.logging import meters, metrics
from fairseq.trainer import Trainer

# As in criterions/summed_logs.py, which fairseq imports later.
EXACT = "_exact_"


@contextlib.contextmanager
def unrounded_updates(updates=None):
    """A list, or what else can append, that gets the numbers of each update as fairseq trains."""
    updates = [] if updates is None else updates
    train_step, safe_round = Trainer.train_step, meters.safe_round

    def recorded_step(*arguments, **options):
        result = train_step(*arguments, **options)
        # Scores are rounded before they are logged, beside their exact values.
        logged = metrics._aggregators["train_inner"]
        exact = {
            name: logged.get_smoothed_value(EXACT + name)
            for name in logged
            if EXACT + name in logged
        }
        numbers = {**logged.get_smoothed_values(), **exact}
        updates.append({name: float(number) for name, number in numbers.items()})
        return result

    Trainer.train_step, meters.safe_round = recorded_step, lambda number, digits: number
    try:
        yield updates
    finally:
        Trainer.train_step, meters.safe_round = train_step, safe_round


if __name__ == "__main__":
    path = Path(sys.argv.pop(1))
    with unrounded_updates() as trained:
        fairseq_cli.train.cli_main()
    path.write_text(json.dumps(trained))
