"""Tiny binarized corpora, and the task as fairseq-train sets it up for them."""

import copy
import functools

import numpy as np
import pytest
import torch
from fairseq import options, tasks
from fairseq.data import indexed_dataset
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

import convbert_plugin  # noqa: F401  (registers the names)
from convbert_plugin.data.vocabulary import Vocabulary

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SEP = SPECIALS.index("[SEP]")
WORDS = 200


def _write_vocabulary(folder, words=WORDS):
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "vocab.txt"
    pieces = [*SPECIALS, *(f"w{number}" for number in range(words - len(SPECIALS)))]
    source.write_text("\n".join(pieces) + "\n")
    Vocabulary.load(source).save(folder / "dict.txt")


def _write_lines(path, lines, end=SEP, kind="mmap"):
    builder = indexed_dataset.make_builder(f"{path}.bin", impl=kind, vocab_size=WORDS)
    for line in lines:
        builder.add_item(torch.tensor([*line, end]))
    builder.finalize(f"{path}.idx")


def _random_lines(seed, count=400, words=(5, WORDS)):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 30, size=count)
    lengths[rng.random(count) < 0.05] = 0
    return [rng.integers(*words, size=length).tolist() for length in [*lengths, 20]]


@functools.cache
def _built_config(data, *arguments):
    arguments = [
        data,
        *("--task", "replaced_token_detection", "--criterion", "replaced_token_detection"),
        *("--arch", "convbert_small", "--optimizer", "convbert_adamw", "--cpu", "--lr", "1e-4"),
        *("--tokens-per-sample", "32"),
        *arguments,
    ]
    parser = options.get_training_parser()
    return convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, arguments))


def _config_of(data, *arguments):
    return copy.deepcopy(_built_config(str(data), *arguments))


@pytest.fixture(scope="session")
def write_vocabulary():
    """Writes dict.txt, and vocab.txt beside it, into a folder."""
    return _write_vocabulary


@pytest.fixture(scope="session")
def write_lines():
    """Binarizes lines of ids as fairseq-preprocess does, an end-of-sequence token after each."""
    return _write_lines


@pytest.fixture(scope="session")
def random_lines():
    """Makes lines of 0 to 29 ids."""
    return _random_lines


@pytest.fixture(scope="session")
def config_of(tmp_path_factory):
    """Makes the whole configuration of fairseq-train from data and further arguments."""
    folder = str(tmp_path_factory.mktemp("checkpoints"))

    def make(data, *arguments):
        words = () if "--save-dir" in arguments else ("--save-dir", folder)
        return _config_of(data, *words, *arguments)

    return make


@pytest.fixture(scope="session")
def setup_task(config_of):
    """Sets the task up as fairseq-train does."""
    return lambda data, *arguments: tasks.setup_task(config_of(data, *arguments).task)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A folder with train and valid, to read only."""
    folder = tmp_path_factory.mktemp("corpus")
    _write_vocabulary(folder)
    _write_lines(folder / "train", _random_lines(1))
    _write_lines(folder / "valid", _random_lines(2, count=60))
    return folder


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """Two folders of the same vocabulary: words 10 to 99 in the one, 100 to 199 in the other."""
    folders = [tmp_path_factory.mktemp(name) for name in ("first", "second")]
    for number, folder in enumerate(folders):
        _write_vocabulary(folder)
        words = (10, 100) if number == 0 else (100, WORDS)
        _write_lines(folder / "train", _random_lines(number, count=100 + 50 * number, words=words))
        _write_lines(folder / "valid", _random_lines(9, count=20, words=words))
    return folders
