"""Data written without fairseq, against what fairseq writes."""

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary, indexed_dataset

from convbert_plugin.data.indexed_writing import dictionary_symbols, write_dictionary, write_lines

pytestmark = pytest.mark.glue


# From 65,500 symbols on, a number takes four bytes.
@pytest.mark.parametrize("symbols", [7, 65_499, 65_500, 70_000])
def test_lines_are_the_same_bytes(tmp_path, symbols):
    rng = np.random.default_rng(symbols)
    lines = [rng.integers(symbols, size=length).tolist() for length in (3, 1, 0, 40, 2)]
    write_lines(tmp_path / "ours", lines, symbols)
    theirs = indexed_dataset.make_builder(str(tmp_path / "theirs.bin"), "mmap", vocab_size=symbols)
    for line in lines:
        theirs.add_item(torch.IntTensor(line))
    theirs.finalize(str(tmp_path / "theirs.idx"))
    for suffix in (".bin", ".idx"):
        ours = (tmp_path / f"ours{suffix}").read_bytes()
        assert ours == (tmp_path / f"theirs{suffix}").read_bytes()


@pytest.mark.parametrize("words", [["no", "yes"], ["<unk>", "größer als", "0", "</s>"]])
def test_a_dictionary_is_the_same(tmp_path, words):
    theirs = Dictionary()
    counts = range(3, 3 + len(words))
    for word, count in zip(words, counts, strict=True):
        theirs.add_symbol(word, count)
    theirs.save(str(tmp_path / "theirs.txt"))
    write_dictionary(tmp_path / "ours.txt", words, counts)
    assert (tmp_path / "ours.txt").read_bytes() == (tmp_path / "theirs.txt").read_bytes()
    assert dictionary_symbols(words) == theirs.indices
