"""See at the start that fairseq's own options go with the tasks here."""

import argparse
import functools
import os
from typing import Any, Mapping, Optional

import torch
from fairseq.tasks import TASK_REGISTRY

from convbert_plugin.errors import UserError, under_a_command_of_fairseq
from convbert_plugin.formats.wholeness import version_of
from convbert_plugin.optim.convbert_adamw import OPTIMIZER_NAME
from convbert_plugin.training.checkpoints import open_checkpoint
from convbert_plugin.training.option_limits import check_overrides, check_values
from convbert_plugin.training.run_config import RunConfig

INSTEAD = "use --autocast-dtype bfloat16 instead"
# Of fairseq-validate, whose scores do not depend on it.
DEFAULT_BATCH_SIZE = 64
# Of a process that torchrun or SLURM started, beside its others.
LAUNCHED = {"MASTER_ADDR", "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"}


def check_command(parser: argparse._ActionsContainer) -> None:
    """See what a command of fairseq was given, of which it would otherwise end in a traceback.

    Raises:
        UserError: a value out of its limits; no batch size to train with; no sound checkpoint to
            validate, or one of a run on another task, which fairseq would take instead.
    """
    if not (isinstance(parser, argparse.ArgumentParser) and under_a_command_of_fairseq()):
        return
    options = vars(parser.parse_known_args()[0])
    check_values(options)
    _check_workers(options)
    is_validation = "path" in options
    if options["batch_size"] is None and options["max_tokens"] is None:
        if not is_validation:
            raise UserError("--batch-size is missing: give it, or --max-tokens")
        parser.set_defaults(batch_size=DEFAULT_BATCH_SIZE)
    if is_validation:
        if options["path"] is None:
            raise UserError("--path is missing: name the checkpoint to validate")
        check_overrides(options["model_overrides"])
        path = options["path"]
        version = version_of(path) if os.path.exists(path) else None
        _check_once(path, options["task"], version)


def check_run(cfg: RunConfig) -> None:
    """See fairseq's own options of a run, also of one that hydra started; errors as above."""
    run = cfg._get_root()
    sections = (run.common, run.dataset, run.optimization, run.distributed_training)
    check_values({name: value for section in sections for name, value in section.items()})


def _check_workers(options: Mapping[str, Any]) -> None:
    """Raise UserError where fairseq would start a process a GPU, of which there is none.

    It does nothing then, and ends well.
    """
    workers = options.get("distributed_world_size") or 1
    is_one_of_them = options.get("distributed_no_spawn") or LAUNCHED & os.environ.keys()
    if workers > 1 and not is_one_of_them and not torch.cuda.device_count():
        raise UserError(
            f"--distributed-world-size {workers}: fairseq starts a process for each GPU, and there "
            "is none here: start each process yourself, with --distributed-no-spawn and its rank, "
            "or leave it out"
        )


@functools.lru_cache(maxsize=1)
def _check_once(path: str, task: str, version: Optional[tuple]) -> None:
    """fairseq declares the options of a task twice before it validates."""
    checkpoint, _ = open_checkpoint(path)
    trained_on = checkpoint.task.get("_name", task)
    if trained_on != task and str(trained_on) in TASK_REGISTRY:
        raise UserError(
            f"{path}: was trained on --task {trained_on}, not on {task}: give that task and its "
            "data, or train it on this one before it is scored"
        )


def check_precision(cfg: RunConfig) -> None:
    """Refuse precision flags that fairseq takes and this machine cannot honour.

    Raises:
        UserError: ``--bf16`` on the command line, which fairseq reads as TPU; ``--fp16`` or
            ``--amp`` without a GPU; memory-efficient half precision with ``convbert_adamw``.
    """
    if cfg.tpu and cfg.bf16:
        raise UserError(f"--bf16 on the command line means TPU to fairseq: {INSTEAD}")
    if not runs_on_gpu(cfg):
        for flag in ("fp16", "amp"):
            if getattr(cfg, flag):
                raise UserError(f"--{flag} needs a GPU: {INSTEAD}")
    root = cfg._get_root()
    for flag in ("memory_efficient_fp16", "memory_efficient_bf16"):
        if root.common[flag] and root.optimizer._name == OPTIMIZER_NAME:
            name = flag.replace("_", "-")
            raise UserError(
                f"--{name} does not go with {OPTIMIZER_NAME}, whose averages of squared gradients "
                f"would vanish in half precision: {INSTEAD}"
            )


def runs_on_gpu(cfg: RunConfig) -> bool:
    """Whether fairseq trains on a GPU."""
    return torch.cuda.is_available() and not cfg.cpu


def check_one_gpu(cfg: RunConfig) -> None:
    """Raise UserError where CUDA graphs cannot be: beside others, whose gradients it would need."""
    if not runs_on_gpu(cfg):
        raise UserError("--cuda-graphs needs a GPU: leave it out")
    workers = cfg._get_root().distributed_training.distributed_world_size
    if workers > 1:
        raise UserError(
            f"--cuda-graphs is for one GPU and there are {workers} workers: leave it out, or add "
            "--distributed-world-size 1"
        )
