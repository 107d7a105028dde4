"""fairseq-train in this process, and what it logged."""

import gc
import json
import logging
import sys
from pathlib import Path
from typing import NamedTuple, Optional

import fairseq_cli.train
import torch
from fairseq import checkpoint_utils, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.logging import metrics
from fairseq.options import get_training_parser, parse_args_and_arch
from fairseq.trainer import Trainer
from measuring import Options

import convbert_plugin

USER_DIR = str(Path(convbert_plugin.__file__).parent)
RECIPE = (
    *("--user-dir", USER_DIR, "--task", "replaced_token_detection", "--full-blocks"),
    *("--criterion", "replaced_token_detection", "--arch", "convbert_small"),
    *("--optimizer", "convbert_adamw", "--lr-scheduler", "convbert_linear", "--lr", "5e-4"),
    *("--clip-norm", "1.0", "--weight-decay", "0.01", "--tokens-per-sample", "128"),
    *("--batch-size", "128", "--log-format", "json", "--no-epoch-checkpoints"),
    # To make a batch takes a process longer than a GPU takes to learn from it.
    *("--num-workers", "8"),
)
TOY = (
    *("--encoder-layers", "1", "--encoder-embed-dim", "32", "--encoder-ffn-embed-dim", "64"),
    *("--embedding-dim", "16", "--max-positions", "32", "--tokens-per-sample", "16"),
    *("--batch-size", "8", "--num-workers", "0", "--required-batch-size-multiple", "1"),
)
ELECTRA = ("--conv-type", "none", "--head-ratio", "1")


class Run(NamedTuple):
    """The numbers that were logged, by line; what ended it otherwise; the most memory, in GiB."""

    updates: list[dict]
    validations: list[dict]
    error: Optional[str]
    memory: float


class Logged(logging.Handler):
    """Keeps what fairseq logs as JSON, by the name of the log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, list[dict]] = {"train_inner": [], "valid": []}

    def emit(self, record: logging.LogRecord) -> None:
        if record.name in self.lines:
            numbers = json.loads(record.getMessage())
            self.lines[record.name].append({name: float(x) for name, x in numbers.items()})


def words_for(options: Options, *more: str) -> list[str]:
    """The command line of the recipe at the asked size, on the asked device."""
    size = TOY if options.toy else ()
    device = ("--cpu",) if options.device.type == "cpu" else ()
    folder = ("--save-dir", str(options.out / "run"))
    return [str(options.data), *RECIPE, *size, *device, *folder, *more]


def train(options: Options, *more: str) -> Run:
    """Train as the command does, from nothing."""
    _forget_earlier_runs()
    logged = Logged()
    logging.getLogger().addHandler(logged)
    before, sys.argv = sys.argv, ["fairseq-train", *words_for(options, *more)]
    is_cuda = options.device.type == "cuda"
    if is_cuda:
        torch.cuda.reset_peak_memory_stats()
    error = None
    try:
        fairseq_cli.train.cli_main()
    except SystemExit as ended:
        error = str(ended.code)
    except Exception as failed:
        error = f"{type(failed).__name__}: {failed}"
        logging.getLogger(__name__).exception("training failed")
    finally:
        sys.argv = before
        logging.getLogger().removeHandler(logged)
    memory = torch.cuda.max_memory_reserved() / 2**30 if is_cuda else 0.0
    gc.collect()
    if is_cuda:
        torch.cuda.empty_cache()
    return Run(logged.lines["train_inner"], logged.lines["valid"], error, memory)


def trainer_for(options: Options, *more: str) -> tuple[Trainer, dict]:
    """What fairseq trains with, and a full batch."""
    words = words_for(options, "--max-update", "1000", *more)
    # The parser looks there for the folder of the plugin.
    before, sys.argv = sys.argv, ["fairseq-train", *words]
    try:
        arguments = parse_args_and_arch(get_training_parser(), words)
    finally:
        sys.argv = before
    cfg = convert_namespace_to_omegaconf(arguments)
    torch.manual_seed(1)
    task = tasks.setup_task(cfg.task)
    task.load_dataset("train")
    model = task.build_model(cfg.model)
    trainer = Trainer(cfg, task, model, task.build_criterion(cfg.criterion))
    examples = task.datasets["train"]
    batch = examples.collater([examples[row] for row in range(cfg.dataset.batch_size)])
    return trainer, batch


def _forget_earlier_runs() -> None:
    # fairseq keeps the best scores of a process in these functions.
    for function in (checkpoint_utils.save_checkpoint, fairseq_cli.train.should_stop_early):
        function.__dict__.clear()
    metrics.reset()
