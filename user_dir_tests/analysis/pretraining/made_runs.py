"""Pretraining runs as their records say them, made by hand: models of a size that has a profile."""

from convbert_plugin.analysis.pretraining.pretraining_groups import PretrainingGroup
from convbert_plugin.analysis.pretraining.pretraining_runs import PretrainingRun
from convbert_plugin.models.architectures import ARCHITECTURES

MODEL = {"arch": "convbert_small", **ARCHITECTURES["convbert_small"], "generator_size": 0.25}
SETTINGS = {
    "tokens_per_sample": 16,
    "mask_prob": 0.15,
    "batch_size": 4,
    "max_tokens": None,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "autocast_dtype": "float32",
    "optimizer": "convbert_adamw",
    "max_update": 100,
    "device": "x86_64",
}
# A batch of 4 full examples of 16.
SLOTS_OF_UPDATE = 64
PROFILED = "convbert_small:batch-size=4,tokens-per-sample=16,vocabulary=500,max-update=100"


def point(updates, **numbers):
    """A tenth of the slots are pads, and an update takes half a second."""
    slots = SLOTS_OF_UPDATE * updates
    return {
        "updates": updates, "tokens": round(0.9 * slots), "slots": slots, "seconds": updates / 2,
        **numbers,
    }  # fmt: skip


def validation(updates, subset="valid", **numbers):
    entry = point(updates, **numbers)
    del entry["slots"]
    return {"subset": subset, **entry}


def made_run(seed=1, points=(), validations=(), **changes):
    """``changes``: fields of the run; of ``model`` and ``settings``, some of what they hold."""
    fields = {
        "folder": f"runs/seed{seed}",
        "seed": seed,
        "objective": "replaced_token_detection",
        "start": {"kind": "random weights"},
        "data": {"vocabulary_size": 500},
        "environment": {
            "processor": "A Processor (cpu family 6, model 1), 8 CPUs",
            "gpu": None,
            "threads": 2,
            "world_size": 1,
        },
        "points": list(points),
        "validations": list(validations),
        "budget_minutes": None,
        "ended": "max_update",
        **changes,
        "model": {**MODEL, **changes.get("model", {})},
        "settings": {**SETTINGS, **changes.get("settings", {})},
    }
    return PretrainingRun(**fields)


def made_group(label, *runs):
    return PretrainingGroup(label, list(runs))
