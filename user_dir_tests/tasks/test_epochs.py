"""Epochs as fairseq's trainer runs them: workers, resuming, validation, shards."""

import itertools
import os

import pytest
import torch

pytestmark = pytest.mark.pretraining

PAD, CLS, SEP, MASK = 0, 2, 3, 4


def train_iterator(task, epoch, num_workers=0):
    """As Trainer.get_train_iterator and fairseq_cli/train.py ask for it at an epoch's start."""
    sharded = task.has_sharded_data("train")
    if sharded or "train" not in task.datasets:
        task.load_dataset("train", epoch=epoch, combine=True, data_selector=None, tpu=False)
    return task.get_batch_iterator(
        dataset=task.dataset("train"),
        max_sentences=8,
        max_positions=task.max_positions(),
        ignore_invalid_inputs=True,
        required_batch_size_multiple=1,
        seed=1,
        num_workers=num_workers,
        epoch=epoch,
        data_buffer_size=10,
        disable_iterator_cache=sharded,
    )


def epochs_of(task, iterator, last, num_workers=0, stop_after=None):
    """Batches of each epoch to the last one; and, where it stops within that, the state."""
    epochs = []
    while True:
        batches = iterator.next_epoch_itr(shuffle=True)
        if iterator.epoch == last and stop_after is not None:
            epochs.append(list(itertools.islice(batches, stop_after)))
            return epochs, iterator.state_dict()
        epochs.append(list(batches))
        if iterator.epoch == last:
            return epochs, iterator.state_dict()
        iterator = train_iterator(task, iterator.next_epoch_idx, num_workers)


def validate(task):
    """As fairseq_cli/train.py validates."""
    if "valid" not in task.datasets:
        task.load_dataset("valid", combine=False, epoch=1)
    iterator = task.get_batch_iterator(
        dataset=task.dataset("valid"), max_sentences=8, seed=1, epoch=1, data_buffer_size=10
    )
    return list(iterator.next_epoch_itr(shuffle=False, set_dataset_epoch=False))


def assert_same(found, expected):
    """Nested lists and dicts of tensors, equal to the bit."""
    assert type(found) is type(expected)
    if torch.is_tensor(found):
        assert found.dtype == expected.dtype
        assert found.equal(expected)
    elif isinstance(found, (list, dict)):
        assert len(found) == len(expected)
        for key in found if isinstance(found, dict) else range(len(found)):
            assert_same(found[key], expected[key])
    else:
        assert found == expected


def masked_positions(batches):
    """Positions within the example, by its id."""
    found = {}
    for batch in batches:
        width = batch["net_input"]["src_tokens"].size(1)
        ids = batch["id"].tolist()
        found.update({index: [] for index in ids})
        for position in batch["net_input"]["masked_positions"].tolist():
            found[ids[position // width]].append(position % width)
    return found


# torch's advice where a machine has fewer cores.
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_masks_change_with_the_epoch_whatever_the_workers(setup_task, corpus, num_workers):
    """Persistent workers would keep the masks of the first epoch."""
    task = setup_task(corpus)
    epochs, _ = epochs_of(
        task, train_iterator(task, 1, num_workers), last=2, num_workers=num_workers
    )
    first, second = map(masked_positions, epochs)
    assert first.keys() == second.keys()
    assert len(first) == len(task.dataset("train")) > 150
    alike = sum(first[index] == second[index] for index in first)
    assert alike / len(first) < 0.05

    inline = setup_task(corpus)
    expected, _ = epochs_of(inline, train_iterator(inline, 1), last=2)
    assert_same(epochs, expected)


@pytest.mark.parametrize("name", ["reuse_dataloader", "persistent_workers"])
def test_the_built_config_keeps_no_workers(setup_task, config_of, corpus, name):
    """fairseq reads these off the task's config; where one is absent it takes True."""
    assert config_of(corpus).task[name] is False
    assert setup_task(corpus).cfg[name] is False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("epoch", "stop_after", "num_workers"), [(1, 3, 0), (2, 1, 0), (2, 4, 1), (3, 10, 0)]
)
def test_a_resumed_epoch_goes_on_as_it_would_have(
    setup_task, corpus, epoch, stop_after, num_workers
):
    task = setup_task(corpus)
    uninterrupted, _ = epochs_of(task, train_iterator(task, 1), last=epoch + 1)

    task = setup_task(corpus)
    _, state = epochs_of(task, train_iterator(task, 1), last=epoch, stop_after=stop_after)
    assert state["iterations_in_epoch"] == stop_after

    task = setup_task(corpus)
    iterator = train_iterator(task, state["epoch"], num_workers)
    iterator.load_state_dict(state)
    resumed, _ = epochs_of(task, iterator, last=epoch + 1, num_workers=num_workers)
    assert_same(resumed[0], uninterrupted[epoch - 1][stop_after:])
    assert_same(resumed[1], uninterrupted[epoch])


def test_a_run_resumed_between_epochs_goes_on_as_it_would_have(setup_task, corpus):
    task = setup_task(corpus)
    _, state = epochs_of(task, train_iterator(task, 1), last=2)
    expected, _ = epochs_of(task, train_iterator(task, 3), last=3)

    task = setup_task(corpus)
    iterator = train_iterator(task, state["epoch"])
    iterator.load_state_dict(state)
    resumed, _ = epochs_of(task, iterator, last=3)
    assert state["epoch"] == 3
    assert_same(resumed, expected)


def test_batches_are_put_together_anew_in_every_epoch(setup_task, corpus):
    task = setup_task(corpus)
    epochs, _ = epochs_of(task, train_iterator(task, 1), last=2)
    first, second = ({frozenset(batch["id"].tolist()) for batch in batches} for batches in epochs)
    assert len(first & second) < len(first) / 2


def test_every_validation_is_the_same(setup_task, corpus):
    task = setup_task(corpus)
    before = validate(task)
    first = train_iterator(task, 1)
    list(first.next_epoch_itr())
    after_one_epoch = validate(task)
    epochs_of(task, train_iterator(task, 2), last=2)
    assert_same(after_one_epoch, before)
    assert_same(validate(task), before)
    assert_same(validate(setup_task(corpus)), before)


def test_two_processes_share_the_batches_of_one(setup_task, corpus):
    task = setup_task(corpus)
    task.load_dataset("train")

    def ids(num_shards, shard):
        iterator = task.get_batch_iterator(
            task.dataset("train"),
            max_sentences=8,
            seed=1,
            num_shards=num_shards,
            shard_id=shard,
            disable_iterator_cache=True,
        )
        return [batch["id"].tolist() for batch in iterator.next_epoch_itr() if batch]

    whole, even, odd = ids(1, 0), ids(2, 0), ids(2, 1)
    assert even == whole[::2]
    assert odd == whole[1::2]


def text_of(batches):
    tokens = set()
    for batch in batches:
        tokens.update(batch["net_input"]["src_tokens"].unique().tolist())
        tokens.update(batch["target"].tolist())
    return tokens - {PAD, CLS, SEP, MASK}


def test_each_epoch_reads_its_shard(setup_task, shards):
    task = setup_task(os.pathsep.join(map(str, shards)))
    assert task.has_sharded_data("train")
    epochs, _ = epochs_of(task, train_iterator(task, 1), last=4)
    for number, batches in enumerate(epochs):
        of_second = number % 2 == 1
        assert {token >= 100 for token in text_of(batches)} == {of_second}
    assert len(epochs[0]) < len(epochs[1]) == len(epochs[3])
    assert masked_positions(epochs[0]) != masked_positions(epochs[2])


def test_a_resumed_shard_goes_on_as_it_would_have(setup_task, shards):
    data = os.pathsep.join(map(str, shards))
    task = setup_task(data)
    uninterrupted, _ = epochs_of(task, train_iterator(task, 1), last=4)
    task = setup_task(data)
    _, state = epochs_of(task, train_iterator(task, 1), last=4, stop_after=2)
    task = setup_task(data)
    iterator = train_iterator(task, state["epoch"])
    iterator.load_state_dict(state)
    resumed, _ = epochs_of(task, iterator, last=4)
    assert_same(resumed[0], uninterrupted[3][2:])


def test_validation_reads_the_first_shard(setup_task, shards):
    task = setup_task(os.pathsep.join(map(str, shards)))
    assert max(text_of(validate(task))) < 100


def test_one_folder_is_not_sharded(setup_task, corpus):
    assert not setup_task(corpus).has_sharded_data("train")
