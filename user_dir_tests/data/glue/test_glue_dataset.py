import numpy as np
import pytest
import torch

from convbert_plugin.data.glue.glue_dataset import GlueDataset, GlueOptions
from convbert_plugin.data.glue.glue_files import PreparedRows
from user_dir_tests.data.toy_lines import lines
from user_dir_tests.models.building import PAD, SEPARATOR, START, vocabulary_of

pytestmark = pytest.mark.glue

VOCABULARY = vocabulary_of(60)


FIRST = lines([11, 12], [13], [14, 15, 16])
SECOND = lines([21], [22, 23], [])


def dataset_of(columns, targets, max_length=40, double_unordered=False, pad_to_max_length=False):
    rows = PreparedRows(list(columns), targets)
    options = GlueOptions(max_length, double_unordered, pad_to_max_length, "classification_heads.x")
    return GlueDataset(rows, VOCABULARY, options)


def test_a_batch_of_pairs():
    dataset = dataset_of((FIRST, SECOND), np.array([1, 0, 2]))
    batch = dataset.collater([dataset[1], dataset[2]])
    assert batch["net_input"]["src_tokens"].tolist() == [
        [START, 13, SEPARATOR, 22, 23, SEPARATOR],
        [START, 14, 15, 16, SEPARATOR, SEPARATOR],
    ]
    assert batch["net_input"]["segments"].tolist() == [[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1]]
    assert batch["net_input"]["has_pads"] is False
    assert batch["net_input"]["output"] == "classification_heads.x"
    assert batch["target"].tolist() == [0, 2]
    assert batch["target"].dtype == torch.int64
    assert (batch["id"].tolist(), batch["nsentences"], batch["ntokens"]) == ([1, 2], 2, 12)
    assert batch["rows"] == 3
    assert dataset.collater([]) == {}


def test_single_texts_are_padded_on_the_right():
    dataset = dataset_of((FIRST,), np.array([0.25, 0.1, 1.0]), max_length=4)
    batch = dataset.collater([dataset[0], dataset[1], dataset[2]])
    assert batch["net_input"]["src_tokens"].tolist() == [
        [START, 11, 12, SEPARATOR],
        [START, 13, SEPARATOR, PAD],
        [START, 14, 15, SEPARATOR],
    ]
    assert not batch["net_input"]["segments"].any()
    assert batch["net_input"]["has_pads"] is True
    assert batch["target"].dtype == torch.float64
    assert batch["target"].tolist() == [0.25, 0.1, 1.0]
    assert dataset.sizes.tolist() == [4, 3, 4]
    assert dataset.full_lengths.tolist() == [4, 3, 5]


def test_visible_pads_fill_every_batch_to_the_same_length():
    dataset = dataset_of((FIRST,), None, max_length=9, pad_to_max_length=True)
    batch = dataset.collater([dataset[1]])
    assert batch["net_input"]["src_tokens"].tolist() == [[START, 13, SEPARATOR, *[PAD] * 6]]
    assert batch["net_input"]["segments"].tolist() == [[0] * 9]
    assert batch["net_input"]["has_pads"] is True
    assert "target" not in batch


def test_every_pair_may_stand_there_in_both_orders():
    dataset = dataset_of((FIRST, SECOND), np.array([1, 0, 2]), double_unordered=True)
    assert len(dataset) == 6
    assert dataset.sizes.tolist() == [6, 6, 6] * 2
    examples = [dataset[index] for index in range(6)]
    assert [example["id"] for example in examples] == list(range(6))
    assert [int(example["target"]) for example in examples] == [1, 0, 2] * 2
    assert examples[0]["tokens"].tolist() == [START, 11, 12, SEPARATOR, 21, SEPARATOR]
    assert examples[3]["tokens"].tolist() == [START, 21, SEPARATOR, 11, 12, SEPARATOR]
    assert examples[3]["segments"].tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    "limits",
    [
        {"max_sentences": 4},
        {"max_sentences": 12, "required_batch_size_multiple": 8},
        {"max_tokens": 100, "required_batch_size_multiple": 8},
        {"max_tokens": 64, "max_sentences": 5},
    ],
)
def test_batches_leave_no_example_out(limits):
    rng = np.random.default_rng(5)
    texts = lines(*([20] * length for length in rng.integers(1, 30, size=101)))
    dataset = dataset_of((texts,), None)
    batches = dataset.batch_by_size(dataset.ordered_indices(), **limits)
    assert sorted(np.concatenate(batches).tolist()) == list(range(101))
    for batch in batches:
        longest = dataset.sizes[batch].max()
        assert len(batch) <= limits.get("max_sentences", 101)
        assert longest * len(batch) <= limits.get("max_tokens", np.inf)


def test_examples_of_like_length_come_together_and_in_random_order():
    texts = lines(*([20] * (length % 5 + 1) for length in range(50)))
    dataset = dataset_of((texts,), None)
    orders = []
    for seed in (1, 2, 1):
        np.random.seed(seed)
        orders.append(dataset.ordered_indices().tolist())
    assert orders[0] == orders[2] != orders[1]
    for order in orders:
        assert sorted(order) == list(range(50))
        assert (np.diff(dataset.sizes[order]) >= 0).all()
    assert not dataset.can_reuse_epoch_itr_across_epochs
