"""What makes a run, for its record: runs that are equal in it differ in their seed alone."""

import argparse
import platform
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from typing import Any, Collection, Optional, Sequence

import fairseq
import torch
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY
from fairseq.dataclass.utils import merge_with_parent
from fairseq.optim import OPTIMIZER_DATACLASS_REGISTRY, OPTIMIZER_REGISTRY
from fairseq.optim.lr_scheduler import LR_SCHEDULER_DATACLASS_REGISTRY, LR_SCHEDULER_REGISTRY
from omegaconf import DictConfig, OmegaConf

import convbert_plugin
from convbert_plugin.data.binarized import parts_of
from convbert_plugin.files.fingerprints import fingerprint_of
from convbert_plugin.files.host import commit_of, processor_name
from convbert_plugin.files.pretraining_records import STOP_TIME
from convbert_plugin.files.records import BUDGET
from convbert_plugin.models.config import ConvBertConfig
from convbert_plugin.models.convbert import ConvBertModel

NAME = "_name"
COMPONENTS = {
    "criterion": CRITERION_DATACLASS_REGISTRY,
    "optimizer": OPTIMIZER_DATACLASS_REGISTRY,
    "lr_scheduler": LR_SCHEDULER_DATACLASS_REGISTRY,
}
# What may be declared in fairseq's old way.
OF_OLD = {"optimizer": OPTIMIZER_REGISTRY, "lr_scheduler": LR_SCHEDULER_REGISTRY}
# Of other groups, the options that change what is learned.
OPTIONS = {
    "common": ("fp16", "memory_efficient_fp16", "bf16", "memory_efficient_bf16", "amp"),
    "dataset": (
        *("train_subset", "batch_size", "max_tokens", "required_batch_size_multiple"),
        *("skip_invalid_size_inputs_valid_test", "curriculum", "update_ordered_indices_seed"),
    ),
    "distributed_training": ("distributed_world_size",),
    "ema": ("store_ema", "ema_decay"),
}
CHECKOUT = Path(convbert_plugin.__file__).resolve().parents[1]
# Of a model, those that change no more than how fast it is and what it takes.
HOW_IT_RUNS = ("compile", "checkpoint_activations")


def settings_of(task: DictConfig, besides: Collection[str]) -> dict[str, Any]:
    """The options of a training by their names, and what it runs with, in plain values.

    ``task``: those of the task, amid the whole configuration; ``besides``: which of these say
    something else.
    """
    settings = {name: value for name, value in _plain(task).items() if name not in besides}
    for component, registry in COMPONENTS.items():
        node = OmegaConf.select(task, f"..{component}")
        if isinstance(node, argparse.Namespace):
            settings |= _old_options(component, node)
            continue
        kind = registry.get(node[NAME])
        # Hydra's recipes leave defaults to what fairseq merges them with.
        settings |= _plain(merge_with_parent(kind(), node) if kind else node)
        settings[component] = node[NAME]
    settings |= _plain(OmegaConf.select(task, "..optimization"))
    if settings.get(BUDGET) is None:
        settings.pop(BUDGET, None)
    else:
        # It stands for the budget while the run lasts.
        settings[STOP_TIME] = 0.0
    for group, names in OPTIONS.items():
        options = _plain(OmegaConf.select(task, f"..{group}"))
        settings |= {name: options.get(name) for name in names}
    # Told where it is on, and so no difference to records of before it was told.
    if (patience := OmegaConf.select(task, "..checkpoint.patience")) > 0:
        settings["patience"] = patience
    on_gpu = torch.cuda.is_available() and not task.cpu
    settings["device"] = torch.cuda.get_device_name() if on_gpu else platform.machine()
    settings["torch"], settings["fairseq"] = torch.__version__, fairseq.__version__
    settings.pop(NAME)
    return settings


def environment_of(task: DictConfig) -> dict[str, Any]:
    """What a training runs on and with, in plain values: no part of what makes it.

    ``commit``: that of the plugin's checkout, if it is one.
    """
    on_gpu = torch.cuda.is_available() and not task.cpu
    return {
        "processor": processor_name(),
        "gpu": torch.cuda.get_device_name() if on_gpu else None,
        "threads": torch.get_num_threads(),
        "world_size": OmegaConf.select(task, "..distributed_training.distributed_world_size"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "fairseq": fairseq.__version__,
        "plugin": _installed_version(),
        "commit": commit_of(CHECKOUT),
    }


def _installed_version() -> Optional[str]:
    """The plugin's; None where it is imported from where it stands."""
    try:
        return metadata.version(convbert_plugin.__name__)
    except metadata.PackageNotFoundError:
        return None


def _old_options(component: str, options: argparse.Namespace) -> dict[str, Any]:
    """Those of a component that fairseq declares in its old way, amid all of the command line."""
    name = getattr(options, component)
    parser = argparse.ArgumentParser(add_help=False)
    OF_OLD[component][name].add_args(parser)
    own = [action.dest for action in parser._actions]
    return {component: name, **{option: getattr(options, option) for option in own}}


def options_of(model: ConvBertModel) -> dict[str, Any]:
    """The options of a model, in plain values."""
    options = _plain(model.cfg)
    # The first is the name of the architecture.
    names = [field.name for field in fields(ConvBertConfig)[1:]]
    # As patience is told, no difference to records of before they were.
    return {name: options[name] for name in names if name not in HOW_IT_RUNS or options[name]}


def data_fingerprints(folder: Path, splits: Collection[str]) -> dict[str, str]:
    """What the files of each split hold: the binarized ones of its name, and all in its folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        split: fingerprint_of(
            path
            for path in files
            if (path.stem == split and path.suffix in (".bin", ".idx"))
            or folder / split in path.parents
        )
        for split in splits
    }


def text_fingerprints(folders: Sequence[Path], splits: Collection[str], train: str) -> dict:
    """What the binarized text of each split holds: of the first folder, of ``train`` of all."""
    parts = {split: [str(folders[0] / split)] for split in splits}
    parts[train] = [part for folder in folders for part in parts_of(str(folder / train))]
    return {
        split: fingerprint_of(f"{path}{suffix}" for path in paths for suffix in (".bin", ".idx"))
        for split, paths in parts.items()
    }


def _plain(options: Any) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(options, resolve=True, enum_to_str=True)
    return plain
