"""This project's models, as fairseq-train builds them from its options."""

import copy
import functools
from pathlib import Path
from typing import Any, Mapping, NamedTuple, cast

import torch
from fairseq import optim, options, tasks, utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import DictConfig
from torch import Tensor

from convbert_plugin.analysis.bench.comparing import Workload
from convbert_plugin.analysis.bench.plan import SEED, Setting
from convbert_plugin.models.convbert import ConvBertModel

AUTOCAST = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
CLIP_NORM = 1.0
TRAINING = (
    *("--task", "replaced_token_detection", "--criterion", "replaced_token_detection"),
    *("--full-blocks", "--optimizer", "convbert_adamw", "--weight-decay", "0.01"),
    *("--clip-norm", str(CLIP_NORM), "--lr-scheduler", "convbert_linear", "--lr", "3e-4"),
    *("--warmup-updates", "10000", "--max-update", "1000000", "--seed", str(SEED)),
    *("--disable-validation", "--no-save", "--no-progress-bar"),
)


class Batch(NamedTuple):
    """What the networks read. Shapes: tokens (masked) and segments [B, T]."""

    sample: dict[str, Any]
    tokens: Tensor
    segments: Tensor


def training_options(setting: Setting) -> list[str]:
    """The command line of fairseq-train for it, its name apart."""
    model = [
        word
        for name, value in setting.model_options.items()
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    return [
        *(setting.data, "--arch", setting.arch, *TRAINING, *model),
        *("--tokens-per-sample", str(setting.length), "--batch-size", str(setting.batch)),
        *("--save-dir", str(Path(setting.data) / "run")),
        *("--autocast-dtype", AUTOCAST[setting.dtype]),
        *(["--cpu"] if setting.device == "cpu" else []),
        *setting.options,
    ]


def configuration(setting: Setting) -> DictConfig:
    """What fairseq-train makes of that command line."""
    # A task writes into its own.
    return copy.deepcopy(_configuration(setting))


@functools.lru_cache
def _configuration(setting: Setting) -> DictConfig:
    parser = options.get_training_parser()
    arguments = options.parse_args_and_arch(parser, training_options(setting))
    return cast(DictConfig, convert_namespace_to_omegaconf(arguments))


class Opened(NamedTuple):
    """What a setting makes: all options, the task with its text, and a batch of it."""

    cfg: DictConfig
    task: Any
    batch: Batch


def opened(setting: Setting) -> Opened:
    """The same batch for all models of one size: the first examples of the text, masked."""
    cfg = configuration(setting)
    task = tasks.setup_task(cfg.task)
    task.load_dataset("train")
    examples = task.dataset("train")
    sample = examples.collater([examples[index] for index in range(setting.batch)])
    sample = utils.move_to_cuda(sample) if setting.device == "cuda" else sample
    inputs = sample["net_input"]
    # All that is counted of a model is counted for such a batch.
    assert inputs["src_tokens"].shape == (setting.batch, setting.length)
    return Opened(cfg, task, Batch(sample, inputs["src_tokens"], inputs["segments"]))


class OwnTraining(Workload):
    """A step of pretraining as the trainer of fairseq makes it, on one batch; ``run`` is timed."""

    def __init__(self, setting: Setting):
        self.setting = setting
        cfg, self.task, self.batch = opened(setting)
        torch.manual_seed(SEED)
        self.model = cast(ConvBertModel, self.task.build_model(cfg.model)).to(setting.device)
        self.criterion = self.task.build_criterion(cfg.criterion).to(setting.device)
        self.optimizer = optim.build_optimizer(cfg.optimizer, list(self.model.parameters()))
        self.updates = 0

    def run(self) -> None:
        self.optimizer.zero_grad()
        self.loss_and_gradients()
        self.optimizer.clip_grad_norm(CLIP_NORM)
        self.optimizer.step()
        self.updates += 1

    def loss_and_gradients(self) -> Mapping[str, Any]:
        """What the criterion logs; the gradients are those of the mean over the masked tokens."""
        _, sample_size, log = self.task.train_step(
            self.batch.sample, self.model, self.criterion, self.optimizer, self.updates
        )
        self.optimizer.multiply_grads(1 / sample_size)
        return log


class OwnEncoder:
    """The encoder alone, with nothing of pretraining."""

    def __init__(self, setting: Setting):
        cfg, task, self.batch = opened(setting)
        torch.manual_seed(SEED)
        self.model = ConvBertModel.build_model(cfg.model, task).to(setting.device)

    def features(self) -> Tensor:
        """Hidden states [B, T, C] of the last level."""
        return self.model(self.batch.tokens, self.batch.segments, has_pads=False)
