"""What fairseq leaves behind where a run goes on; that it then goes on is test_going_on.py's."""

import pytest
from fairseq.data.iterators import CountingIterator

from convbert_plugin.training.exact_resume import WholeGroups

pytestmark = [pytest.mark.pretraining, pytest.mark.survival]


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("done", range(8))
def test_an_epoch_goes_on_to_its_end_with_other_groups(done, size, skips):
    """Of seven batches, from each place, by slices."""
    rest = [*range(done, 7)]
    expected = [rest[at : at + size] for at in range(0, len(rest), size)]
    # What is left over of the whole epoch is left out, as it is without an interruption.
    if skips:
        expected = [
            group for group in expected if len(group) == size and group[-1] < 7 // size * size
        ]
    batches = CountingIterator(rest, start=done, total=7)
    groups = WholeGroups(batches, size, skips)
    assert len(groups) - groups.n == len(expected)
    assert [*groups] == expected
    assert not groups.has_next()
    assert not batches.has_next()
