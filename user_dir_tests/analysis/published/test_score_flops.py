"""Own scores beside published ones: means worked by hand, and labels that do not collide."""

import itertools
import json
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from convbert_plugin.analysis.contents import read_contents
from convbert_plugin.analysis.drawing import LETTERS, plain
from convbert_plugin.analysis.profiling.profiles import profile_of
from convbert_plugin.analysis.profiling.subjects import subject_of
from convbert_plugin.analysis.published.broken_axes import broken_axis, flops_axis, flops_ticks
from convbert_plugin.analysis.published.flops_picture import PanelDrawing, draw_score_flops
from convbert_plugin.analysis.published.label_places import Anchor, Box, place_labels
from convbert_plugin.analysis.published.published_report import (
    published_sections,
    published_values,
)
from convbert_plugin.analysis.published.published_results import DEV, TEST, read_published
from convbert_plugin.analysis.published.score_flops import (
    DISTILLED,
    OWN,
    PUBLISHED,
    ScorePanel,
    ScorePoint,
    published_glue,
    score_panels,
    shared_tasks,
)
from convbert_plugin.analysis.quantities import Spread, spread_of
from convbert_plugin.analysis.theme import styles_of
from user_dir_tests.analysis.pretraining.made_runs import MODEL, PROFILED, SETTINGS
from user_dir_tests.analysis.recorded_runs import write_fine_tuned, write_pretraining

pytestmark = pytest.mark.experiments

WIDTHS = (7.5, 3.4)


@pytest.mark.parametrize(
    ("tasks", "shared"),
    [
        ({}, []),
        ({"a": []}, []),
        ({"a": ["rte", "cola"]}, ["cola", "rte"]),
        ({"a": ["rte", "cola"], "b": ["rte", "cola"], "c": []}, ["cola", "rte"]),
        # All of three rows have the one, and two of them the other.
        ({"a": ["rte", "cola"], "b": ["rte"], "c": ["rte", "cola"]}, ["rte"]),
        ({"a": ["rte", "cola"], "b": ["rte", "mrpc"]}, ["rte"]),
        # No task of all rows: what most have.
        ({"a": ["rte"], "b": ["rte"], "c": ["cola"]}, ["rte"]),
    ],
)
def test_the_tasks_of_an_average_are_those_that_the_most_rows_share(tasks, shared):
    assert shared_tasks(tasks) == shared


def write_row(folder, scores, seeds=(1, 2), **model):
    """A pretraining of each seed, and what was fine-tuned from it: by task, a score a seed."""
    for place, seed in enumerate(seeds):
        run = write_pretraining(
            folder / f"seed{seed}",
            [0.5, 0.4],
            seed,
            model={**MODEL, **model},
            settings=SETTINGS,
            data={
                **{"vocabulary": "v", "vocabulary_size": 500, "train": "t", "valid": "d"},
                **{"train_tokens": 1000, "used_share": 0.9, "train_examples": 20},
            },
        )
        for task, by_seed in scores.items():
            metric = {"cola": "mcc", "squad": "f1"}.get(task, "accuracy")
            told = by_seed[place]
            values = told if isinstance(told, dict) else {metric: told}
            head = {"question_answering_head": "released"} if task == "squad" else {}
            tuned = write_fine_tuned(run / task, run, values, task, seed=1, **head)
            if head:
                record = json.loads((tuned / "scores.json").read_text())
                del record["classification_head"]
                (tuned / "scores.json").write_text(json.dumps(record))


def test_an_own_point_is_the_mean_over_tasks_and_seeds_at_its_flops(tmp_path):
    write_row(tmp_path / "a", {"rte": [0.5, 0.6], "mrpc": [0.7, 0.8]})
    write_row(tmp_path / "b", {"rte": [0.5, 0.6]}, conv_kernel_size=5)
    write_row(tmp_path / "c", {"rte": [0.5, 0.6], "mrpc": [0.7, 0.8]}, conv_type="wide")
    contents = read_contents([tmp_path])
    (panel,) = score_panels(contents, read_published())
    # All rows have the one task.
    assert (panel.title, panel.tasks) == ("rte accuracy", ["rte"])
    # By their labels: those of 5 taps come before those of 9.
    second, first, third = panel.own
    assert "conv_kernel_size 9, conv_type span_dynamic" in first.label
    assert first.score == Spread(*map(pytest.approx, (55.0, 50.0, 60.0)))
    # 200 updates of 1,000 slots, of which the profile's have 64.
    update = profile_of(subject_of(PROFILED, {}))["flops"]["authors"]["update"]
    assert first.flops.mean == pytest.approx(update / 64 * 200_000)
    assert second.flops.mean < first.flops.mean
    assert (first.set, first.kind, third.flops) == (DEV, OWN, None)
    assert panel.notes == [f"{third.label}: not drawn, for its FLOPs are not known"]
    (section,) = published_sections(contents, styles_of(point.series for point in panel.own))
    assert [row[0] for row in section.table.rows[:3]] == [point.label for point in panel.own]
    assert [entry.name for entry in section.legend] == [second.series, first.series]
    assert panel.notes[0] in section.notes
    assert json.loads(json.dumps(published_values(contents)))[0]["points"][0]["score"] == {
        "mean": pytest.approx(55.0), "low": 50.0, "high": 60.0,
    }  # fmt: skip


def test_the_flops_of_an_own_point_are_those_of_the_runs_that_were_scored(tmp_path):
    write_row(tmp_path / "a", {"rte": [0.5, 0.6]})
    (alone,) = score_panels(read_contents([tmp_path]), read_published())
    # One that is not yet fine-tuned, and one that has not ended, both shorter.
    for seed, ended in ((3, "stop_time_hours"), (4, None)):
        record = json.loads((tmp_path / "a" / "seed1" / "pretraining.json").read_text())
        shorter = [point for point in record["points"] if point["updates"] <= 100]
        record.update(seed=seed, ended=ended, points=shorter, validations=[])
        (tmp_path / "a" / f"seed{seed}").mkdir()
        (tmp_path / "a" / f"seed{seed}" / "pretraining.json").write_text(json.dumps(record))
    contents = read_contents([tmp_path])
    assert [len(group.runs) for group in contents.pretraining] == [4]
    (beside,) = score_panels(contents, read_published())
    assert beside.own[0].flops == alone.own[0].flops
    assert beside.own[0].flops.low == beside.own[0].flops.high


def test_a_row_that_lacks_a_task_of_the_others_is_left_out_and_said(tmp_path):
    for name, taps in (("a", 3), ("b", 5)):
        write_row(tmp_path / name, {"rte": [0.5], "mrpc": [0.7]}, [1], conv_kernel_size=taps)
    write_row(tmp_path / "c", {"cola": [0.1]}, [1])
    (panel,) = score_panels(read_contents([tmp_path]), read_published())
    assert panel.title == "GLUE average (mrpc, rte)"
    assert [point.score.mean for point in panel.own] == [pytest.approx(60)] * 2
    (note,) = panel.notes
    assert note.endswith(": not in the average, for it has no score of mrpc, rte")


def test_published_points_are_means_of_the_same_tasks():
    points = {
        (point.label, point.source): point
        for point in published_glue(read_published(), ["rte", "mrpc"])
    }
    base = points["ConvBERT-base, 4M updates", "paper"]
    assert base.score.mean == pytest.approx((77.9 + 88.3) / 2)
    assert (base.flops.mean, base.set, base.kind) == (7.6e19, TEST, PUBLISHED)
    tiny = points["TinyBERT", "paper"]
    assert (tiny.kind, tiny.at_least) == (DISTILLED, True)
    # What others measured again of the same model is told, and not drawn twice.
    again = points["ConvBERT-base, 4M updates", "paddle"]
    assert again.is_drawn == (again.set == DEV)
    assert points["ELECTRA-small", "electra"].set == DEV


@pytest.mark.parametrize(
    ("scores", "title", "best"),
    [
        ({"exact_match": 60.0, "f1": 70.0}, "SQuAD 1.1, F1", 91.3),
        ({"f1": 70.0, "best_f1": 71.0}, "SQuAD 2.0, F1", 83.9),
    ],
)
def test_squad_stands_beside_the_version_that_it_is_of(tmp_path, scores, title, best):
    write_row(tmp_path, {"squad": [scores]}, [1])
    (panel,) = score_panels(read_contents([tmp_path]), read_published())
    assert (panel.title, panel.own[0].score.mean) == (title, 70.0)
    others = [point for point in panel.points if point.kind != OWN]
    assert {point.set for point in others} == {DEV}
    assert max(point.score.mean for point in others) == best


def test_without_own_scores_nothing_is_shown(tmp_path):
    write_row(tmp_path, {}, [1])
    contents = read_contents([tmp_path])
    assert list(published_sections(contents, {})) == []
    assert published_values(contents) == []


def own(label, flops, score, around=1.0):
    return ScorePoint(
        label, label, OWN, DEV, spread_of([flops]), Spread(score, score - around, score + around), 1
    )


TINY = [
    own("ELECTRA style", 1.94e13, 52.3),
    own("+ bottleneck", 1.78e13, 51.0),
    own("+ span convolution", 1.9e13, 53.6),
    own("+ grouped linear", 1.64e13, 53.1),
    own("+ larger hidden size", 2.3e13, 54.4),
]
SMALL = [own("convbert_small, 200k", 2.6e17, 76.2), own("convbert_small", 1.26e18, 80.4)]
TASKS = ("mnli", "qnli", "qqp", "rte", "sst-2", "mrpc", "cola", "sts-b")


def panel_of(points, tasks=TASKS):
    return ScorePanel("title", list(tasks), [*points, *published_glue(read_published(), tasks)], [])


def drawing_of(panel, width):
    return PanelDrawing(panel, styles_of(point.series for point in panel.own), width)


def are_apart(first, second, by=0.0):
    return (
        first.right <= second.left + by
        or second.right <= first.left + by
        or first.top <= second.bottom + by
        or second.top <= first.bottom + by
    )


@pytest.mark.parametrize("points", [TINY, SMALL], ids=["tiny", "small"])
@pytest.mark.parametrize("tasks", [TASKS, ("rte", "mrpc"), ("sst-2", "sts-b"), ("cola",)])
def test_labels_lie_on_nothing_and_in_the_picture(points, tasks):
    for width in WIDTHS:
        drawing = drawing_of(panel_of(points, tasks), width)
        marks = [drawing.middle(point) for point in drawing.points]
        boxes = [label.box for label in drawing.labels]
        assert len(boxes) == len(drawing.names) >= 9
        for box in boxes:
            assert not any(box.left < x < box.right and box.bottom < y < box.top for x, y in marks)
            assert 0 < box.left < box.right < width
        for first, second in itertools.combinations(boxes, 2):
            assert are_apart(first, second, by=0.01)


def test_what_has_no_name_in_the_picture_has_one_below_it():
    for width in WIDTHS:
        panel = panel_of(TINY)
        drawn = draw_score_flops([panel], styles_of(p.series for p in panel.own), width, "svg")
        texts = [text.strip() for text in ElementTree.fromstring(drawn).itertext() if text.strip()]
        for series in {point.series for point in panel.points if point.kind != OWN}:
            assert any(text.endswith(series) for text in texts), series
        for words in (
            "published: test",
            "published: dev",
            "own runs: dev (filled; bars: all seeds)",
        ):
            assert words in texts
        again = draw_score_flops([panel], styles_of(p.series for p in panel.own), width, "svg")
        assert drawn == again


def test_texts_fit_into_the_places_that_were_found_for_them():
    """As matplotlib's own letters are measured, which are wider than a page's."""
    drawing = drawing_of(panel_of(SMALL), WIDTHS[0])
    with plain():
        figure = Figure((7.5, 4), dpi=72)
        renderer = FigureCanvasAgg(figure).get_renderer()
        for text, label in zip(drawing.names.values(), drawing.labels, strict=True):
            drawn = figure.text(0, 0, text, fontsize=LETTERS).get_window_extent(renderer)
            assert drawn.width / 72 <= (label.box.right - label.box.left) + 1e-9, text


def test_a_label_goes_where_there_is_room():
    frame = Box(0, 0, 4, 2)
    wall = Box(1.1, 0, 4, 2)
    (label,) = place_labels([[Anchor(1, 1, 0.05, 0.5, 0.1)]], [wall], [], frame)
    assert label.box.right <= 0.95 + 1e-9
    # Beside the point itself, without a line.
    assert label.line is None
    # Of two points of one series, that which has room.
    near = [Anchor(3, 1, 0.05, 0.5, 0.1), Anchor(1, 1, 0.05, 0.5, 0.1)]
    (label,) = place_labels([near], [wall], [], frame)
    assert label.anchor.x == 1


def test_labels_of_one_place_lie_around_it():
    anchors = [[Anchor(2, 1, 0.05, 0.6, 0.14)] for _ in range(6)]
    labels = place_labels(anchors, [Box(1.95, 0.95, 2.05, 1.05)], [], Box(0, 0, 4, 2))
    for first, second in itertools.combinations(labels, 2):
        assert are_apart(first.box, second.box, by=0.01)


def test_an_axis_goes_in_order_and_leaves_out_what_is_empty():
    axis = flops_axis([2e13, 3e13, 1e18, 1e19, 1e20, 3e20], gap=0.05)
    first, second = axis.stretches
    # The logarithms, each with 0.22 more, or at least 0.6 in all.
    assert (second.low, second.high) == (
        pytest.approx(18 - 0.22),
        pytest.approx(20.477 + 0.22, abs=1e-3),
    )
    assert first.high - first.low == pytest.approx(0.616, abs=1e-3)
    assert (first.begin, first.end + 0.05, second.end) == (0, second.begin, pytest.approx(1))
    assert first.end - first.begin > 0.2
    shares = [axis.share(np.log10(number)) for number in (2e13, 3e13, 1e18, 1e19, 3e20)]
    assert shares == sorted(shares)
    words = [words for _, _, words in flops_ticks(axis)]
    assert words == ["2 × 10¹³", "10¹⁸", "10¹⁹", "10²⁰"]
    whole = broken_axis([1.0, 2.0], empty=5, added=0.5, least=0, gap=0.1)
    assert [whole.share(number) for number in (0.5, 1.5, 2.5)] == [0, 0.5, 1]
