"""A tiny corpus, and fairseq's own entry points run in this process."""

import contextlib
import copy
import functools
import json
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import fairseq.dataclass.utils
import fairseq_cli.train
import fairseq_cli.validate
import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.logging import metrics
from fairseq_cli import preprocess
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental import compose, initialize_config_dir
from omegaconf import OmegaConf

import convbert_plugin
from convbert_plugin.cli import main as convbert
from user_dir_tests.end_to_end import unrounded

USER_DIR = str(Path(convbert_plugin.__file__).parent)

# The special tokens stand neither first nor in fairseq's order, so that ids that are not those of
# the rows show.
ROWS_BEFORE = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "!", ".", "[CLS]", "[unused2]", "[SEP]"]
NOUNS = ["cat", "dog", "bird", "fish", "horse", "mouse", "child", "teacher"]
VERBS = ["see", "hear", "find", "follow", "greet", "call"]
ADJECTIVES = ["small", "grey", "old", "quick", "tired"]
ENDINGS = ["##s", "##ed", "##ing", "##er"]
ROWS_AFTER = ["[MASK]", "the", "a", *NOUNS, *VERBS, *ADJECTIVES, *ENDINGS]
VOCABULARY = [*ROWS_BEFORE, *ROWS_AFTER]

EVERY_EXAMPLE = ("--required-batch-size-multiple", "1")
TASK = ("--user-dir", USER_DIR, "--task", "replaced_token_detection")
TINY = (
    *("--arch", "convbert_small", "--encoder-layers", "2", "--encoder-embed-dim", "32"),
    *("--encoder-ffn-embed-dim", "64", "--encoder-attention-heads", "4", "--embedding-dim", "20"),
    *("--conv-kernel-size", "3", "--max-positions", "40"),
)
RECIPE = (
    *("--criterion", "replaced_token_detection", "--optimizer", "convbert_adamw"),
    *("--lr-scheduler", "convbert_linear", "--lr", "2e-3", "--clip-norm", "1.0", "--cpu"),
    *("--tokens-per-sample", "24", "--batch-size", "8", "--num-workers", "0", "--seed", "3"),
    *("--log-format", "json", "--log-interval", "1", "--no-epoch-checkpoints"),
    # Without it fairseq's compiled batcher loses examples that do not fill a multiple of 8.
    *EVERY_EXAMPLE,
)


class Corpus(NamedTuple):
    """Text, its pieces (with dict.txt and tokenizer beside them) and the binarized data."""

    text: Path
    pieces: Path
    data: Path


class Run(NamedTuple):
    """A finished training: its folder and its log lines by tag."""

    folder: Path
    logs: dict

    def checkpoint(self, name="checkpoint_last.pt"):
        return torch.load(self.folder / name, map_location="cpu", weights_only=True)


def record_of(run):
    """The record of a fine-tuning run."""
    return json.loads((run.folder / "scores.json").read_text())


def sentence(rng):
    """A sentence whose words depend on each other."""
    subject = rng.randrange(len(NOUNS))
    verb = VERBS[subject % len(VERBS)] + rng.choice(["s", "ed"])
    return f"the {ADJECTIVES[subject % 5]} {NOUNS[subject]} {verb} a {NOUNS[subject - 1]}."


def documents(rng, count):
    texts = ("\n".join(sentence(rng) for _ in range(rng.randint(3, 8))) for _ in range(count))
    return "\n\n".join(texts) + "\n"


def write_vocabulary(path, rows=VOCABULARY):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows))
    return path


def run_preprocess(pieces, data, *arguments, dictionary="dict.txt"):
    command = [
        *("fairseq-preprocess", *TASK, "--only-source", "--srcdict", str(pieces / dictionary)),
        *("--trainpref", str(pieces / "train.txt"), "--validpref", str(pieces / "valid.txt")),
        *("--destdir", str(data), *arguments),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", command)
        preprocess.cli_main()
    preprocess.logger.handlers.clear()


def make_corpus(folder, rows=VOCABULARY):
    text, pieces, data = folder / "text", folder / "pieces", folder / "data"
    vocabulary = write_vocabulary(text / "vocab.txt", rows)
    rng = random.Random(7)
    for split, count in (("train", 60), ("valid", 12)):
        (text / f"{split}.txt").write_text(documents(rng, count))
        arguments = ("--tokenizer", vocabulary, text / f"{split}.txt", pieces / f"{split}.txt")
        assert convbert(["encode", "--workers", "1", *map(str, arguments)]) == 0
    run_preprocess(pieces, data)
    return Corpus(text, pieces, data)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def other_order(tmp_path_factory):
    """The same text with another vocabulary of the same size."""
    rows = VOCABULARY.copy()
    cat, dog = rows.index("cat"), rows.index("dog")
    rows[cat], rows[dog] = rows[dog], rows[cat]
    return make_corpus(tmp_path_factory.mktemp("other_order"), rows)


@pytest.fixture(scope="session")
def other_size(tmp_path_factory):
    """The same text with a larger vocabulary."""
    return make_corpus(tmp_path_factory.mktemp("other_size"), [*VOCABULARY, "tree", "stone"])


@functools.cache
def composed_groups(config_name, groups):
    """What hydra composes of the components alone, whose options have their defaults."""
    folder = str(Path(fairseq.__file__).parent / "config")
    with initialize_config_dir(config_dir=folder):
        return compose(config_name, overrides=list(groups), strict=False)


def compose_options(config_name, overrides, strict):
    """hydra's compose; what it makes of the components is kept, the options are set as it does."""
    options = [each for each in overrides if "." in each.partition("=")[0]]
    groups = tuple(each for each in overrides if each not in options)
    cfg = copy.deepcopy(composed_groups(config_name, groups))
    OmegaConf.set_struct(cfg, True)
    parsed = OverridesParser.create().parse_overrides(options)
    ConfigLoaderImpl._apply_overrides_to_config(parsed, cfg)
    OmegaConf.set_struct(cfg, strict)
    return cfg


@pytest.fixture(scope="session", autouse=True)
def _options_are_composed_once():
    with options_composed_once():
        yield


@contextlib.contextmanager
def options_composed_once():
    """fairseq has hydra compose 300 options for each run, nearly all of them those of the last.

    It takes longer than a tiny training.
    """
    parse = OverridesParser.parse_rule
    parsed = functools.lru_cache(maxsize=None)(
        lambda text, rule: parse(OverridesParser.create(), text, rule)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            OverridesParser, "parse_rule", lambda self, text, rule: copy.copy(parsed(text, rule))
        )
        patch.setattr(fairseq.dataclass.utils, "compose", compose_options)
        # It looks through the whole stack for the folder of its caller.
        patch.setattr(fairseq.dataclass.utils, "initialize", lambda **_: contextlib.nullcontext())
        yield


def forget_earlier_runs():
    # fairseq keeps the best scores of a process in these functions.
    for function in (checkpoint_utils.save_checkpoint, fairseq_cli.train.should_stop_early):
        function.__dict__.clear()
    metrics.reset()


def run_main(patch, module, *arguments):
    """Run the ``main`` of a module of fairseq_cli as its command does."""
    forget_earlier_runs()
    # It would take the log away from pytest.
    patch.setattr(fairseq_cli.validate, "reset_logging", lambda: None)
    patch.setattr(sys, "argv", [f"fairseq-{module.__name__}", *map(str, arguments)])
    module.cli_main()


@pytest.fixture
def run_fairseq(monkeypatch, caplog):
    """Run the ``main`` of a module of fairseq_cli; its log lines by tag."""

    def run(module, *arguments):
        caplog.clear()
        caplog.set_level("INFO")
        run_main(monkeypatch, module, *arguments)
        return json_logs(caplog.records)

    yield run
    forget_earlier_runs()


def json_logs(records):
    logs = {}
    for record in records:
        if record.name in ("train_inner", "train", "valid"):
            logs.setdefault(record.name, []).append(json.loads(record.message))
    return logs


@pytest.fixture
def usual_arguments():
    """What trains a tiny model."""
    return (*TASK, *TINY, *RECIPE)


@pytest.fixture
def fairseq_train(run_fairseq, usual_arguments):
    """Train a tiny model; the arguments given override the usual ones."""

    def run(data, folder, *arguments):
        usual = (*usual_arguments, "--save-dir", folder)
        return Run(folder, run_fairseq(fairseq_cli.train, data, *usual, *arguments))

    return run


@pytest.fixture
def fairseq_validate(run_fairseq):
    def run(data, checkpoint, *arguments):
        usual = (*TASK, "--path", checkpoint, "--batch-size", "8", "--cpu", "--num-workers", "0")
        logging = ("--log-format", "json", "--log-interval", "1")
        return run_fairseq(fairseq_cli.validate, data, *usual, *logging, *EVERY_EXAMPLE, *arguments)

    return run


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


@pytest.fixture
def train_on_two(forked, tmp_path):
    """Train on two processes; the numbers of each update, as the first of them logs them."""

    def run(*arguments):
        distributed = (
            *("--distributed-world-size", "2", "--distributed-no-spawn"),
            *("--distributed-init-method", f"tcp://localhost:{free_port()}"),
            *("--distributed-backend", "gloo", "--ddp-backend", "legacy_ddp"),
        )
        command = ["python", unrounded.__file__, *map(str, (*arguments, *distributed))]
        logs = [tmp_path / f"updates_of_{rank}.json" for rank in (0, 1)]
        processes = []
        for rank, log in enumerate(logs):
            words = [*command[:2], str(log), *command[2:], "--distributed-rank", str(rank)]
            processes.append(subprocess.Popen(words, env=forked, stderr=subprocess.PIPE, text=True))
        errors = [process.communicate(timeout=200)[1] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], errors
        return json.loads(logs[0].read_text())

    return run


@pytest.fixture(scope="session")
def pretrained_once(corpus, tmp_path_factory):
    """The folder of a run of two updates, its checkpoint beside its dictionary and tokenizer."""
    folder = tmp_path_factory.mktemp("pretrained") / "pretrained"
    with pytest.MonkeyPatch.context() as patch:
        arguments = (*TASK, *TINY, *RECIPE, "--save-dir", folder, "--max-update", "2")
        run_main(patch, fairseq_cli.train, corpus.data, *arguments)
    forget_earlier_runs()
    return folder


@pytest.fixture
def pretrained(pretrained_once, tmp_path):
    """That run, in a folder that the test may change."""
    return Run(shutil.copytree(pretrained_once, tmp_path / "pretrained"), {})
