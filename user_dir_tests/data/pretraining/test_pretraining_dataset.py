"""Examples and batches, against the released builder's behaviour in plain Python."""

import itertools

import numpy as np
import pytest
import torch
from fairseq.data import data_utils

from convbert_plugin.data.pretraining.pretraining_dataset import (
    PretrainingDataset,
    PretrainingOptions,
)
from convbert_plugin.data.vocabulary import Vocabulary

pytestmark = pytest.mark.pretraining

# An order of its own: a special token that is taken to have BERT's or fairseq's id shows.
SPECIALS = ["[UNK]", "[SEP]", "[PAD]", "[MASK]", "[CLS]"]
UNK, SEP, PAD, MASK, CLS = range(5)
WORDS = 300


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    words = [f"w{number}" for number in range(WORDS - len(SPECIALS))]
    path.write_text("\n".join([*SPECIALS, *words]) + "\n")
    return Vocabulary.load(path)


def binarize(lines):
    return [torch.tensor([*line, SEP]) for line in lines]


def make(vocabulary, lines, **changes):
    options = {
        "max_length": 32,
        "mask_prob": 0.15,
        "objective": "replaced_token_detection",
        "mask_with_replacement": False,
        "full_blocks": False,
        "pad_to_max_length": False,
        "seed": 1,
    }
    lines = binarize(lines)
    sizes = np.array([len(line) for line in lines], dtype=np.int32)
    options = PretrainingOptions(**{**options, **changes})
    return PretrainingDataset(lines, sizes, vocabulary, options)


def lines_of(seed, lengths):
    rng = np.random.default_rng(seed)
    return [rng.integers(len(SPECIALS), WORDS, size=length).tolist() for length in lengths]


def random_lines(seed, most_lines=200):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, rng.integers(2, 90), size=rng.integers(1, most_lines))
    lengths[rng.random(len(lengths)) < rng.choice([0, 0.03, 0.3])] = 0
    return lines_of(seed, [*lengths.tolist(), 1])


def restored(example):
    """The tokens before they were masked."""
    tokens = example["tokens"].clone()
    tokens[example["positions"]] = example["targets"]
    return tokens.tolist()


def same(example, other):
    return example.keys() == other.keys() and all(
        torch.equal(torch.as_tensor(value), torch.as_tensor(other[key]))
        for key, value in example.items()
    )


class BuilderByHand:
    """Adds line after line, and builds an example when there is enough or a document ends."""

    def __init__(self, max_length, targets, draws_of):
        self.max_length = max_length
        self.targets = targets
        self.draws_of = draws_of
        self.target = next(targets)
        self.lines, self.count = [], 0
        self.examples = []

    def add(self, line):
        if line:
            self.lines.append(line)
            self.count += len(line)
        if self.count and (not line or self.count >= self.target):
            self.build()

    def build(self):
        draw = self.draws_of(len(self.examples))
        wanted = 100_000 if draw() < 0.1 else (self.target - 3) // 2
        first, second = [], []
        for line in self.lines:
            if not first or len(first) + len(line) < wanted:
                first.extend(line)
            elif second or len(first) >= wanted or draw() >= 0.5:
                second.extend(line)
            else:
                first.extend(line)
        first = first[: self.max_length - 2]
        second = second[: max(0, self.max_length - len(first) - 3)]
        tokens = [CLS, *first, SEP] + ([*second, SEP] if second else [])
        segments = [0] * (len(first) + 2) + ([1] * (len(second) + 1) if second else [])
        self.examples.append((tokens, segments))
        self.lines, self.count = [], 0
        self.target = next(self.targets)


def examples_by_hand(lines, dataset):
    """As the dataset should have them, given the same random numbers."""
    options = dataset.options
    builder = BuilderByHand(
        options.max_length,
        itertools.chain(dataset.blocks.target.tolist(), itertools.repeat(options.max_length)),
        lambda index: np.random.default_rng((options.seed, dataset.epoch, index)).random,
    )
    for line in [*lines, []]:
        builder.add(line)
    return builder.examples


ODD_LENGTHS = {
    "one token": [1],
    "one line longer than any example": [500],
    "lines of one token": [1] * 90,
    "blank lines at both ends": [0, 0, 5, 40, 3, 0, 0],
    "empty documents": [9, 0, 0, 0, 60, 1, 0, 0, 0, 2],
    "no final blank line": [4, 0, 50, 9],
    "one document of every length": list(range(1, 70)),
}


def check_against_hand(vocabulary, lines, max_length, epoch):
    dataset = make(vocabulary, lines, max_length=max_length)
    dataset.set_epoch(epoch)
    examples = [dataset[index] for index in range(len(dataset))]
    found = [(restored(example), example["segments"].tolist()) for example in examples]
    assert found == examples_by_hand(lines, dataset)
    lengths = np.array([len(tokens) for tokens, _ in found])
    assert lengths.max() <= max_length
    assert ((dataset.sizes == lengths) | (dataset.sizes == lengths + 1)).all()
    assert dataset.sizes.max() <= max_length


@pytest.mark.parametrize("name", ODD_LENGTHS)
@pytest.mark.parametrize("max_length", [8, 31, 128, 512])
def test_odd_corpora_against_the_builder_by_hand(vocabulary, name, max_length):
    lines = lines_of(7, ODD_LENGTHS[name])
    for epoch in range(1, 6):
        check_against_hand(vocabulary, lines, max_length, epoch)


def test_random_corpora_against_the_builder_by_hand(vocabulary):
    for seed in range(60):
        check_against_hand(vocabulary, random_lines(seed), 8 + seed * 2, epoch=1 + seed % 3)


def test_full_blocks_hold_every_token_once(vocabulary):
    for seed in range(20):
        lines = random_lines(seed)
        dataset = make(vocabulary, lines, full_blocks=True, max_length=8 + seed)
        examples = [dataset[index] for index in range(len(dataset))]
        tokens = [restored(example) for example in examples]
        assert all(text[0] == CLS and text[-1] == SEP for text in tokens)
        inner = [token for text in tokens for token in text[1:-1]]
        assert inner == [token for line in lines for token in line]
        assert not any(example["segments"].any() for example in examples)
        assert dataset.sizes.tolist() == [len(text) for text in tokens]


@pytest.mark.parametrize("full_blocks", [False, True])
def test_no_example_crosses_documents(vocabulary, full_blocks):
    documents = [[[10 + document] * 7] * (document % 9) + [[]] for document in range(200)]
    dataset = make(vocabulary, itertools.chain(*documents), full_blocks=full_blocks)
    assert len(dataset) > 200
    for index in range(len(dataset)):
        assert len(set(restored(dataset[index])) - {CLS, SEP}) == 1


def test_masks_of_examples(vocabulary):
    dataset = make(vocabulary, random_lines(2, most_lines=2000), max_length=64)
    for index in range(len(dataset)):
        example = dataset[index]
        tokens, positions = restored(example), example["positions"].tolist()
        candidates = [place for place, token in enumerate(tokens) if token not in (CLS, SEP)]
        # int(0.155 x 64) = 9
        count = min(max(1, min(9, round(0.15 * len(tokens)))), len(candidates))
        assert len(positions) == len(set(positions)) == count
        assert set(positions) <= set(candidates)
        written = example["tokens"][example["positions"]]
        assert ((written == MASK) | (written == example["targets"])).all()
        uniforms = example["uniforms"]
        # Drawn in float32, so that none rounds to 1 there; kept where --fp16 does not halve them.
        assert uniforms.dtype == torch.float64
        assert uniforms.equal(uniforms.float().double())
        assert len(uniforms) == count
        assert (uniforms >= 0).all()
        assert (uniforms < 1).all()


def test_uniforms_are_uniform_and_independent_of_the_masks(vocabulary):
    dataset = make(vocabulary, lines_of(1, [40] * 6000))
    examples = [dataset[index] for index in range(2500)]
    uniforms = torch.cat([example["uniforms"] for example in examples])
    masked = torch.cat([example["tokens"][example["positions"]] == MASK for example in examples])
    assert len(uniforms) == 2500 * 4
    bound = 5 / (12 * len(uniforms)) ** 0.5
    assert uniforms.mean().item() == pytest.approx(0.5, abs=bound)
    assert (uniforms**2).mean().item() == pytest.approx(1 / 3, abs=bound)
    kept = uniforms[~masked]
    assert kept.mean().item() == pytest.approx(0.5, abs=5 / (12 * len(kept)) ** 0.5)


@pytest.mark.parametrize("objective", ["replaced_token_detection", "masked_lm"])
def test_special_tokens_in_the_text_are_neither_masked_nor_drawn(vocabulary, objective):
    special = [[CLS, UNK, MASK, PAD, SEP, UNK, UNK]] * 400
    dataset = make(vocabulary, special, objective=objective, mask_prob=0.9)
    targets, written = [], []
    for index in range(len(dataset)):
        example = dataset[index]
        targets += example["targets"].tolist()
        written += example["tokens"][example["positions"]].tolist()
    assert len(targets) > 500
    assert set(targets) == {UNK}
    assert {MASK, UNK} <= set(written)
    assert set(written).isdisjoint({CLS, SEP, PAD})
    assert (len(set(written)) > 2) == (objective == "masked_lm")


def test_text_of_special_tokens_alone_gives_no_masks(vocabulary):
    dataset = make(vocabulary, [[SEP, PAD]])
    batch = dataset.collater([dataset[0]])
    assert batch["target"].tolist() == []
    assert batch["net_input"]["src_tokens"].tolist() == [[CLS, SEP, PAD, SEP]]


def test_with_replacement_positions_repeat(vocabulary):
    dataset = make(vocabulary, lines_of(1, [40] * 200), mask_with_replacement=True)
    positions = [dataset[index]["positions"].tolist() for index in range(len(dataset))]
    assert any(len(set(places)) < len(places) for places in positions)
    # int(0.155 x 32) = 4 of round(0.15 x 32) = 5
    assert {len(places) for places in positions} == {4}


def test_examples_are_a_function_of_seed_epoch_and_index(vocabulary):
    lines = lines_of(1, [25] * 300)
    dataset, again = make(vocabulary, lines), make(vocabulary, lines)
    forward = [dataset[index] for index in range(len(dataset))]
    backward = {index: again[index] for index in reversed(range(len(again)))}
    assert all(same(example, backward[index]) for index, example in enumerate(forward))

    again.set_epoch(2)
    other_seed = make(vocabulary, lines, seed=2)
    for other in (again, other_seed):
        count = min(len(forward), len(other))
        alike = [
            forward[index]["positions"].tolist() == other[index]["positions"].tolist()
            for index in range(count)
        ]
        assert np.mean(alike) < 0.02
    again.set_epoch(1)
    assert same(again[3], forward[3])


def test_neighbours_in_seed_epoch_and_index_have_nothing_in_common(vocabulary):
    """Mixing (seed, epoch, index) by a sum would give the first of these the same numbers."""
    lines = lines_of(1, [80] * 20)
    uniforms = []
    for seed, epoch, index in itertools.product(range(1, 4), range(1, 4), range(1, 4)):
        dataset = make(vocabulary, lines, seed=seed)
        dataset.set_epoch(epoch)
        uniforms.append(tuple(dataset[index]["uniforms"].tolist()))
    assert len(set(uniforms)) == 27


def example_of(index, tokens, segments, masks):
    """masks: position, target and uniform of each."""
    positions, targets, uniforms = zip(*masks, strict=True) if masks else ((), (), ())
    return {
        "id": index,
        "tokens": torch.tensor(tokens),
        "segments": torch.tensor(segments),
        "positions": torch.tensor(positions, dtype=torch.int64),
        "targets": torch.tensor(targets, dtype=torch.int64),
        "uniforms": torch.tensor(uniforms, dtype=torch.float64),
    }


EXAMPLES = [
    example_of(7, [CLS, 8, MASK, SEP, 9, SEP], [0, 0, 0, 0, 1, 1], [(2, 50, 0.25), (1, 8, 0.5)]),
    example_of(3, [CLS, 6, SEP], [0, 0, 0], []),
    example_of(5, [CLS, MASK, 7, SEP], [0, 0, 0, 0], [(1, 60, 0.75)]),
]


@pytest.mark.parametrize(("pad_to_max_length", "width"), [(False, 6), (True, 9)])
def test_collated_by_hand(vocabulary, pad_to_max_length, width):
    dataset = make(vocabulary, [[9]], pad_to_max_length=pad_to_max_length, max_length=9)
    batch = dataset.collater(EXAMPLES)
    beyond = width - 6
    assert batch["id"].tolist() == [7, 3, 5]
    assert batch["nsentences"] == 3
    assert batch["ntokens"] == 6 + 3 + 4
    assert type(batch["ntokens"]) is int
    inputs = batch["net_input"]
    assert inputs["src_tokens"].tolist() == [
        [CLS, 8, MASK, SEP, 9, SEP] + [PAD] * beyond,
        [CLS, 6, SEP] + [PAD] * (3 + beyond),
        [CLS, MASK, 7, SEP] + [PAD] * (2 + beyond),
    ]
    assert inputs["segments"].tolist() == [[0] * 4 + [1] * 2 + [0] * beyond, *[[0] * width] * 2]
    assert inputs["masked_positions"].tolist() == [2, 1, 2 * width + 1]
    assert inputs["masked_targets"].tolist() == batch["target"].tolist() == [50, 8, 60]
    assert inputs["uniforms"].tolist() == [0.25, 0.5, 0.75]
    assert inputs["has_pads"] is True
    assert inputs["output"] == "pretraining"
    assert sorted(inputs) == [
        *("has_pads", "masked_positions", "masked_targets", "output"),
        *("segments", "src_tokens", "uniforms"),
    ]


def test_no_examples_make_no_batch(vocabulary):
    assert make(vocabulary, [[9]]).collater([]) == {}


def test_collated_masks_point_at_what_was_masked(vocabulary):
    dataset = make(vocabulary, random_lines(3))
    examples = [dataset[index] for index in range(len(dataset))]
    batch = dataset.collater(examples)
    inputs = batch["net_input"]
    tokens = inputs["src_tokens"].clone()
    tokens.view(-1)[inputs["masked_positions"]] = batch["target"]
    for row, example in zip(tokens.tolist(), examples, strict=True):
        length = len(example["tokens"])
        assert row[:length] == restored(example)
        assert row[length:] == [PAD] * (tokens.size(1) - length)
    assert batch["ntokens"] == inputs["src_tokens"].ne(PAD).sum()


@pytest.mark.parametrize("full_blocks", [False, True])
def test_size_num_tokens_and_sizes_agree(vocabulary, full_blocks):
    dataset = make(vocabulary, random_lines(4), full_blocks=full_blocks)
    indices = np.arange(len(dataset))
    expected = dataset.sizes.tolist()
    assert dataset.num_tokens_vec(indices).tolist() == expected
    assert [dataset.num_tokens(index) for index in indices] == expected
    assert [dataset.size(index) for index in indices] == expected
    assert dataset.num_tokens_vec(indices[::-3]).tolist() == expected[::-3]


def test_examples_are_ordered_by_length_and_shuffled_within_one(vocabulary):
    dataset = make(vocabulary, random_lines(5, most_lines=2000))
    with data_utils.numpy_seed(1):
        order = dataset.ordered_indices()
    with data_utils.numpy_seed(2):
        other = dataset.ordered_indices()
    assert sorted(order.tolist()) == list(range(len(dataset)))
    assert (np.diff(dataset.sizes[order]) >= 0).all()
    assert (np.diff(dataset.sizes[other]) >= 0).all()
    assert order.tolist() != other.tolist()
    full = order[dataset.sizes[order] == 32]
    assert len(full) > 20
    assert (np.diff(full) < 0).any()


@pytest.mark.parametrize("max_tokens", [32, 100, 1000])
def test_batches_respect_max_tokens(vocabulary, max_tokens):
    dataset = make(vocabulary, random_lines(6, most_lines=1000))
    batches = dataset.batch_by_size(dataset.ordered_indices(), max_tokens=max_tokens)
    assert sorted(itertools.chain(*batches)) == list(range(len(dataset)))
    for indices in batches:
        batch = dataset.collater([dataset[index] for index in indices])
        assert batch["net_input"]["src_tokens"].numel() <= max_tokens


@pytest.mark.parametrize("examples", [3, 8, 13])
def test_no_example_is_left_out_of_the_batches(vocabulary, examples):
    """fairseq alone leaves out what is over after the last multiple, and all of a small split."""
    dataset = make(vocabulary, random_lines(6, most_lines=1000))
    indices = dataset.ordered_indices()[:examples]
    batches = dataset.batch_by_size(indices, max_sentences=16, required_batch_size_multiple=8)
    assert sorted(itertools.chain(*batches)) == sorted(indices)
    assert max(map(len, batches)) <= 16
