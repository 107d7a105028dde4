"""What is read of pretraining runs, grids, and what was fine-tuned from them."""

import itertools
import json
import shutil

import pytest

from convbert_plugin.analysis.contents import read_contents
from convbert_plugin.analysis.groups import rows_of
from convbert_plugin.analysis.measures import glue_average, measures_of
from convbert_plugin.analysis.row_sets import notes_of, row_sets
from convbert_plugin.cli import main
from convbert_plugin.errors import UserError
from convbert_plugin.files.grids import write_grid
from user_dir_tests.analysis.recorded_runs import (
    DATA,
    RANDOM,
    ROWS,
    grid,
    write_fine_tuned,
    write_pretraining,
    write_rows,
)

pytestmark = pytest.mark.experiments


def labels(contents):
    return {group.label: [run.seed for run in group.runs] for group in contents.pretraining}


def test_rows_of_a_grid_are_named_by_it_and_keep_its_order(tmp_path):
    contents = read_contents([write_rows(tmp_path / "out")])
    assert labels(contents) == {name: [1, 2, 3] for name in ROWS}
    assert list(labels(contents)) == list(ROWS)
    (rows,) = row_sets(contents)
    assert rows.title == "a: a table"
    assert [(row.name, row.parameters) for row in rows.rows] == [
        (name, 1000 + len(name)) for name in ROWS
    ]


def test_seeds_that_began_from_other_files_make_one_group(tmp_path):
    contents = read_contents([write_rows(tmp_path / "out")])
    found = {
        group.label: [row.values for row in rows_of(group)] for group in contents.fine_tuning.groups
    }
    assert found == {name: [list(scores)] for name, (_, _, scores) in ROWS.items()}
    assert list(found) == list(ROWS)
    for group in contents.pretraining:
        (fine_tuned,) = contents.fine_tuned(group)
        assert fine_tuned.label == group.label


def test_folders_that_were_moved_are_told_by_what_lies_above(tmp_path):
    write_rows(tmp_path / "out")
    before = read_contents([tmp_path / "out"]).fine_tuning.panels()
    shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    after = read_contents([tmp_path / "elsewhere"]).fine_tuning.panels()
    values = [[(row.group.label, row.values) for row in panel] for panel in (*before, *after)]
    assert values[0] == values[1]


def test_copies_belong_to_the_copied_pretraining(tmp_path):
    write_rows(tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "copy")
    for _ in range(2):
        # The originals, of which the copies tell the names, are there; then they are gone.
        groups = read_contents([tmp_path / "copy"]).fine_tuning.groups
        assert [group.label for group in groups] == list(ROWS)
        origins = {run.origin.folder for group in groups for run in group.runs}
        assert all(folder.startswith(str(tmp_path / "copy")) for folder in origins)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


def test_what_lies_below_another_pretraining_is_none_of_it(tmp_path):
    """While that from which it began is still at its place, and not in the report."""
    elsewhere = write_pretraining(tmp_path / "elsewhere", (0.5, 0.3))
    above = write_pretraining(tmp_path / "above", (0.5, 0.2))
    write_fine_tuned(above / "rte", elsewhere, {"accuracy": 0.6})
    (group,) = read_contents([above]).fine_tuning.groups
    assert [run.origin for run in group.runs] == [None]


def test_what_did_not_begin_from_a_pretraining_is_told_by_its_start(tmp_path):
    run = write_pretraining(tmp_path / "base", (0.5, 0.3))
    write_fine_tuned(run / "a", run, {"accuracy": 0.6})
    # Below it, and from nothing, from another's weights, and from an earlier checkpoint.
    write_fine_tuned(run / "b", run, {"accuracy": 0.5}, start=RANDOM)
    published = {"kind": "converted", "checkpoint": "m.pt", "objective": None, "updates": 0}
    write_fine_tuned(run / "c", run, {"accuracy": 0.7}, start=published)
    early = {
        "kind": "trained here",
        "checkpoint": str(run / "checkpoint_1_100.pt"),
        "objective": "replaced_token_detection",
        "updates": 100,
    }
    write_fine_tuned(run / "d", run, {"accuracy": 0.55}, start=early)
    contents = read_contents([tmp_path])
    assert {group.label: rows_of(group)[0].values for group in contents.fine_tuning.groups} == {
        "random weights": [0.5],
        "converted: m.pt": [0.7],
        "convbert_small": [0.6],
        "convbert_small, after 100 updates": [0.55],
    }
    (group,) = contents.pretraining
    assert measures_of(contents, group)["rte accuracy"].values == {1: 60.0}


def test_without_a_grid_runs_are_grouped_by_all_but_the_seed_and_named_by_what_differs(tmp_path):
    for seed in (2, 1):
        write_pretraining(tmp_path / f"a{seed}", (0.5, 0.3), seed=seed)
        settings = {"lr": [1e-3], "batch_size": 16, "max_update": 200}
        write_pretraining(tmp_path / f"b{seed}", (0.5, 0.3), seed=seed, settings=settings)
    assert labels(read_contents([tmp_path])) == {
        "convbert_small, lr 0.0005": [1, 2],
        "convbert_small, lr 0.001": [1, 2],
    }


def test_a_name_holds_what_tells_the_most_runs_apart(tmp_path):
    both = [{"a": 1, "b": 1, "c": 1, "d": 1}, {"a": 2, "b": 2, "c": 2, "d": 2}]
    kinds = ("none", "light", "dynamic")
    for place, (sizes, kind) in enumerate(itertools.product(both, kinds)):
        model = {"arch": "convbert_small", **sizes, "kind": kind}
        write_pretraining(tmp_path / str(place), (0.5,), model=model)
    assert list(labels(read_contents([tmp_path]))) == [
        f"convbert_small, a {size}, b {size}, c {size}, kind {kind}"
        for size in (1, 2)
        for kind in sorted(kinds)
    ]


def test_a_row_that_two_grids_share_is_one_group(tmp_path):
    out = write_rows(tmp_path / "out")
    second = [("static", "electra"), ("span", "span"), ("to come", "later")]
    rows = [(name, folder) for name, (folder, *_) in ROWS.items()]
    write_grid(out, [grid("a", rows), grid("b", second, note="one note")])
    contents = read_contents([out])
    assert list(labels(contents)) == list(ROWS)
    _, found = contents.grids
    assert [group and group.label for group in found.groups] == [
        "ELECTRA style",
        "+ span convolution",
        None,
    ]
    rows = row_sets(contents)[1]
    assert [row.name for row in rows.rows] == ["static", "span", "to come"]
    assert list(notes_of(rows)) == [
        "one note",
        "no run was found of to come",
        "static: outside of this table, its runs are called ELECTRA style",
        "span: outside of this table, its runs are called + span convolution",
    ]


def test_grids_of_one_name_are_told_by_their_folders(tmp_path):
    for name in ("one", "two"):
        write_rows(tmp_path / name)
    contents = read_contents([tmp_path])
    assert [rows.title for rows in row_sets(contents)] == [
        f"a: a table ({tmp_path / name})" for name in ("one", "two")
    ]
    names = [group.label for group in contents.pretraining]
    assert names[:3] == list(ROWS)
    assert names[3:] == [f"a: {name}" for name in ROWS]


def test_a_grid_whose_names_clash_is_one_line_and_its_runs_are_shown(tmp_path):
    out = write_rows(tmp_path / "out")
    content = json.loads((out / "grid.json").read_text())
    content["grids"][0]["rows"][1]["name"] = "ELECTRA style"
    (out / "grid.json").write_text(json.dumps(content))
    contents = read_contents([out])
    (note,) = contents.notes
    assert note.startswith(f"rows not named: {out / 'grid.json'}: grid a: two rows are called")
    assert list(labels(contents).values()) == [[1, 2, 3]] * 3


def test_runs_of_no_grid_are_compared_on_their_own(tmp_path):
    write_rows(tmp_path / "out")
    write_pretraining(tmp_path / "mine", (0.5, 0.3))
    first, others = row_sets(read_contents([tmp_path]))
    assert (first.title, others.title) == ("a: a table", "Pretraining runs of no grid")
    assert [row.name for row in others.rows] == ["convbert_small"]


def notes(folder):
    return [note for rows in row_sets(read_contents([folder])) for note in notes_of(rows)]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"ended": None},
            "convbert_small: seed 2 has not ended after 200 updates: not compared ({})",
        ),
        (
            {"ended": "divergence"},
            "convbert_small: seed 2 diverged after 200 updates: its last validation counts ({})",
        ),
        (
            {"validations": []},
            "convbert_small: seed 2 ended after 200 updates and was never validated ({})",
        ),
        (
            {"points": [], "validations": []},
            "convbert_small: seed 2 ended after 0 updates and was never validated ({})",
        ),
        ({"seed": 1}, "convbert_small: seed 1 was run 2 times: it counts once, as their mean"),
    ],
)
def test_what_is_to_be_known_of_a_run_is_a_line(tmp_path, values, words):
    write_pretraining(tmp_path / "a", (0.5, 0.3))
    folder = write_pretraining(tmp_path / "b", (0.5, 0.4), **{"seed": 2, **values})
    assert words.format(folder) in notes(tmp_path)
    contents = read_contents([tmp_path])
    (group,) = contents.pretraining
    losses = measures_of(contents, group)["loss"].values
    assert (
        losses
        == {
            "ended": {1: 0.3, 2: 0.4} if values.get("ended") else {1: 0.3},
            "validations": {1: 0.3},
            "points": {1: 0.3},
            "seed": {1: pytest.approx(0.35)},
        }[next(iter(values))]
    )


def test_rows_of_different_data_are_allowed_and_said(tmp_path):
    write_pretraining(tmp_path / "a", (0.5, 0.3))
    data = {**DATA, "train": "u" * 16, "valid": "e" * 16}
    write_pretraining(tmp_path / "b", (0.5, 0.3), data=data)
    first, second = labels(read_contents([tmp_path]))
    assert notes(tmp_path) == [
        f"these rows were not all trained on the same text (train tttttttt: {first}; "
        f"uuuuuuuu: {second})",
        "these rows were not all validated on the same text, so their losses are of different "
        f"texts (valid dddddddd: {first}; eeeeeeee: {second})",
    ]


def test_runs_of_a_row_that_differ_in_more_than_the_seed_are_said(tmp_path):
    write_rows(tmp_path)
    shutil.rmtree(tmp_path / "span" / "seed3")
    write_pretraining(tmp_path / "span" / "seed3", (0.5, 0.4, 0.3), seed=3)
    assert notes(tmp_path) == [
        "+ span convolution: its runs ended at different updates (seed 1, 2 after 200; seed 3 "
        "after 300)",
        "+ span convolution: its runs differ in more than their seed: conv_type, max_update, "
        "head_ratio",
    ]


def test_a_budget_lets_seeds_end_at_different_updates(tmp_path):
    for seed, losses in ((1, (0.5, 0.3)), (2, (0.5, 0.4, 0.3))):
        budget = {"budget_minutes": 5.0, "ended": "budget", "settings": {}}
        write_pretraining(tmp_path / f"seed{seed}", losses, seed=seed, **budget)
    assert notes(tmp_path) == []
    assert list(labels(read_contents([tmp_path])).values()) == [[1, 2]]


def test_a_damaged_record_is_named_and_the_rest_is_shown(tmp_path):
    write_rows(tmp_path)
    path = tmp_path / "span" / "seed2" / "pretraining.json"
    path.write_text(path.read_text()[:-100])
    contents = read_contents([tmp_path])
    (note,) = contents.notes
    assert note.startswith(f"not counted: {path}: ")
    assert labels(contents)["+ span convolution"] == [1, 3]
    (group,) = contents.fine_tuned(contents.pretraining[2])
    assert [run.seed for run in group.runs] == [1, 3]


def test_nothing_but_a_damaged_record_is_one_line(tmp_path):
    write_pretraining(tmp_path / "runs", (0.5,))
    (tmp_path / "runs" / "pretraining.json").write_text("{")
    with pytest.raises(UserError, match=r"runs/pretraining\.json: "):
        main(["report", str(tmp_path / "runs"), str(tmp_path / "report.html")])
    assert not (tmp_path / "report.html").exists()


TASKS = {
    "rte": {"accuracy": 0.6},
    "sts-b": {"pearson": 0.9, "spearman": 0.8},
    "wnli": {"accuracy": 0.1},
    "mrpc": {"accuracy": 0.7, "f1": 0.8},
}


def test_the_average_takes_the_papers_metrics_and_leaves_wnli_out(tmp_path):
    run = write_pretraining(tmp_path / "base", (0.5, 0.3), seed=4)
    for task, scores in TASKS.items():
        write_fine_tuned(run / task, run, scores, task=task, seed=9)
    contents = read_contents([tmp_path])
    (group,) = contents.pretraining
    expected = {4: pytest.approx((70 + 80 + 60) / 3)}
    assert glue_average(contents, group) == expected
    assert measures_of(contents, group)["GLUE average (mrpc, sts-b, rte)"].values == expected
    assert glue_average(contents, group, ["rte", "cola"]) == {}


def test_what_was_fine_tuned_several_times_from_a_seed_counts_once(tmp_path):
    run = write_pretraining(tmp_path / "base", (0.5, 0.3), seed=4)
    for seed, score in enumerate((0.5, 0.6, 0.7)):
        write_fine_tuned(run / f"rte{seed}", run, {"accuracy": score}, seed=seed)
    contents = read_contents([tmp_path])
    (group,) = contents.pretraining
    assert measures_of(contents, group)["rte accuracy"].values == {4: pytest.approx(60.0)}
    ((row,),) = contents.fine_tuning.panels()
    assert len(row.scores) == 3


def test_a_fine_tuning_that_was_broken_off_is_no_measure(tmp_path):
    run = write_pretraining(tmp_path / "base", (0.5, 0.3))
    write_fine_tuned(run / "rte", run, {"accuracy": 0.6}, settings={"max_update": 90})
    contents = read_contents([tmp_path])
    (group,) = contents.pretraining
    assert "rte accuracy" not in measures_of(contents, group)
    ((row,),) = contents.fine_tuning.panels()
    assert row.group.label == "convbert_small, 50 of 90 updates"


def test_sums_of_other_losses_are_no_one_measure(tmp_path):
    write_pretraining(tmp_path / "a", (0.5, 0.3))
    write_pretraining(tmp_path / "b", (0.5, 0.3), objective="masked_lm")
    (rows,) = row_sets(read_contents([tmp_path]))
    assert [set(row.measures) for row in rows.rows] == [
        {"loss (masked_lm)", "discriminator AUC"},
        {"loss (replaced_token_detection)", "discriminator AUC"},
    ]


@pytest.mark.parametrize(
    ("tasks", "main_ones"),
    [
        (["mrpc", "rte"], ["mrpc accuracy", "rte accuracy", "GLUE average (mrpc, rte)"]),
        (["cola", "mrpc", "qnli", "rte"], ["GLUE average (cola, mrpc, qnli, rte)"]),
        (["rte"], ["rte accuracy"]),
    ],
)
def test_many_tasks_stand_in_the_table_of_all_rows_as_their_average(tmp_path, tasks, main_ones):
    run = write_pretraining(tmp_path / "base", (0.5, 0.3))
    for task in tasks:
        write_fine_tuned(run / task, run, {"accuracy": 0.5}, task=task)
    contents = read_contents([tmp_path])
    (group,) = contents.pretraining
    measures = measures_of(contents, group).values()
    assert [one.name for one in measures if one.is_main] == ["discriminator AUC", *main_ones]


def test_what_was_fine_tuned_from_a_run_that_goes_on_is_no_measure_yet(tmp_path):
    for seed, ended in ((1, "max_update"), (2, None)):
        run = write_pretraining(tmp_path / f"seed{seed}", (0.5, 0.3), seed=seed, ended=ended)
        write_fine_tuned(run / "rte", run, {"accuracy": 0.5 + seed / 10}, seed=seed)
    contents = read_contents([tmp_path])
    (group,) = contents.pretraining
    assert measures_of(contents, group)["rte accuracy"].values == {1: pytest.approx(60.0)}


def test_a_name_holds_few_that_differ_and_else_the_folder(tmp_path):
    for one in "abcde-":
        settings = {name: int(name == one) for name in "abcde"}
        write_pretraining(tmp_path / one, (0.5, 0.3), settings=settings)
    assert list(labels(read_contents([tmp_path]))) == [
        f"convbert_small, a 0, b 0, c 0, d 0 ({tmp_path / '-'})",
        f"convbert_small, a 0, b 0, c 0, d 0 ({tmp_path / 'e'})",
        "convbert_small, a 0, b 0, c 0, d 1",
        "convbert_small, a 0, b 0, c 1, d 0",
        "convbert_small, a 0, b 1, c 0, d 0",
        "convbert_small, a 1, b 0, c 0, d 0",
    ]
