import math

import pytest

from convbert_plugin.errors import UserError
from convbert_plugin.formats.reading import Reading, reading_kept, to_keep

pytestmark = pytest.mark.squad


@pytest.mark.parametrize(
    "reading",
    [
        Reading(),
        Reading(has_impossible=False, null_threshold=-2.75),
        Reading(length=384, n_best_size=1, has_impossible=True, null_threshold=math.inf),
    ],
)
def test_a_reading_is_kept(reading):
    assert reading_kept({"other": 1, **to_keep(reading)}, "model.pt") == reading


def test_a_checkpoint_of_another_task_keeps_none():
    assert reading_kept({"answers": {}}, "model.pt") is None


@pytest.mark.parametrize(
    "change",
    [
        {"length": 0},
        {"doc_stride": -1},
        {"n_best_size": 1.5},
        {"max_answer_length": True},
        {"has_impossible": 1},
        {"null_threshold": math.nan},
        {"null_threshold": "0"},
        {"colour": 3},
    ],
)
def test_anything_else_in_its_place_is_refused_in_one_line(change):
    state = {"reading": {**Reading()._asdict(), **change}}
    with pytest.raises(UserError, match=r"^model\.pt: its reading is .*damaged.*") as error:
        reading_kept(state, "model.pt")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("held", [None, [], 3, "reading", {}])
def test_no_reading_at_all_is_refused(held):
    with pytest.raises(UserError, match=r"its reading is"):
        reading_kept({"reading": held}, "model.pt")


def test_the_threshold_of_null_odds():
    """Of the training, of the options, and of the kind of head."""
    assert Reading(has_impossible=True).threshold(-2.75) == -2.75
    assert Reading(has_impossible=True, null_threshold=0.0).threshold(-2.75) == 0.0
    assert Reading(has_impossible=False, null_threshold=1.0).threshold(-2.75, True) == math.inf
    # Where nothing is known of the training.
    assert Reading().threshold(0.0) == Reading(null_threshold=1.0).threshold(0.0) == math.inf
    assert Reading().threshold(0.0, has_impossible=True) == 0.0
    assert Reading(null_threshold=1.0).threshold(0.0, has_impossible=True) == 1.0
