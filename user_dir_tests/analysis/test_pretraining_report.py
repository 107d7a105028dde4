"""The report of a grid: its page, text and numbers, and what a resumed run may change in them."""

import json
import shutil

import pytest

from convbert_plugin.analysis.contents import read_contents
from convbert_plugin.analysis.loss_distances import distances
from convbert_plugin.analysis.pretraining.pretraining_tables import TIME
from convbert_plugin.analysis.report_files import report_json, report_page, report_text, sections_of
from convbert_plugin.analysis.row_sets import measure_tables, row_sets
from convbert_plugin.analysis.theme import styles_of
from convbert_plugin.cli import main
from convbert_plugin.files.grids import write_grid
from user_dir_tests.analysis.recorded_runs import (
    ROWS,
    grid,
    write_fine_tuned,
    write_pretraining,
    write_rows,
)
from user_dir_tests.analysis.test_report import RANDOM, Page, write_seeds

pytestmark = pytest.mark.experiments


def tables_of(contents):
    """The tables of the page by their titles, and those without by their measures."""
    styles = styles_of(
        [group.label for group in (*contents.pretraining, *contents.fine_tuning.groups)]
    )
    return {
        section.title or section.table.summary.split(":")[0]: section.table
        for section in sections_of(contents, styles)
        if section.table
    }


def test_the_tables_of_a_grid_worked_by_hand(tmp_path):
    tables = tables_of(read_contents([write_rows(tmp_path)]))
    overview = tables["a: a table"]
    assert [*overview.header] == [
        *("row", "parameters", "seeds", "discriminator AUC", "rte accuracy")
    ]
    assert [*overview.rows] == [
        ["ELECTRA style", "1,013", "1, 2, 3", "0.6800 ± 0.0100", "52.0 ± 2.0"],
        # Scores of 52, 53 and 56 less 53.67: squares of 1.67, 0.67 and 2.33 over 2.
        ["+ bottleneck", "1,012", "1, 2, 3", "0.6767 ± 0.0208", "53.7 ± 2.1"],
        ["+ span convolution", "1,018", "1, 2, 3", "0.7777 ± 0.0125", "62.6 ± 1.5"],
    ]
    scores = tables["rte accuracy"]
    assert [row[:5] for row in scores.rows] == [
        ["ELECTRA style", "52.0", "2.0", "3", "–"],
        ["+ bottleneck", "53.7", "2.1", "3", "+1.7"],
        ["+ span convolution", "62.6", "1.5", "3", "+10.6"],
    ]
    # Differences of 11, 10 and 10.8: 10.6 ± 4.303 · 0.5292 / √3.
    assert scores.rows[2][5:7] == ["+9.3 to +11.9", "3"]
    assert scores.summary == (
        "rte accuracy: + span convolution (+10.6, p = 0.0017) differs from ELECTRA style "
        "(adjusted by Holm); + bottleneck not told apart from ELECTRA style by 3 seeds."
    )


def test_the_text_used_and_what_differs(tmp_path):
    tables = tables_of(read_contents([write_rows(tmp_path)]))
    # 180,000 tokens seen of 100,000, of which 90% are used.
    cells = ["100,000", "90.0%", "2,000", "180,000", "2.0", "6,000"]
    assert [*tables["Text used"].rows] == [[name, *cells] for name in ROWS]
    differs = tables["What differs"]
    assert [*differs.header] == ["runs", "conv_type"]
    assert [*differs.rows] == [[name, folder] for name, (folder, *_) in ROWS.items()]
    settings = dict(tables["Configuration"].rows)
    assert settings["lr"] == "0.0005"
    assert "conv_type" not in settings
    (hardware,) = tables["Versions and hardware"].rows
    assert hardware == ["pretraining", "9", "x86_64", "1", "1", "abc123"]


def test_the_files_of_a_grid(tmp_path, capsys):
    out = write_rows(tmp_path / "out")
    assert main(["report", str(out), str(out / "report.html")]) == 0
    text = capsys.readouterr().out
    page = Page((out / "report.html").read_text())
    values = json.loads((out / "report.json").read_text())
    for name, (_, losses, scores) in ROWS.items():
        assert name in text
        assert name in page.text
        (group,) = (one for one in values["pretraining"]["groups"] if one["label"] == name)
        assert list(group["measures"]["loss"]["by_seed"].values()) == list(losses)
        assert [run["updates"] for run in group["runs"]] == [200] * 3
        found = [one for one in values["groups"] if one["label"] == name]
        assert [score["score"] for score in found[0]["scores"][0]["per_seed"]] == list(scores)
    (told,) = values["comparisons"]
    assert told["reference"] == "ELECTRA style"
    assert "ttest_rel" in told["test"]
    assert "ttest_rel" in page.text
    words = {table["name"]: table["words"] for table in told["measures"]}
    assert all(sentence in page.text for sentence in words.values())
    assert all(words[name] in text for name in ("discriminator AUC", "rte accuracy"))
    assert words["loss"] not in text
    # It is no run, and no folder of runs is left out because of it.
    assert main(["report", str(out), str(out / "report.html")]) == 0


def without_times(value):
    """The values of a report, less what differs between runs that are equal."""
    if isinstance(value, dict):
        return {
            name: without_times(held)
            for name, held in value.items()
            if name not in ("seconds", "wps", "seconds_per_update")
        }
    return [without_times(held) for held in value] if isinstance(value, list) else value


def test_equal_runs_give_equal_reports_but_for_times(tmp_path):
    reports = []
    for seconds in (0.5, 0.7):
        out = write_rows(tmp_path / "out", seconds=seconds)
        if seconds == 0.7:
            # As a grid is resumed: what was left to do comes last, and records are written anew.
            for place in sorted(out.rglob("*.json"), reverse=True):
                text = place.read_text()
                place.unlink()
                place.write_text(text)
        contents = read_contents([out])
        tables = {
            title: [
                [cell for name, cell in zip(table.header, row, strict=True) if name != TIME]
                for row in table.rows
            ]
            for title, table in tables_of(contents).items()
            if title != "Cost"
        }
        reports.append(
            (report_text(contents), without_times(json.loads(report_json(contents))), tables)
        )
        shutil.rmtree(out)
    assert reports[0] == reports[1]


def test_a_report_is_the_same_every_time(tmp_path):
    contents = read_contents([write_rows(tmp_path)])
    again = read_contents([tmp_path])
    assert report_page(contents) == report_page(again)
    assert report_json(contents) == report_json(again)


def test_pretraining_alone_makes_a_report(tmp_path, capsys):
    write_pretraining(tmp_path / "runs" / "a", (0.5, 0.3))
    write_pretraining(tmp_path / "runs" / "b", (0.5, 0.4), seed=2, points=[])
    assert main(["report", str(tmp_path / "runs"), str(tmp_path / "report.html")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Pretraining compared",
        "row             seeds  discriminator AUC",
        "convbert_small  1, 2     0.6500 ± 0.0707",
    ]
    values = json.loads((tmp_path / "report.json").read_text())
    assert (values["groups"], values["notes"]) == ([], [])


def test_runs_that_were_never_validated_make_a_report(tmp_path, capsys):
    write_pretraining(tmp_path / "a", (0.5,), validations=[])
    write_pretraining(tmp_path / "b", (0.5,), validations=[], points=[], seed=2, ended=None)
    assert main(["report", str(tmp_path), str(tmp_path / "out" / "report.html")]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "row             seeds",
        "convbert_small  1",
        "note: convbert_small: seed 1 ended after 100 updates and was never validated "
        f"({tmp_path / 'a'})",
        "note: convbert_small: seed 2 has not ended after 0 updates: not compared "
        f"({tmp_path / 'b'})",
    ]
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert "seed 2 has not ended after 0 updates: not compared" in page.text


def test_places_with_one_kind_of_runs_are_no_empty_places(tmp_path):
    run = write_pretraining(tmp_path / "base", (0.5, 0.3))
    write_fine_tuned(tmp_path / "rte", run, {"accuracy": 0.6})
    (tmp_path / "empty").mkdir()
    contents = read_contents([run, tmp_path / "rte", tmp_path / "empty"])
    assert contents.fine_tuning.notes == [f"{tmp_path / 'empty'}: holds no scores.json"]
    # Its origin is told though it lies elsewhere.
    assert [group.label for group in contents.fine_tuning.groups] == ["convbert_small"]


def test_rows_that_must_be_the_same_are_told_how_far_apart(tmp_path):
    rows = {"reference": ("one", (0.3, 0.4)), "same": ("two", (0.3, 0.4)), "other": ("three", ())}
    for folder, losses in rows.values():
        for seed, loss in enumerate(losses, start=1):
            write_pretraining(tmp_path / folder / f"seed{seed}", (0.5, loss), seed=seed)
    points = [{"updates": 50, "tokens": 1, "slots": 1, "seconds": 1.0, "loss": 0.02 + 0.0625}]
    write_pretraining(tmp_path / "three" / "seed1", (0.5, 0.3 - 0.125), points=points)
    names = [(name, folder) for name, (folder, _) in rows.items()]
    write_grid(tmp_path, [grid("options", names, same_results=True)])
    contents = read_contents([tmp_path])
    (found,) = row_sets(contents)
    same, other = distances(found).values()
    assert (same.seeds, list(same.farthest.values())) == ([1, 2], [0, 0])
    assert (other.seeds, list(other.farthest.values())) == ([1], pytest.approx([0.0625, 0.125]))
    cells = tables_of(contents)["options: a table: how far apart"].rows
    assert [*cells] == [["same", "2", "0", "0"], ["other", "1", "6.2e-02", "1.2e-01"]]
    assert "distances" in json.loads(report_json(contents))["comparisons"][0]


def test_fine_tuning_alone_is_compared_over_the_seeds_that_are_shared(tmp_path):
    write_seeds(tmp_path / "a", [0.5, 0.6, 0.7])
    start = {"kind": "converted", "checkpoint": "m.pt", "objective": None, "updates": 0}
    write_seeds(tmp_path / "b", [0.6, 0.75, 0.83], start=start)
    contents = read_contents([tmp_path])
    (told,) = json.loads(report_json(contents))["comparisons"]
    # Differences of 10, 15 and 13: 12.67, deviation 2.517, t = 8.718.
    compared = told["rows"][1]["comparison"]
    assert compared["difference"] == pytest.approx(38 / 3)
    assert compared["p"] == pytest.approx(0.0129, abs=5e-5)
    assert (told["reference"], compared["seeds"]) == (RANDOM["kind"], [1, 2, 3])
    # A page says where they began in few words.
    words = told["words"].replace("converted: m.pt", "m.pt")
    assert words in Page(report_page(contents)).text


def test_fine_tuning_that_shares_no_two_seeds_is_reported_as_it_was(tmp_path):
    write_seeds(tmp_path / "a", [0.5])
    start = {"kind": "converted", "checkpoint": "m.pt", "objective": None, "updates": 0}
    write_seeds(tmp_path / "b", [0.6, 0.7], start=start)
    contents = read_contents([tmp_path])
    assert list(json.loads(report_json(contents))) == ["groups", "unfinished", "notes"]
    assert "Compared" not in report_page(contents)


def test_names_of_rows_are_text_and_nothing_else(tmp_path):
    hostile = "<b>$x_$\x1b[2J"
    rows = {hostile: ROWS["ELECTRA style"], "<i>": ROWS["+ bottleneck"]}
    contents = read_contents([write_rows(tmp_path, rows)])
    page = Page(report_page(contents))
    assert not page.tags & {"b", "i"}
    assert r"<b>$x_$\x1b[2J" in page.text
    assert "\x1b" not in report_text(contents) + report_page(contents)


def test_every_measure_is_compared_in_the_order_of_the_rows(tmp_path):
    (rows,) = row_sets(read_contents([write_rows(tmp_path)]))
    tables = measure_tables(rows)
    assert [table.measure.name for table in tables] == [
        *("loss", "discriminator AUC", "rte accuracy")
    ]
    assert all([row.label for row in table.rows] == list(ROWS) for table in tables)


def test_runs_of_no_grid_have_short_names_that_a_legend_explains(tmp_path):
    write_rows(tmp_path / "out")
    for kind in ("a_kind_of_convolution", "another_kind"):
        for seed in (1, 2):
            run = tmp_path / f"{kind}{seed}"
            model = {"arch": "convbert_small", "kind": kind, "layers": 3}
            write_pretraining(run, (0.5, 0.3 + seed / 9), seed, model=model)
            write_fine_tuned(run / "rte", run, {"accuracy": 0.5 + seed / 9})
    contents = read_contents([tmp_path])
    lines = report_text(contents).splitlines()
    long = [f"convbert_small, kind {kind}" for kind in ("a_kind_of_convolution", "another_kind")]
    assert [line for line in lines if "convbert_small" in line] == [
        f"A: {long[0]}",
        f"B: {long[1]}",
    ]
    # Compared, and scored after the fine-tuning.
    assert [line.split()[0] for line in lines if line.startswith(("A ", "B "))] == ["A", "B"]
    assert [line.split()[1] for line in lines if line.startswith("rte ")][-2:] == ["A", "B"]
    text = Page(report_page(contents)).text
    assert all(text.count(label) == 1 for label in long)
    assert "ELECTRA style" in text
    names = [group["label"] for group in json.loads(report_json(contents))["pretraining"]["groups"]]
    assert names == [*ROWS, *long]


def test_a_grid_of_which_no_run_has_ended(tmp_path):
    """There is nothing to compare, and nothing to draw of it."""
    write_pretraining(tmp_path / "electra" / "seed1", (0.5, 0.4), ended=None)
    write_grid(tmp_path, [grid("a", [("ELECTRA style", "electra")])])
    assert main(["report", str(tmp_path), str(tmp_path / "report.html")]) == 0
    assert "not compared" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
