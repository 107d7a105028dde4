"""Data and options of tiny trainings on every task, and a fork for each training.

A fork inherits what takes longer than to train: the imports, and the parsing of 300 options.
"""

import contextlib
import gc
import importlib
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path

from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from tqdm import tqdm

from convbert_plugin.cli import main as convbert
from user_dir_tests.end_to_end.conftest import (
    EVERY_EXAMPLE,
    TASK,
    TINY,
    make_corpus,
    options_composed_once,
)
from user_dir_tests.end_to_end.glue_runs import GLUE_TASK, write_pairs, write_similarities
from user_dir_tests.end_to_end.killing import train
from user_dir_tests.end_to_end.squad_runs import SQUAD_TASK, write_squad
from user_dir_tests.end_to_end.unrounded import unrounded_updates

USUAL = (
    *(*TINY, *EVERY_EXAMPLE),
    *("--clip-norm", "1.0", "--cpu", "--seed", "3", "--log-format", "json"),
)
PRETRAINING = (
    *(*TASK, "--criterion", "replaced_token_detection", "--tokens-per-sample", "24"),
    *("--batch-size", "12"),
)
MASKED_LM = (*PRETRAINING, "--objective", "masked_lm")
GLUE = (*GLUE_TASK, "--criterion", "glue", "--tokens-per-sample", "20", "--batch-size", "8")
SQUAD = (
    *(*SQUAD_TASK, "--criterion", "squad", "--tokens-per-sample", "20", "--doc-stride", "6"),
    *("--max-answer-length", "4", "--batch-size", "10"),
)
# Of each task, the name of its data and its options.
TASKS = {
    "replaced tokens": ("corpus", *PRETRAINING),
    "replaced tokens, sharded": ("shards", *PRETRAINING),
    "masked LM": ("corpus", *MASKED_LM),
    "masked LM, full blocks": ("shards", *MASKED_LM, "--full-blocks"),
    "GLUE, classes": ("rte", *GLUE),
    "GLUE, scores": ("sts-b", *GLUE, "--double-unordered"),
    "SQuAD 1.1": ("1.1", *SQUAD, "--question-answering-head", "transformers"),
    "SQuAD 2.0": ("2.0", *SQUAD),
}


@contextlib.contextmanager
def toy_data():
    """A folder, and the data of all tasks by name: what fairseq-train takes."""
    # Its bars have a thread that looks after them.
    tqdm.monitor_interval = 0
    importlib.import_module("torch._dynamo")
    with tempfile.TemporaryDirectory() as folder, options_composed_once():
        made = make_data(Path(folder))
        # What is never collected is not copied, and none of what a training makes.
        gc.collect()
        gc.freeze()
        yield Path(folder), made


def make_data(folder):
    """The data of all cells, by name: what fairseq-train takes."""
    corpus = make_corpus(folder / "corpus")
    shard = shutil.copytree(corpus.data, folder / "shard")
    for suffix in ("bin", "idx"):
        shutil.copy(corpus.data / f"valid.{suffix}", shard / f"train.{suffix}")
    made = {"corpus": corpus.data, "shards": f"{corpus.data}{os.pathsep}{shard}"}
    tokenizer = ("--tokenizer", corpus.data)
    sources = {
        "rte": write_pairs(folder / "RTE", ("entailment", "not_entailment")),
        "sts-b": write_similarities(folder / "STS-B"),
    }
    for name, source in sources.items():
        made[name] = folder / name
        say("prepare-glue", "--glue-task", name, *tokenizer, source, made[name])
    for version, impossible in (("1.1", 0), ("2.0", 2)):
        made[version] = folder / version / "data"
        files = [
            write_squad(folder / version / f"{split}.json", paragraphs, impossible, seed)
            for split, paragraphs, seed in (("train", 16, 5), ("dev", 9, 6))
        ]
        say("prepare-squad", "--workers", "1", *tokenizer, *files, made[version])
    return made


def say(*words):
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        assert convbert([*map(str, words)]) == 0


def parse_once(words):
    """Let forks inherit the parsing of options."""
    sys.argv[1:] = [*map(str, words)]
    convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser()))


def train_in_a_fork(words, log, updates):
    """Train, telling ``updates`` of each; the exit status, below 0 for a signal."""
    assert threading.active_count() == 1, "a fork takes no threads along"
    process = os.fork()
    if not process:
        with unrounded_updates(updates):
            train(log, [*map(str, words)])
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
