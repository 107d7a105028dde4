"""Records of pretraining runs, of grids, and of what was fine-tuned from them, written by hand."""

import json
from pathlib import Path

from convbert_plugin.files.fingerprints import fingerprint_of
from convbert_plugin.files.grids import Grid, GridRow, write_grid

RANDOM = {"kind": "random weights"}
DATA = {
    "vocabulary": "v" * 16,
    "vocabulary_size": 6000,
    "train": "t" * 16,
    "valid": "d" * 16,
    "train_tokens": 100_000,
    "used_share": 0.9,
    "train_examples": 2000,
}


def write_pretraining(folder: Path, losses, seed=1, seconds=0.5, **values) -> Path:
    """A run that was validated every hundred updates, with these losses; its AUC is 1 less each."""
    validations = [
        {
            "subset": "valid",
            "updates": 100 * number,
            "tokens": 90_000 * number,
            "seconds": 100 * number * seconds,
            "loss": loss,
            "discriminator_auc": 1 - loss,
        }
        for number, loss in enumerate(losses, start=1)
    ]
    points = [
        {
            "updates": update,
            "tokens": 900 * update,
            "slots": 1000 * update,
            "seconds": update * seconds,
            "loss": 1 / update,
            "wps": 900 / seconds,
        }
        for update in range(50, 100 * len(losses) + 1, 50)
    ]
    record = {
        "format": 1,
        "task": "replaced_token_detection",
        "objective": "replaced_token_detection",
        "seed": seed,
        "model": {"arch": "convbert_small", "layers": 3, "head_ratio": 2},
        "start": RANDOM,
        "settings": {"lr": [5e-4], "batch_size": 16, "max_update": 100 * len(losses)},
        "data": DATA,
        "environment": {"device": "x86_64", "threads": 1, "world_size": 1, "commit": "abc123"},
        "points": points,
        "validations": validations,
        "budget_minutes": None,
        "counted_from": 0,
        "ended": "max_update",
        **values,
    }
    folder.mkdir(parents=True)
    (folder / "pretraining.json").write_text(json.dumps(record))
    return folder


def write_fine_tuned(folder: Path, pretraining: Path, scores, task="rte", seed=1, **values) -> Path:
    """A run from the last checkpoint of a pretraining of 200 updates; ``scores``: by metric."""
    start = {
        "kind": "trained here",
        "checkpoint": str(pretraining / "checkpoint_last.pt"),
        "objective": "replaced_token_detection",
        "updates": 200,
        # As a checkpoint does, the record holds times.
        "weights": fingerprint_of(pretraining.glob("pretraining.json")),
    }
    record = {
        "task": task,
        "metrics": list(scores),
        "seed": seed,
        "model": {"arch": "convbert_small", "layers": 3},
        "classification_head": "released",
        "start": start,
        "settings": {"lr": [1e-4], "max_update": 50},
        "data": {"vocabulary": "v" * 16, "train": "x" * 16, "valid": "y" * 16},
        "majority": {"valid": dict.fromkeys(scores, 0.5)},
        "validations": [{"subset": "valid", "updates": 50, **scores}],
        **values,
    }
    folder.mkdir(parents=True)
    (folder / "scores.json").write_text(json.dumps(record))
    return folder


def grid(name: str, rows, **values) -> Grid:
    """A grid of rows, each a name and a folder; its reference is the first."""
    made = tuple(GridRow(row, folder, 1000 + len(row), 2000) for row, folder in rows)
    return Grid(name, "a table", made, rows[0][0], **values)


# By row: the folder, the losses of the last validation and the scores of RTE by seed.
ROWS = {
    "ELECTRA style": ("electra", (0.31, 0.33, 0.32), (0.50, 0.54, 0.52)),
    "+ bottleneck": ("bottleneck", (0.30, 0.34, 0.33), (0.52, 0.53, 0.56)),
    "+ span convolution": ("span", (0.21, 0.235, 0.222), (0.61, 0.64, 0.628)),
}


def write_rows(out: Path, rows=ROWS, seconds=0.5) -> Path:
    """The runs of a grid, and the grid."""
    for folder, losses, scores in rows.values():
        for seed, (loss, score) in enumerate(zip(losses, scores, strict=True), start=1):
            run = out / folder / f"seed{seed}"
            model = {"arch": "convbert_small", "layers": 3, "conv_type": folder}
            write_pretraining(run, (0.5, loss), seed=seed, seconds=seconds, model=model)
            write_fine_tuned(run / "glue" / "rte", run, {"accuracy": score}, seed=seed)
    write_grid(out, [grid("a", [(name, folder) for name, (folder, *_) in rows.items()])])
    return out
