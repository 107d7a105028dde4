"""What a language model must beat: the cross-entropy of token frequencies.

python unigram_cross_entropy.py DATA prints, in nats a token, how well the frequencies of the
tokens in DATA/train predict those in DATA/valid (DATA: a folder made by fairseq-preprocess).
"""

import sys
from pathlib import Path

import torch

from convbert_plugin.data.binarized import open_lines
from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.errors import mistakes_end_the_program
from convbert_plugin.metrics.language_model import unigram_cross_entropy


def token_counts(data: Path, split: str, vocabulary: Vocabulary) -> torch.Tensor:
    """How often each token [V] occurs in the text; separators are no text."""
    lines = open_lines(data / split, vocabulary)
    counts = torch.zeros(len(vocabulary), dtype=torch.long)
    for index in range(len(lines)):
        counts += torch.bincount(lines[index].long(), minlength=len(vocabulary))
    counts[list(vocabulary.special_ids())] = 0
    return counts


def of_data(data: Path) -> float:
    """Cross-entropy of the held-out tokens under the training frequencies, in nats."""
    vocabulary = Vocabulary.load(data / "dict.txt")
    train, valid = (token_counts(data, split, vocabulary) for split in ("train", "valid"))
    return unigram_cross_entropy(train, valid)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python unigram_cross_entropy.py DATA")
    with mistakes_end_the_program():
        print(f"{of_data(Path(sys.argv[1])):.4f}")
