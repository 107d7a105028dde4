"""What a recorded pretraining run learns, computes and keeps, by the options in its record."""

from typing import Any, Mapping, NamedTuple

from convbert_plugin.analysis.profiling.profiles import AUTHORS, CONVENTIONS, profile_of
from convbert_plugin.analysis.profiling.subjects import (
    AUTOCAST_DTYPES,
    DEVICES,
    FINE_TUNING,
    MASK_PROBABILITY,
    OBJECTIVES,
    OPTIONS,
    SIZE_OPTIONS,
    Subject,
    made_subject,
)
from convbert_plugin.errors import UserError, shown
from convbert_plugin.models.architectures import released_generator_size

PRETRAINING = tuple(objective for objective in OBJECTIVES if objective != FINE_TUNING)
# What counts for FLOPs and parameters, beside the sizes; the rest counts for memory alone.
COUNTED = ("tokens_per_sample", "mask_prob", "generator_size")
# Optimizers that keep two moments of each number, in float32.
WITH_MOMENTS = ("convbert_adamw", "adam", "adamw")
# fairseq's own switches that keep weights in other precisions, or twice.
OTHER_WEIGHTS = (*("fp16", "memory_efficient_fp16", "bf16", "memory_efficient_bf16", "store_ema"),)
CPU, GPU = DEVICES
MACHINES = ("x86_64", "amd64", "i686", "aarch64", "arm64", "ppc64le", "s390x", "riscv64")


class Cost(NamedTuple):
    """Of a run, by formulas.

    ``parameters``: all that is trained; ``encoder``: of these, what is fine-tuned later, without
    heads. ``flops_of_slot``: by convention, forward and backward of one of the places that a batch
    has for tokens, pads among them, each as in a full example. ``memory``: bytes of a step on each
    device, as a profile has them; {} where ``memory_problem`` says why.
    """

    parameters: int
    encoder: int
    flops_of_slot: dict[str, float]
    memory: dict[str, int]
    memory_problem: str

    def flops(self, slots: float, convention: str = AUTHORS) -> float:
        """Of a training on so many places."""
        return self.flops_of_slot[convention] * slots


def cost_of(
    objective: str,
    model: Mapping[str, Any],
    settings: Mapping[str, Any],
    data: Mapping[str, Any],
) -> Cost:
    """The cost of a run, of which a record says this. Raises UserError: why there is none."""
    subject = recorded_subject(objective, model, settings, data)
    profile = profile_of(subject)
    tokens = subject.recipe.tokens_of_batch
    problem = _memory_problem({**settings, **model})
    return Cost(
        parameters=profile["parameters"]["all"],
        encoder=profile["parameters"]["encoder"],
        flops_of_slot={
            convention: profile["flops"][convention]["update"] / tokens
            for convention in CONVENTIONS
        },
        memory={} if problem else profile["memory"],
        memory_problem=problem,
    )


def recorded_subject(
    objective: str,
    model: Mapping[str, Any],
    settings: Mapping[str, Any],
    data: Mapping[str, Any],
) -> Subject:
    """What ``convbert profile`` profiles with the same options: a batch of one worker.

    Raises:
        UserError: the record lacks an option, or it holds what no formula is for.
    """
    if objective not in PRETRAINING:
        raise UserError(f"there are no formulas for the objective {shown(objective)}")
    told = {**settings, **model}
    if "vocabulary_size" in data:
        told["vocabulary"] = data["vocabulary_size"]
    told.setdefault("mask_prob", MASK_PROBABILITY)
    arch = str(model.get("arch"))
    if told.get("generator_size") is None:
        told["generator_size"] = released_generator_size(arch)
    needed = [*SIZE_OPTIONS, *COUNTED, "vocabulary", "dropout", "attention_dropout"]
    missing = [name for name in needed if told.get(name) is None]
    if missing:
        raise UserError(f"the record does not say {', '.join(missing)}")
    options = {
        **{name: _checked(name, told[name]) for name in needed},
        "autocast_dtype": _precision(told),
        "checkpoint_activations": bool(told.get("checkpoint_activations")),
        "objective": objective,
        "batch_size": _batch(told),
        "max_update": max(1, told.get("max_update") or 1),
        "device": _device(told),
    }
    return made_subject(arch, arch, options)


def _checked(name: str, value: Any) -> Any:
    """A value as the option takes it, of the same rules."""
    try:
        return OPTIONS[name].parse(str(value))
    except ValueError as error:
        raise UserError(f"{name} takes {error}, not {shown(value)}") from None


def _batch(told: Mapping[str, Any]) -> int:
    """Examples of a worker's batch, were all of them full."""
    limits = [told["batch_size"]] if told.get("batch_size") else []
    if told.get("max_tokens"):
        limits.append(told["max_tokens"] // told["tokens_per_sample"])
    if not limits:
        raise UserError("the record says neither batch_size nor max_tokens")
    return max(1, min(limits))


def _precision(told: Mapping[str, Any]) -> str:
    dtype = told.get("autocast_dtype") or AUTOCAST_DTYPES[0]
    if dtype not in AUTOCAST_DTYPES:
        raise UserError(f"there are no formulas for autocast_dtype {shown(dtype)}")
    return dtype


def _device(told: Mapping[str, Any]) -> str:
    """Records name a GPU, or what a machine calls its kind of processor."""
    device = str(told.get("device", ""))
    return CPU if device.lower() in (CPU, "", *MACHINES) else GPU


def _memory_problem(told: Mapping[str, Any]) -> str:
    """Why the formulas of memory do not hold, "" where they do."""
    others = [name for name in OTHER_WEIGHTS if told.get(name)]
    if others:
        return f"not counted with {', '.join(others)}"
    optimizer = told.get("optimizer")
    if optimizer not in WITH_MOMENTS:
        return f"not counted for the optimizer {shown(optimizer)}"
    return ""
