"""The record of a pretraining run: written whole, a row a point, taken back in part, checked."""

import copy
import json

import pytest

from convbert_plugin.errors import UserError
from convbert_plugin.files import pretraining_records
from convbert_plugin.files.pretraining_records import PretrainingRecord, read_pretraining_record
from convbert_plugin.files.records import RANDOM_WEIGHTS, start_from

pytestmark = pytest.mark.experiments

TEXT = {"train_tokens": 100, "used_share": 0.9, "train_examples": 9}
DESCRIPTION = {
    "task": "replaced_token_detection",
    "objective": "masked_lm",
    "seed": 1,
    "model": {"arch": "convbert_small"},
    "start": start_from("small/checkpoint_last.pt", "masked_lm", 7),
    "settings": {"lr": [1], "max_update": 9, "total_num_update": None, "device": "a"},
    "data": {"train": "1234", **TEXT},
    "environment": {"processor": "one", "commit": "abc"},
    "counted_from": 0,
    "budget_minutes": None,
}


def place(updates):
    return {"updates": updates, "tokens": 10 * updates, "seconds": 0.5 * updates}


def point(updates):
    return {**place(updates), "slots": 12 * updates, "loss": 1 / updates}


def score(updates):
    return {"subset": "valid", **place(updates), "loss": 2 / updates}


def write(folder, points, validations, resumed_at=None, **others):
    description = copy.deepcopy({**DESCRIPTION, **others})
    record = PretrainingRecord(folder, description, resumed_at is not None, resumed_at or 0)
    for updates in sorted({*points, *validations}):
        record.place = place(updates)
        if updates in points:
            record.add_point({"slots": 12 * updates, "loss": 1 / updates})
        if updates in validations:
            record.add_validation("valid", {"loss": 2 / updates, "auc": float("nan")})
    record.end("max_update")
    return record.path


def test_what_is_written_is_read_and_a_point_is_a_line(tmp_path):
    path = write(tmp_path, [2, 4, 6], [4, 6])
    assert path == tmp_path / "pretraining.json"
    expected = {
        "format": 1,
        **DESCRIPTION,
        "points": [point(2), point(4), point(6)],
        # A score that is not finite is none.
        "validations": [score(4), score(6)],
        "ended": "max_update",
    }
    assert read_pretraining_record(path) == expected
    assert f"\n    {json.dumps(point(4))},\n" in path.read_text()
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_what_came_after_the_update_it_is_resumed_at_is_taken_back(tmp_path):
    path = write(tmp_path, [2, 4, 6], [4, 6])
    write(tmp_path, [6, 8], [8], resumed_at=4, start=RANDOM_WEIGHTS, seed=1)
    record = read_pretraining_record(path)
    assert record["points"] == [point(2), point(4), point(6), point(8)]
    assert record["validations"] == [score(4), score(8)]
    assert record["start"] == DESCRIPTION["start"]
    write(tmp_path, [3], [])
    assert read_pretraining_record(path)["points"] == [point(3)]


def test_where_else_it_ran_before_is_told(tmp_path):
    write(tmp_path, [2], [])
    environments = [{"processor": "two", "commit": "abc"}, {"processor": "two", "commit": "abd"}]
    settings = {**DESCRIPTION["settings"], "lr": [2], "device": "b"}
    for environment in environments:
        # That it ran there is no other setting, nor is what only shows as text is read.
        data = {"train": "1234", "train_tokens": 50, "used_share": 0.8, "train_examples": 9}
        now = {"environment": environment, "settings": settings, "data": data}
        path = write(tmp_path, [], [], resumed_at=2, **now)
    record = read_pretraining_record(path)
    assert record["settings"] == {**settings, "before": [{"lr": [1]}]}
    before = [{"processor": "one"}, {"commit": "abc"}]
    assert record["environment"] == {**environments[1], "before": before}


def test_the_text_of_shards_adds_up_as_they_are_read(tmp_path):
    shards = {"train_tokens": 100, "used_share": 0.5, "train_examples": 9}
    data = {"train": "1234", **shards, "shards": [[100, 50, 9], None]}
    record = PretrainingRecord(tmp_path, copy.deepcopy({**DESCRIPTION, "data": data}), False, 0)
    record.count_text([[100, 50, 9], [300, 300, 31]])
    both = {"train_tokens": 400, "used_share": 0.875, "train_examples": 40}
    assert record.values["data"].items() >= both.items()
    record.end("max_update")
    # Resumed in the second one, it knows the first.
    second = {"train": "1234", **shards, "shards": [None, [300, 300, 31]]}
    path = write(tmp_path, [], [], resumed_at=1, data=second)
    assert read_pretraining_record(path)["data"].items() >= both.items()
    path = write(tmp_path, [], [], resumed_at=1, data={**second, "train": "5678"})
    assert read_pretraining_record(path)["data"]["shards"] == [None, [300, 300, 31]]


def test_it_is_written_at_most_so_often(tmp_path, monkeypatch):
    times = [*(100.0, 100.0, 100.5), 105.0, 150.4, *(150.6, 150.6, 150.65), 160.6]
    monkeypatch.setattr(pretraining_records.time, "monotonic", lambda: times.pop(0))
    record = PretrainingRecord(tmp_path, copy.deepcopy(DESCRIPTION), False, 0)
    written = []
    for updates in range(1, 6):
        record.place = place(updates)
        record.add_point({"slots": 1})
        written.append(len(read_pretraining_record(record.path)["points"]))
    # It takes half a second: the next time is fifty later; then much less, and ten later.
    assert written == [1, 1, 1, 4, 4]
    assert not record.is_written


WHOLE = {"format": 1, **DESCRIPTION, "points": [point(2), point(4)], "validations": [score(4)]}
WHOLE["ended"] = None
DAMAGED = [
    *({key: value for key, value in WHOLE.items() if key != name} for name in WHOLE),
    *({**WHOLE, name: "five"} for name in ("format", "seed", "start", "data", "points", "model")),
    {**WHOLE, "format": 2},
    {**WHOLE, "ended": 3},
    {**WHOLE, "budget_minutes": "long"},
    {**WHOLE, "counted_from": -1},
    {**WHOLE, "points": [point(4), point(2)]},
    {**WHOLE, "points": [{**point(2), "loss": float("nan")}]},
    {**WHOLE, "points": [{**point(2), "loss": "low"}]},
    {**WHOLE, "points": [{"updates": 2}]},
    {**WHOLE, "validations": [{**score(4), "subset": 5}]},
    {**WHOLE, "validations": [place(4)]},
    {**WHOLE, "data": {**TEXT, "shards": [[1]]}},
    [],
]


@pytest.mark.parametrize("values", DAMAGED)
def test_a_damaged_record_is_one_line(tmp_path, values):
    path = tmp_path / "pretraining.json"
    path.write_text(json.dumps(WHOLE))
    assert read_pretraining_record(path) == WHOLE
    path.write_text(json.dumps(values))
    with pytest.raises(UserError) as ended:
        read_pretraining_record(path)
    words = "the record of a pretraining run (format 1)"
    assert str(ended.value) == f"{path}: damaged, or not {words}: remove it"


def test_what_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"pretraining\.json"):
        read_pretraining_record(tmp_path / "pretraining.json")
