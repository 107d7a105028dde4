"""The record of a run: of this version and of earlier ones, written whole, taken back in part."""

import json

import pytest

from convbert_plugin.errors import UserError
from convbert_plugin.files.records import RANDOM_WEIGHTS, RunRecord, read_record, start_from

pytestmark = pytest.mark.glue

DESCRIPTION = {"task": "rte", "metrics": ["accuracy"], "seed": 1, "start": RANDOM_WEIGHTS}
STARTED = {**DESCRIPTION, "start": start_from("small/checkpoint_last.pt", "masked_lm", 7)}


def entry(updates, accuracy, subset="valid"):
    return {"subset": subset, "updates": updates, "accuracy": accuracy}


def write(folder, description, *entries):
    record = RunRecord(folder, description, is_resumed=False)
    for each in entries:
        scores = {name: value for name, value in each.items() if name not in ("subset", "updates")}
        record.add(each["subset"], each["updates"], scores)
    return record.path


def test_what_is_written_is_read(tmp_path):
    entries = [entry(5, 0.25), entry(5, 0.75, "valid1"), entry(9, 0.5)]
    assert read_record(write(tmp_path, DESCRIPTION, *entries)) == {
        **DESCRIPTION,
        "validations": entries,
    }
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]


def test_a_resumed_run_keeps_where_it_began_and_takes_back_what_came_later(tmp_path):
    path = write(tmp_path, STARTED, entry(5, 0.25), entry(9, 0.5), entry(12, 0.6))
    # A run that goes on begins, for fairseq, from its own last checkpoint.
    resumed = RunRecord(tmp_path, {**STARTED, "start": RANDOM_WEIGHTS}, is_resumed=True)
    resumed.add("valid", 9, {"accuracy": 0.75})
    assert read_record(path) == {**STARTED, "validations": [entry(5, 0.25), entry(9, 0.75)]}


def test_a_run_that_begins_anew_forgets_the_record_there(tmp_path):
    write(tmp_path, STARTED, entry(5, 0.25))
    path = write(tmp_path, DESCRIPTION, entry(3, 0.5))
    assert read_record(path) == {**DESCRIPTION, "validations": [entry(3, 0.5)]}


SETTINGS = {"lr": [1], "max_update": 5, "total_num_update": None, "device": "a"}
RECORDED = {**STARTED, "settings": SETTINGS, "data": {"train": "1234"}}


@pytest.mark.parametrize(
    ("settings", "train", "before"),
    [
        ({}, "1234", None),
        ({"lr": [2]}, "1234", [{"lr": [1]}]),
        ({}, "5678", [{"train": "1234"}]),
        # The rate follows the length of the run, unless it is told.
        ({"max_update": 9}, "1234", [{"max_update": 5}]),
        ({"device": "b"}, "1234", None),
    ],
)
def test_what_had_other_settings_before_it_was_resumed_is_told(tmp_path, settings, train, before):
    write(tmp_path, RECORDED, entry(5, 0.25))
    for updates in (9, 12):
        now = {**RECORDED, "settings": {**SETTINGS, **settings}, "data": {"train": train}}
        record = RunRecord(tmp_path, now, is_resumed=True)
        record.add("valid", updates, {"accuracy": 0.5})
    kept = read_record(record.path)["settings"]
    assert kept == {**SETTINGS, **settings, **({"before": before} if before else {})}


def test_a_longer_run_is_no_other_where_the_rate_does_not_follow_its_length(tmp_path):
    settings = {**SETTINGS, "total_num_update": 12}
    write(tmp_path, {**RECORDED, "settings": settings}, entry(5, 0.25))
    now = {**RECORDED, "settings": {**settings, "max_update": 12}}
    record = RunRecord(tmp_path, now, is_resumed=True)
    assert record.values["settings"] == {**settings, "max_update": 12}


def as_earlier(description):
    """As records were while GLUE was all there was."""
    others = {name: value for name, value in description.items() if name != "task"}
    return {"glue_task": description["task"], **others}


def test_records_of_earlier_versions_are_read_and_gone_on_with(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({**as_earlier(STARTED), "validations": [entry(5, 0.25)]}))
    assert read_record(path) == {**STARTED, "validations": [entry(5, 0.25)]}
    RunRecord(tmp_path, DESCRIPTION, is_resumed=True).add("valid", 9, {"accuracy": 0.5})
    written = json.loads(path.read_text())
    assert written == {**STARTED, "validations": [entry(5, 0.25), entry(9, 0.5)]}


def without(name):
    return {key: value for key, value in WHOLE.items() if key != name}


WHOLE = {**DESCRIPTION, "validations": [entry(5, 0.25)]}
DAMAGED = [
    *map(without, WHOLE),
    *({**WHOLE, name: 5} for name in ("task", "start", "validations")),
    {**WHOLE, "validations": [{"subset": "valid"}]},
    {**as_earlier(WHOLE), "glue_task": None},
]


@pytest.mark.parametrize("values", DAMAGED)
def test_a_damaged_record_is_one_line(tmp_path, values):
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(values))
    with pytest.raises(UserError) as ended:
        read_record(path)
    assert str(ended.value) == f"{path}: damaged, or not the scores of a run: remove it"


def test_starts_in_plain_values():
    assert start_from("published/model.pt", "masked_lm", 0) == {
        "kind": "converted",
        "checkpoint": "published/model.pt",
        "objective": "masked_lm",
        "updates": 0,
    }
    assert start_from("run/checkpoint_last.pt", "rte", 3)["kind"] == "trained here"
