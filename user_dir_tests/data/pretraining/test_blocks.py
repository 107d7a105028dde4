"""The index of blocks, against plain loops over lines and documents."""

import itertools
import time
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from convbert_plugin.data.pretraining import blocks as blocks_module
from convbert_plugin.data.pretraining.blocks import full_blocks, whole_line_blocks

pytestmark = pytest.mark.pretraining

CORPORA = {
    "one token": [1],
    "one huge line": [5000],
    "blank lines only": [0, 0, 0],
    "many blank lines": [0] * 300 + [3] + [0] * 300,
    "leading and trailing blank lines": [0, 0, 3, 9, 0, 40, 0, 0],
    "empty documents": [7, 0, 0, 0, 7, 8, 0, 0, 9],
    "no final blank line": [5, 0, 4, 3],
    "lines of one token": [1] * 500,
    "lines longer than any block": [0, 300, 2, 700, 1, 0, 600],
    "lines that end where the block does": [30, 30, 30, 0, 15, 15, 30, 0, 30, 28, 28, 28],
    "one huge document": [*itertools.chain(*([k, 3 * k % 47 + 1] for k in range(1, 400)))],
}


def sizes_of(tokens):
    """Sizes of binarized lines: each has a separator."""
    return np.array(tokens, dtype=np.int32) + 1


def random_corpus(seed):
    rng = np.random.default_rng(seed)
    longest = int(rng.integers(1, 120))
    tokens = rng.integers(1, longest, size=int(rng.integers(1, 400)), endpoint=True)
    tokens[rng.random(len(tokens)) < rng.choice([0.0, 0.02, 0.3])] = 0
    return tokens.tolist()


def documents_of(tokens):
    """First line and past-the-last line of each document that has a line."""
    documents, begin = [], 0
    for line, count in enumerate([*tokens, 0]):
        if count == 0:
            if line > begin:
                documents.append((begin, line))
            begin = line + 1
    return documents


def whole_lines_by_hand(tokens, targets):
    """First line, tokens and target of each block, one line after the other."""
    targets = iter(targets)
    found = []
    for begin, end in documents_of(tokens):
        first, taken, target = begin, 0, None
        for line in range(begin, end):
            target = target if target is not None else next(targets)
            taken += tokens[line]
            if taken >= target or line == end - 1:
                found.append((first, taken, target))
                first, taken, target = line + 1, 0, None
    return found


def full_blocks_by_hand(tokens, max_length):
    """Each block's tokens as (line, place in the line)."""
    found = []
    for begin, end in documents_of(tokens):
        places = [(line, at) for line in range(begin, end) for at in range(tokens[line])]
        width = max_length - 2
        found += [places[start : start + width] for start in range(0, len(places), width)]
    return found


def places_of(index, tokens):
    """What each block of an index takes, as (line, place in the line)."""
    found = []
    for line, skipped, count in zip(index.first_line, index.skipped, index.tokens, strict=True):
        places = ((row, at) for row in range(line, len(tokens)) for at in range(tokens[row]))
        found.append(list(itertools.islice(places, skipped, skipped + count)))
    return found


@pytest.fixture(params=[1, blocks_module.LINES_AT_A_TIME], ids=["small pieces", "one piece"])
def pieces(request, monkeypatch):
    monkeypatch.setattr(blocks_module, "LINES_AT_A_TIME", request.param)


def check_whole_lines(tokens, max_length):
    index = whole_line_blocks(sizes_of(tokens), max_length, seed=3)
    found = zip(index.first_line.tolist(), index.tokens.tolist(), index.target.tolist())  # noqa: B905
    assert list(found) == whole_lines_by_hand(tokens, index.target.tolist())
    assert not index.skipped.any()


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("name", CORPORA)
@pytest.mark.parametrize("max_length", [8, 30, 128])
def test_whole_lines_of_odd_corpora(name, max_length):
    check_whole_lines(CORPORA[name], max_length)


@pytest.mark.usefixtures("pieces")
def test_whole_lines_of_random_corpora():
    for seed in range(200):
        check_whole_lines(random_corpus(seed), max_length=5 + seed % 60)


def test_whole_lines_worked_by_hand(monkeypatch):
    drawn = itertools.chain([10, 10, 6], itertools.repeat(10))
    monkeypatch.setattr(blocks_module, "_targets", lambda max_length, rng: drawn)
    # Blocks:  4 + 5 + 6 | 12 | 6 || 3 + 3 (the document ends) || 10 | 1
    index = whole_line_blocks(sizes_of([0, 4, 5, 6, 12, 6, 0, 0, 3, 3, 0, 10, 1]), 10, seed=1)
    assert index.first_line.tolist() == [1, 4, 5, 8, 11, 12]
    assert index.tokens.tolist() == [15, 12, 6, 6, 10, 1]
    assert index.target.tolist() == [10, 10, 6, 10, 10, 10]


@pytest.mark.parametrize("max_length", [8, 128])
def test_one_target_of_twenty_is_drawn_from_5_to_the_maximum(max_length):
    targets = whole_line_blocks(sizes_of([600] * 200_000), max_length, seed=1).target
    assert len(targets) == 200_000
    assert targets.min() == 5
    assert targets.max() == max_length
    below = np.bincount(targets, minlength=max_length + 1)[5:max_length]
    share = 0.05 * len(below) / (len(below) + 1)
    assert stats.binomtest(int(below.sum()), len(targets), share).pvalue > 1e-4
    assert stats.chisquare(below).pvalue > 1e-4


def test_targets_depend_on_the_seed_alone():
    sizes = sizes_of([50] * 5000)
    first, again, other = (whole_line_blocks(sizes, 128, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    assert not np.array_equal(first.target[:1000], other.target[:1000])


def check_full_blocks(tokens, max_length):
    index = full_blocks(sizes_of(tokens), max_length)
    assert places_of(index, tokens) == full_blocks_by_hand(tokens, max_length)
    assert (index.target == max_length).all()


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("name", CORPORA)
@pytest.mark.parametrize("max_length", [8, 30, 128])
def test_full_blocks_of_odd_corpora(name, max_length):
    check_full_blocks(CORPORA[name], max_length)


@pytest.mark.usefixtures("pieces")
def test_full_blocks_of_random_corpora():
    for seed in range(60):
        check_full_blocks(random_corpus(seed), max_length=8 + seed % 60)


@pytest.mark.usefixtures("pieces")
def test_full_blocks_lose_no_token_and_cross_no_document():
    for seed in range(20):
        tokens = random_corpus(seed)
        taken = places_of(full_blocks(sizes_of(tokens), 20), tokens)
        assert list(itertools.chain(*taken)) == [
            (line, at) for line, count in enumerate(tokens) for at in range(count)
        ]
        of_documents = [
            [block for block in taken if begin <= block[0][0] < end]
            for begin, end in documents_of(tokens)
        ]
        for (begin, end), of_document in zip(documents_of(tokens), of_documents, strict=True):
            assert all(begin <= line < end for block in of_document for line, _ in block)
            assert all(len(block) == 18 for block in of_document[:-1])


def test_no_lines_make_no_blocks():
    assert len(whole_line_blocks(sizes_of([]), 128, seed=1)) == 0
    assert len(full_blocks(sizes_of([]), 128)) == 0


TEN_MILLION = 10_000_000
BUILDERS = {
    "whole lines": lambda sizes: whole_line_blocks(sizes, 128, seed=1),
    "full blocks": lambda sizes: full_blocks(sizes, 128),
}


@pytest.mark.speed
@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
@pytest.mark.parametrize("line_length", [1, 15, 97])
def test_ten_million_tokens_take_less_than_five_seconds(build, line_length):
    sizes = sizes_of([line_length]).repeat(TEN_MILLION // line_length)
    sizes[::1000] = 1
    begin = time.process_time()
    build(sizes)
    assert time.process_time() - begin < 5


@pytest.mark.speed
@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_memory_is_the_index_and_not_the_corpus(build):
    sizes = sizes_of([1]).repeat(3_000_000)
    sizes[::1000] = 1
    tracemalloc.start()
    try:
        index = build(sizes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    held = sum(column.nbytes for column in index)
    assert held == 20 * len(index)
    # Pieces of 65,536 lines, and one copy of the index; the sizes are 12 MB.
    assert peak < 3 * held + 5_000_000
