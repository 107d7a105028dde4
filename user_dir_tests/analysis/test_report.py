"""Reports against values worked by hand, and numpy; runs are written by what writes real ones."""

import io
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import image

from convbert_plugin import cli
from convbert_plugin.analysis import score_pictures
from convbert_plugin.analysis.contents import Contents
from convbert_plugin.analysis.drawing import NARROW, WIDE
from convbert_plugin.analysis.groups import rows_of, summarize
from convbert_plugin.analysis.naming import short_names
from convbert_plugin.analysis.report_files import report_json, report_page, report_text
from convbert_plugin.analysis.score_pictures import draw_curves, draw_dots, with_curves
from convbert_plugin.analysis.score_report import score_difference_sections
from convbert_plugin.analysis.theme import styles_of
from convbert_plugin.analysis.words import LONGEST_LABEL, wrap
from convbert_plugin.cli import main
from convbert_plugin.errors import UserError
from convbert_plugin.files.records import RunRecord, start_in_words

pytestmark = pytest.mark.glue

RANDOM = {"kind": "random weights"}
TRAINED = {
    "kind": "trained here",
    "checkpoint": "runs/base/checkpoint_last.pt",
    "objective": "replaced_token_detection",
    "updates": 4500,
}
CONVERTED = {**TRAINED, "kind": "converted", "checkpoint": "published/model.pt", "updates": 0}

PLUGIN = Path(cli.__file__).resolve().parents[1]
VOID = {"meta", "img", "wbr"}


def write_run(folder: Path, *validations, **description) -> Path:
    """A run of RTE, unless told otherwise; validations: (subset, updates, scores)."""
    values = {
        "task": "rte",
        "metrics": ["accuracy"],
        "seed": 1,
        "model": {"arch": "convbert_small", "layers": 12},
        "classification_head": "released",
        "start": RANDOM,
        "majority": {"valid": {"accuracy": 0.527}},
        **description,
    }
    folder.mkdir(parents=True)
    record = RunRecord(folder, values, is_resumed=False)
    for subset, updates, scores in validations:
        record.add(subset, updates, {"loss": 0.7, **scores})
    if not validations:
        record.path.write_text(json.dumps(record.values))
    return folder


def write_seeds(folder: Path, accuracies, **description) -> Path:
    for seed, accuracy in enumerate(accuracies, start=1):
        run = ("valid", 10, {"accuracy": accuracy})
        write_run(folder / f"seed_{seed}", run, seed=seed, **description)
    return folder


def alone(summary):
    """A report of fine-tuning alone."""
    return Contents(summary, [], [], [])


def only_row(folder: Path):
    (group,) = summarize([folder]).groups
    (row,) = rows_of(group)
    return row


def test_statistics_worked_by_hand(tmp_path):
    row = only_row(write_seeds(tmp_path, [0.5, 0.9, 0.6, 0.8]))
    assert row.statistics == {
        "median": pytest.approx(0.7),
        "best": 0.9,
        "mean": pytest.approx(0.7),
        # Squares of -.2, .2, -.1 and .1 over 4 - 1.
        "std": pytest.approx((0.1 / 3) ** 0.5),
        "majority": 0.527,
    }
    assert [score.seed for score in row.scores] == [1, 2, 3, 4]


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_statistics_are_numpys(tmp_path, seeds):
    accuracies = np.random.default_rng(seeds).random(seeds)
    row = only_row(write_seeds(tmp_path, accuracies.tolist()))
    expected = (np.median(accuracies), accuracies.max(), accuracies.mean(), accuracies.std(ddof=1))
    assert [*row.statistics.values()][:4] == pytest.approx(expected)


def test_a_single_seed_has_no_deviation(tmp_path):
    assert only_row(write_seeds(tmp_path, [0.5])).statistics["std"] is None


def test_the_last_validation_counts_and_not_the_best(tmp_path):
    scores = [("valid", 10, {"accuracy": 0.9}), ("valid", 20, {"accuracy": 0.6})]
    row = only_row(write_run(tmp_path / "run", *scores))
    assert [(score.updates, score.score) for score in row.scores] == [(20, 0.6)]


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (RANDOM, "random weights"),
        (
            TRAINED,
            "from runs/base/checkpoint_last.pt, 4,500 updates of replaced_token_detection",
        ),
        (CONVERTED, "converted: published/model.pt"),
    ],
)
def test_starts_in_words(start, words):
    assert start_in_words(start) == words


def test_runs_are_grouped_by_task_and_start(tmp_path):
    write_seeds(tmp_path / "a", [0.7, 0.8], start=TRAINED)
    write_seeds(tmp_path / "b", [0.5, 0.6])
    write_seeds(tmp_path / "c", [0.9], start=CONVERTED)
    # The same checkpoint, trained on.
    write_seeds(tmp_path / "d", [0.75], start={**TRAINED, "updates": 9000})
    write_seeds(tmp_path / "e", [0.5], task="my-own", start=CONVERTED)
    write_seeds(tmp_path / "f", [0.6], task="sst-2")
    groups = summarize([tmp_path]).groups
    assert [(group.task, group.label, len(group.runs)) for group in groups] == [
        ("sst-2", "random weights", 1),
        ("rte", "random weights", 2),
        ("rte", "converted: published/model.pt", 1),
        ("rte", start_in_words(TRAINED), 2),
        ("rte", start_in_words({**TRAINED, "updates": 9000}), 1),
        ("my-own", "converted: published/model.pt", 1),
    ]


@pytest.mark.parametrize(
    ("other", "labels"),
    [
        (
            {"model": {"arch": "convbert_base", "layers": 12}},
            {
                "random weights, convbert_base, 12 layers",
                "random weights, convbert_small, 12 layers",
            },
        ),
        (
            {"classification_head": "transformers"},
            {"random weights, released head", "random weights, transformers head"},
        ),
    ],
)
def test_models_and_heads_are_told_where_they_differ(tmp_path, other, labels):
    write_seeds(tmp_path / "a", [0.5])
    write_seeds(tmp_path / "b", [0.6], **other)
    assert {group.label for group in summarize([tmp_path]).groups} == labels


SETTINGS = {"lr": [0.002], "batch_size": 32, "max_update": 10, "double_unordered": False}
DATA = {"vocabulary": "0123456789", "train": "a" * 16, "valid": "b" * 16}
RECORDED = {"settings": SETTINGS, "data": DATA, "start": {**TRAINED, "weights": "c" * 16}}
BEGINS = start_in_words(TRAINED)


def other(name, **values):
    return {name: {**RECORDED[name], **values}}


@pytest.mark.parametrize(
    ("others", "labels"),
    [
        (other("settings", lr=[1e-7]), ("lr 0.002", "lr 1e-07")),
        (other("settings", batch_size=8), ("batch_size 32", "batch_size 8")),
        (
            other("settings", double_unordered=True),
            ("double_unordered false", "double_unordered true"),
        ),
        (other("settings", before=[{"lr": [1]}]), ("", 'before {"lr": [1]}')),
        (other("data", train="d" * 16), ("train data aaaaaaaa", "train data dddddddd")),
        (other("start", weights="e" * 16), ("weights cccccccc", "weights eeeeeeee")),
        (
            {"model": {"arch": "convbert_small", "layers": 12, "conv_type": "none"}},
            ("conv_type span", "conv_type none"),
        ),
    ],
)
def test_runs_of_other_settings_are_no_seeds_and_what_differs_is_shown(tmp_path, others, labels):
    model = {"arch": "convbert_small", "layers": 12, "conv_type": "span"}
    write_seeds(tmp_path / "a", [1.0, 0.75], **{**RECORDED, "model": model})
    write_run(
        tmp_path / "b", ("valid", 10, {"accuracy": 0.25}), seed=3,
        **{**RECORDED, "model": model, **others},
    )  # fmt: skip
    summary = summarize([tmp_path])
    found = {group.label: rows_of(group)[0].values for group in summary.groups}
    first, second = (f"{BEGINS}, {label}" if label else BEGINS for label in labels)
    assert found == {first: [1.0, 0.75], second: [0.25]}
    assert all(label in report_text(alone(summary)) for label in labels)
    groups = json.loads(report_json(alone(summary)))["groups"]
    (told,) = (group for group in groups if group["label"] == second)
    assert {name: told[name] for name in ("settings", "data")} == {
        name: {**RECORDED, **others}[name] for name in ("settings", "data")
    }


def test_what_differs_is_a_table(tmp_path):
    write_seeds(tmp_path / "a", [0.5, 0.6], **RECORDED)
    write_seeds(tmp_path / "b", [0.5, 0.6], **{**RECORDED, **other("settings", lr=[0.25])})
    summary = summarize([tmp_path])
    styles = styles_of(group.label for group in summary.groups)
    (section,) = score_difference_sections(summary, styles)
    assert list(section.table.header) == ["runs", "lr"]
    assert sorted(section.table.rows) == [["lr 0.002", "0.002"], ["lr 0.25", "0.25"]]


def test_starts_alone_are_told_by_the_legend(tmp_path):
    write_seeds(tmp_path / "a", [0.5], **RECORDED)
    write_seeds(tmp_path / "b", [0.5], **{**RECORDED, "start": RANDOM})
    summary = summarize([tmp_path])
    styles = styles_of(group.label for group in summary.groups)
    assert list(score_difference_sections(summary, styles)) == []


def test_runs_that_are_equal_in_all_but_the_seed_are_averaged(tmp_path):
    write_seeds(tmp_path / "a", [0.5, 0.9, 0.7], **RECORDED)
    (group,) = summarize([tmp_path]).groups
    assert (group.label, rows_of(group)[0].median) == (BEGINS, 0.7)


def test_what_a_start_or_a_model_implies_is_not_told_again(tmp_path):
    small = {"arch": "convbert_small", "layers": 12, "encoder_embed_dim": 256}
    base = {"arch": "convbert_base", "layers": 12, "encoder_embed_dim": 768}
    write_seeds(tmp_path / "a", [0.5], **{**RECORDED, "model": small})
    start = {**CONVERTED, "weights": "e" * 16}
    data = {"data": {**DATA, "vocabulary": "9876543210"}}
    write_seeds(tmp_path / "b", [0.5], **{**RECORDED, "model": base, "start": start, **data})
    assert {group.label for group in summarize([tmp_path]).groups} == {
        f"{BEGINS}, convbert_small, 12 layers",
        "converted: published/model.pt, convbert_base, 12 layers",
    }


def test_runs_of_earlier_versions_stay_apart(tmp_path):
    write_seeds(tmp_path / "a", [0.5], **{**RECORDED, "start": RANDOM})
    write_seeds(tmp_path / "b", [0.6, 0.7])
    assert {group.label: len(group.runs) for group in summarize([tmp_path]).groups} == {
        "random weights": 1,
        "random weights, settings not recorded": 2,
    }


MNLI = {
    "task": "mnli",
    "majority": {"valid": {"accuracy": 0.354}, "valid1": {"accuracy": 0.352}},
}
BOTH_SETS = (("valid", 10, {"accuracy": 0.6}), ("valid1", 10, {"accuracy": 0.7}))


def test_the_second_set_of_mnli_has_its_own_rows(tmp_path):
    write_run(tmp_path / "mnli", *BOTH_SETS, **MNLI)
    (group,) = summarize([tmp_path]).groups
    assert [(row.name, row.median, row.majority) for row in rows_of(group)] == [
        ("mnli", 0.6, 0.354),
        ("mnli (mismatched)", 0.7, 0.352),
    ]


REGRESSION = {"task": "sts-b", "metrics": ["pearson", "spearman"], "majority": {}}
CORRELATIONS = ("valid", 10, {"pearson": 0.8, "spearman": -0.0001})


def test_the_table_worked_by_hand(tmp_path):
    write_seeds(tmp_path / "rte", [0.5, 0.9, 0.6, 0.8])
    write_run(tmp_path / "sts-b", CORRELATIONS, seed=7, **REGRESSION)
    assert report_text(alone(summarize([tmp_path]))).splitlines() == [
        "task   start           metric    median  best  mean   std  majority  runs  seeds",
        "sts-b  random weights  pearson     80.0  80.0  80.0     –         –     1  7",
        "sts-b  random weights  spearman     0.0   0.0   0.0     –         –     1  7",
        "rte    random weights  accuracy    70.0  90.0  70.0  18.3      52.7     4  1, 2, 3, 4",
    ]


def test_a_run_without_a_validation_is_listed_but_not_counted(tmp_path):
    write_seeds(tmp_path, [0.5])
    write_run(tmp_path / "begun", seed=2)
    summary = summarize([tmp_path])
    assert [len(group.runs) for group in summary.groups] == [1]
    assert [run.seed for run in summary.unfinished] == [2]
    assert f"not validated yet, not counted: {tmp_path / 'begun'}" in report_text(alone(summary))
    assert "Not validated yet" in report_page(alone(summary))


def test_a_run_that_is_named_twice_counts_once(tmp_path):
    folder = write_seeds(tmp_path, [0.5])
    link = tmp_path.parent / f"{tmp_path.name}_link"
    link.symlink_to(folder / "seed_1")
    (group,) = summarize([folder, folder / "seed_1", link]).groups
    assert len(group.runs) == 1


OTHER_DATA = {"majority": {"valid": {"accuracy": 0.6}}}


@pytest.mark.parametrize(
    ("seed", "description", "words"),
    [
        (1, {}, ["seed 1 was run more than once", "seed_1", "again", "run of its own"]),
        (2, OTHER_DATA, ["not scored on the same data"]),
    ],
)
def test_what_makes_a_group_doubtful_is_noted(tmp_path, seed, description, words):
    write_seeds(tmp_path, [0.5])
    again = ("valid", 10, {"accuracy": 0.6})
    write_run(tmp_path / "again", again, seed=seed, **description)
    summary = summarize([tmp_path])
    (note,) = summary.notes
    assert all(word in note for word in words)
    ((row,),) = summary.panels()
    assert len(row.scores) == 2
    assert row.majority == (None if description else 0.527)


def asking(max_update, **settings):
    return {**RECORDED, **other("settings", max_update=max_update, **settings)}


def write_ends(folder: Path, *ends, **description) -> None:
    """Seeds that ended after so many updates, scored by the tenth of these."""
    for seed, updates in enumerate(ends, start=1):
        scored = ("valid", updates, {"accuracy": updates / 10})
        write_run(folder / f"seed_{seed}", scored, seed=seed, **description)


@pytest.mark.parametrize(
    ("ends", "description", "rows"),
    [
        # Broken off, beside those that are done and alone.
        ((6, 3, 6), asking(6), {", 3 of 6 updates": [0.3], ", 6 updates": [0.6, 0.6]}),
        ((3,), asking(6), {", 3 of 6 updates": [0.3]}),
        ((6, 6), asking(6), {"": [0.6, 0.6]}),
        # Epochs end a run too, and what was not recorded may have asked for either.
        ((3, 3), asking(6, max_epoch=1), {"": [0.3, 0.3]}),
        ((3, 6), asking(0, max_epoch=2), {", 3 updates": [0.3], ", 6 updates": [0.6]}),
        ((3, 6), {"start": TRAINED}, {", 3 updates": [0.3], ", 6 updates": [0.6]}),
        ((3, 6), asking(6, patience=2), {"": [0.3, 0.6]}),
        ((3, 6), asking(6, stop_time_hours=0.5), {"": [0.3, 0.6]}),
        ((3,), asking(6, patience=None, stop_min_lr=-1.0), {", 3 of 6 updates": [0.3]}),
    ],
)
def test_what_ended_at_another_update_is_not_averaged_with_the_rest(
    tmp_path, ends, description, rows
):
    write_ends(tmp_path, *ends, **description)
    summary = summarize([tmp_path])
    found = {row.group.label: row.values for panel in summary.panels() for row in panel}
    assert found == {BEGINS + words: values for words, values in rows.items()}
    assert all(words in report_text(alone(summary)) for words in rows)
    assert all(words in Page(report_page(alone(summary))).text for words in rows)


def test_a_run_that_was_broken_off_between_two_sets_is_not_done(tmp_path):
    scores = {"accuracy": 0.5}
    both = [("valid", 3, scores), ("valid1", 3, scores), ("valid", 6, scores)]
    write_run(tmp_path / "a", *both, ("valid1", 6, scores), **{**MNLI, **asking(6)})
    write_run(tmp_path / "b", *both, seed=2, **{**MNLI, **asking(6)})
    assert {group.label: len(group.runs) for group in summarize([tmp_path]).groups} == {
        f"{BEGINS}, 6 updates": 1,
        f"{BEGINS}, valid after 6, valid1 after 3 of 6 updates": 1,
    }


@pytest.mark.parametrize(
    ("ends", "limit", "words"),
    [
        ((3, 6), 6, ["seed 1 after 3; seed 2 after 6 of 6 updates: by patience 2 runs end early"]),
        ((3,), 6, ["seed 1 after 3 of 6 updates: by patience 2 runs end early"]),
        ((3, 6), 0, ["seed 1 after 3; seed 2 after 6: by patience 2 runs end early"]),
        ((6, 6), 6, []),
    ],
)
def test_ends_that_settings_allow_are_noted(tmp_path, ends, limit, words):
    write_ends(tmp_path, *ends, **asking(limit, patience=2))
    title = f"rte, {BEGINS}: the last scores are of "
    noted = [f"{title}{line}, but some may have been broken off" for line in words]
    assert summarize([tmp_path]).notes == noted


def test_a_place_without_runs_is_noted(tmp_path):
    (tmp_path / "base").mkdir()
    folder = write_seeds(tmp_path / "rte", [0.5])
    assert summarize([tmp_path / "base", folder]).notes == [
        f"{tmp_path / 'base'}: holds no scores.json"
    ]


GOOD = {
    "task": "rte",
    "metrics": ["accuracy"],
    "seed": 1,
    "start": RANDOM,
    "validations": [{"subset": "valid", "updates": 1, "accuracy": 0.5}],
}


def test_the_smallest_record_will_do(tmp_path):
    (tmp_path / "scores.json").write_text(json.dumps(GOOD))
    assert only_row(tmp_path).median == 0.5


def without_score(value):
    return json.dumps({**GOOD, "validations": [{"subset": "valid", "updates": 1, **value}]})


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(GOOD)[:-9],
        "[]",
        without_score({}),
        without_score({"accuracy": "high"}),
        without_score({"accuracy": float("nan")}),
        json.dumps({**GOOD, "start": {"kind": "trained here"}}),
        json.dumps({**GOOD, "start": {**TRAINED, "updates": "many"}}),
        json.dumps({**GOOD, "majority": {"valid": 0.5}}),
        json.dumps({**GOOD, "classification_head": ["released"]}),
        json.dumps({**GOOD, "seed": None}),
        json.dumps({**GOOD, "settings": {"max_update": "6"}}),
        json.dumps({**GOOD, "settings": {"patience": [1]}}),
    ],
)
def test_a_damaged_record_is_one_line(tmp_path, text):
    path = tmp_path / "run" / "scores.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(UserError, match=r"^\S+scores.json: damaged, or not the scores of a run"):
        main(["report", str(tmp_path), str(tmp_path / "out" / "report.html")])
    assert not (tmp_path / "out").exists()


def test_a_damaged_record_is_named_and_the_rest_is_shown(tmp_path, capsys):
    write_seeds(tmp_path / "runs", [0.5, 0.7])
    (tmp_path / "runs" / "seed_1" / "scores.json").write_text(json.dumps(GOOD)[:-9])
    assert main(["report", str(tmp_path / "runs"), str(tmp_path / "report.html")]) == 0
    (row,) = json.loads((tmp_path / "report.json").read_text())["groups"][0]["scores"]
    assert (row["median"], row["seeds"]) == (0.7, [2])
    line = f"not counted: {tmp_path}/runs/seed_1/scores.json: damaged, or not the scores of a run"
    assert line in capsys.readouterr().out
    assert line in Page((tmp_path / "report.html").read_text()).text


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Path.mkdir, "a folder, where a file is expected"),
        (lambda path: path.symlink_to("gone"), "no such file"),
        (lambda path: path.symlink_to(path.name), "no such file"),
        (os.mkfifo, "a pipe or a device, where a regular file is expected"),
    ],
)
def test_a_record_that_is_no_file_is_named(tmp_path, make, words):
    write_seeds(tmp_path, [0.5, 0.7])
    path = tmp_path / "seed_1" / "scores.json"
    path.unlink()
    make(path)
    summary = summarize([tmp_path])
    assert [group.runs[0].seed for group in summary.groups] == [2]
    (note,) = summary.notes
    assert note.startswith(f"not counted: {path}: {words}")
    with pytest.raises(UserError, match=words):
        RunRecord(path.parent, GOOD, is_resumed=True)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (["empty", "."], "{0}/empty, {0}: no scores.json there or below: name folders of runs"),
        (["absent"], "{0}/absent: no such folder"),
        (["file"], "{0}/file: not a folder"),
    ],
)
def test_places_without_runs_end_in_one_line(tmp_path, places, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    where = [str(tmp_path / place) for place in places]
    with pytest.raises(UserError) as error:
        main(["report", *where, str(tmp_path / "report.html")])
    assert str(error.value).startswith(message.format(tmp_path))
    assert "\n" not in str(error.value)


def test_nothing_but_the_line_stands_on_stderr(tmp_path):
    command = [sys.executable, "-m", "convbert_plugin.cli", "report", "absent", "report.html"]
    environment = {**os.environ, "PYTHONPATH": str(PLUGIN.parent)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (1, "absent: no such folder\n")


def test_nothing_heavy_is_imported_for_a_report(tmp_path):
    write_seeds(tmp_path / "runs", [0.5])
    command = [sys.executable, "-X", "importtime", "-m", "convbert_plugin.cli", "report"]
    environment = {**os.environ, "PYTHONPATH": str(PLUGIN.parent)}
    result = subprocess.run(
        [*command, "runs", "report.html"], cwd=tmp_path, env=environment, capture_output=True
    )
    assert result.returncode == 0
    imported = {line.split("|")[-1].strip() for line in result.stderr.decode().splitlines()}
    assert {"matplotlib", "convbert_plugin.analysis.runs"} <= imported
    assert not {name.split(".")[0] for name in imported} & {"torch", "fairseq", "scipy", "sklearn"}


@pytest.mark.parametrize("output", ["report.pdf", "report", ".html", "scores.html"])
def test_a_wrong_name_of_the_page_is_a_wrong_argument(tmp_path, output, capsys):
    with pytest.raises(SystemExit) as end:
        main(["report", str(tmp_path), str(tmp_path / output)])
    assert end.value.code == 2
    assert output in capsys.readouterr().err.splitlines()[-1]


class Page(HTMLParser):
    """The tags and the text of a page, of which each tag is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text, self.sources, self.open = set(), "", [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_files(tmp_path, capsys):
    write_seeds(tmp_path / "runs" / "rte", [0.5, 0.9, 0.6, 0.8], start=TRAINED)
    write_run(tmp_path / "runs" / "mnli", *BOTH_SETS, **MNLI)
    output = tmp_path / "new" / "report.html"
    assert main(["report", str(tmp_path / "runs"), str(output)]) == 0
    table = capsys.readouterr().out
    assert sorted(path.name for path in output.parent.iterdir()) == [
        "report.html",
        "report.json",
        "report.png",
    ]

    assert table.splitlines()[-1].split()[-4:] == ["1,", "2,", "3,", "4"]
    page = Page(output.read_text(encoding="utf-8"))
    for line in table.splitlines()[1:]:
        # Of a single seed there is no deviation, which the page leaves out.
        assert {cell for cell in re.split("  +", line) if cell not in page.text} <= {"–"}
    # Drawings stand in the page itself, whose parts name each other and nothing from elsewhere.
    assert "svg" in page.tags
    assert all(source.startswith("#") for source in page.sources)
    pixels = image.imread(output.with_suffix(".png"), format="png")
    # 7.5 inches and a margin around them, of 180 dots each.
    assert pixels.shape[1] == 1404
    assert pixels.std() > 0.01

    report = json.loads(output.with_suffix(".json").read_text())
    assert [group["task"] for group in report["groups"]] == ["mnli", "rte"]
    (scores,) = report["groups"][1]["scores"]
    assert scores["per_seed"][1] == {
        "seed": 2,
        "folder": str(tmp_path / "runs" / "rte" / "seed_2"),
        "updates": 10,
        "score": 0.9,
    }
    assert scores["std"] == pytest.approx((0.1 / 3) ** 0.5)
    assert report["groups"][1]["start"] == TRAINED
    assert report["groups"][0]["scores"][1]["std"] is None


def test_names_from_files_are_text_and_nothing_else(tmp_path):
    # "$x_$" as a formula is an error.
    hostile = "<b>$x_$\x1b[2J\n\udcff&amp;"
    start = {**CONVERTED, "checkpoint": hostile}
    write_seeds(tmp_path / "<b>&", [0.5, 0.6], start=start, task="<i>rte</i>")
    write_run(tmp_path / "<u>\x1b", task="<i>rte</i>")
    summary = summarize([tmp_path])
    text = report_page(alone(summary))
    page = Page(text)
    assert not page.tags & {"b", "i", "u"}
    shown = r"converted: <b>$x_$\x1b[2J\n\udcff&amp;"
    assert shown in page.text
    assert f"{tmp_path}/<b>&/seed_1" in page.text
    assert "<i>rte</i>" in page.text
    assert rf"{tmp_path}/<u>\x1b" in page.text
    text.encode()
    assert shown in report_text(alone(summary))
    assert "\x1b" not in report_text(alone(summary))


def test_a_report_of_runs_that_have_just_begun(tmp_path):
    write_run(tmp_path / "runs" / "begun")
    output = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "runs"), str(output)]) == 0
    assert image.imread(output.with_suffix(".png"), format="png").size
    assert "Not validated yet" in Page(output.read_text()).text


@pytest.fixture
def figures(monkeypatch):
    """Drawings as matplotlib's figures, in place of bytes."""
    monkeypatch.setattr(score_pictures, "image_of", lambda figure, image_format: figure)


def lines_of(axes):
    """x and y of every line, without those that make a legend."""
    return [tuple(map(np.asarray, line.get_data())) for line in axes.get_lines()]


def picture_of(folder: Path, draw, width=WIDE):
    summary = summarize([folder])
    styles = styles_of(group.label for group in summary.groups)
    return draw(summary.panels(), styles, short_names(styles), width, "svg")


def texts_of(figure):
    """The texts of a picture, each with its height in inches from the top."""
    whole = figure.get_size_inches()[1]
    return [(text.get_text(), (1 - text.get_position()[1]) * whole) for text in figure.texts]


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_dots_are_seeds_beside_their_median_and_the_majority(tmp_path, figures, width):
    write_seeds(tmp_path / "a", [0.5, 0.9, 0.6, 0.8])
    write_seeds(tmp_path / "b", [0.4], start=CONVERTED)
    figure = picture_of(tmp_path, draw_dots, width)
    (axes,) = figure.axes
    dots, median, majority, *of_second = lines_of(axes)
    np.testing.assert_allclose(dots[0], [50, 90, 60, 80])
    assert len(set(dots[1])) == 4
    np.testing.assert_allclose(median[0], [70, 70])
    np.testing.assert_allclose(majority[0], [52.7, 52.7])
    np.testing.assert_allclose(of_second[0][0], [40])
    # Names and medians stand at the heights of their lanes, which are inches too.
    heights = dict(texts_of(figure))
    lanes = (("random weights", "70.0", dots), ("published", "40.0", of_second[0]))
    # The bars of two lanes do not touch.
    assert np.max(median[1]) < np.min(of_second[1][1])
    for name, words, (_, up) in lanes:
        assert heights[name] == heights[words] == pytest.approx(np.mean(up))


def test_all_tasks_stand_on_one_scale(tmp_path, figures):
    write_seeds(tmp_path / "rte", [0.5, 0.9])
    write_run(tmp_path / "sts-b", CORRELATIONS, **REGRESSION)
    figure = picture_of(tmp_path, draw_dots)
    (axes,) = figure.axes
    # Pearson's, Spearman's and the two seeds of RTE, from the top of the picture on.
    dots = [line for line in lines_of(axes) if line[0][0] != line[0][-1] or len(line[0]) == 1]
    np.testing.assert_allclose(np.concatenate([x for x, _ in dots]), [80, -0.01, 50, 90])
    titles = [text for text, _ in texts_of(figure) if "," in text]
    assert titles == ["sts-b, pearson", "sts-b, spearman", "rte, accuracy"]
    low, high = axes.get_xlim()
    assert low < -0.01 < 90 < high
    assert np.all(np.diff([up[0] for _, up in dots]) > 0)
    assert axes.yaxis_inverted()


def test_curves_are_scores_over_updates(tmp_path, figures):
    scores = [("valid", 10, {"accuracy": 0.9}), ("valid", 20, {"accuracy": 0.6})]
    write_run(tmp_path / "a", *scores)
    write_run(tmp_path / "b", scores[0], seed=2)
    (axes,) = picture_of(tmp_path, draw_curves).axes
    # Groups of their own, in the order of their labels.
    second, first, (_, majority) = lines_of(axes)
    np.testing.assert_allclose(first, [[10, 20], [90, 60]])
    np.testing.assert_allclose(second, [[10], [90]])
    np.testing.assert_allclose(majority, [52.7, 52.7])


def test_curves_are_drawn_where_a_run_has_more_than_one_point(tmp_path):
    scores = [("valid", 10, {"accuracy": 0.9}), ("valid", 20, {"accuracy": 0.6})]
    write_run(tmp_path / "a", *scores)
    write_run(tmp_path / "b", scores[0], task="mrpc")
    panels = summarize([tmp_path]).panels()
    assert [rows[0].group.task for rows in with_curves(panels)] == ["rte"]


def test_pictures_are_reproducible_whatever_the_users_style(tmp_path):
    import matplotlib

    write_seeds(tmp_path, [0.5, 0.6])
    plain = picture_of(tmp_path, draw_dots)
    with matplotlib.rc_context({"figure.facecolor": "black", "font.size": 30}):
        assert picture_of(tmp_path, draw_dots) == plain
    assert ElementTree.parse(io.BytesIO(plain)) is not None


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("random weights", ["random", "weights"]),
        ("runs/base/last_one", ["runs/", "base/", "last_one"]),
        ("abcdefghijklmnop", ["abcdefgh", "ijklmnop"]),
        ("ab-cd ef", ["ab-cd ef"]),
        ("", [""]),
    ],
)
def test_labels_break_at_words_and_at_the_parts_of_paths(text, lines):
    assert wrap(text, 9) == "\n".join(lines)


def test_a_very_long_label_loses_its_middle():
    text = wrap(f"converted: {'x' * 5000}/model.pt", 36)
    assert len(text.replace("\n", "")) <= LONGEST_LABEL + 1
    assert text.endswith("model.pt")
    assert "…" in text
