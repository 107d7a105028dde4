"""Runs that commit 71ce252 recorded are reported as it did, and gone on with.

``fixtures/records`` was written by that commit: the records, the report of them, and the settings
of one run by its examples/glue/finetune.py (three paths replaced by words).
"""

import importlib.util
import shutil
from pathlib import Path

import pytest

import convbert_plugin
from convbert_plugin.cli import main
from convbert_plugin.files.records import RunRecord, read_record
from user_dir_tests.cli.test_predict_glue import write_checkpoint

pytestmark = pytest.mark.glue

CHECKOUT = Path(convbert_plugin.__file__).parents[1]
RECORDS = Path(__file__).parents[1] / "fixtures" / "records"
RTE = "sweep/small/rte/seed1"


def test_the_report_is_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(RECORDS)
    assert main(["report", "sweep", str(tmp_path / "report.html")]) == 0
    assert capsys.readouterr().out == Path("table.txt").read_text()
    assert (tmp_path / "report.json").read_text() == Path("report.json").read_text()


def test_a_run_goes_on_with_its_record(tmp_path):
    shutil.copy(RECORDS / RTE / "scores.json", tmp_path)
    before = read_record(tmp_path / "scores.json")
    record = RunRecord(tmp_path, {**before, "start": {"kind": "random weights"}}, is_resumed=True)
    record.add("valid", 900, {"accuracy": 0.75})
    after = read_record(tmp_path / "scores.json")
    added = {"subset": "valid", "updates": 900, "accuracy": 0.75}
    assert after == {**before, "validations": [*before["validations"], added]}


def test_the_settings_of_a_run_are_the_same(tmp_path):
    spec = importlib.util.spec_from_file_location("sweep", CHECKOUT / "examples" / "sweep.py")
    sweep = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sweep)
    # The name that the default had then.
    checkpoint = write_checkpoint(tmp_path / "small", {}, conv_backend="torch") / "model.pt"
    overrides = ["optimization.max_update=300"]
    size, model = sweep.model_options(checkpoint)
    run = sweep.Run("rte", 1, tmp_path / "seed1")
    command = sweep.train_command(
        *(f"finetune_convbert_{size}", [*model, "glue=rte"], run, Path("/data/rte")),
        *(checkpoint, overrides),
    )
    written = (RECORDS / RTE / "settings.txt").read_text()
    paths = {"CHECKOUT": CHECKOUT, "FOLDER": run.folder, "CHECKPOINT": checkpoint}
    for word, path in paths.items():
        written = written.replace(word, str(path))
    assert command[3:] == written.splitlines()
