"""Curves of pretraining: means and ranges worked by hand, and what is drawn of them."""

from xml.etree import ElementTree

import numpy as np
import pytest

from convbert_plugin.analysis.page import html_page
from convbert_plugin.analysis.pretraining.curve_pictures import (
    MOST_ROWS,
    axis_unit,
    draw_pretraining,
    shown_rows,
    value_limits,
)
from convbert_plugin.analysis.pretraining.pretraining_curves import (
    MOST_POINTS,
    RunCurve,
    curve_panels,
    curve_sections,
)
from convbert_plugin.analysis.profiling.profiles import profile_of
from convbert_plugin.analysis.profiling.subjects import subject_of
from convbert_plugin.analysis.theme import styles_of
from user_dir_tests.analysis.pretraining.made_runs import (
    PROFILED,
    made_group,
    made_run,
    point,
    validation,
)

pytestmark = pytest.mark.experiments

LOSS = "generator_loss"


def losses(*pairs):
    return [point(updates, generator_loss=loss) for updates, loss in pairs]


def curve_over(group, over):
    (curve,) = (
        curve
        for panel in curve_panels([group])
        if (panel.metric, panel.over) == ("generator loss", over)
        for curve in panel.curves
    )
    return curve


def told(points):
    return [(one.at, one.values.mean, one.values.low, one.values.high) for one in points]


def test_mean_and_range_of_runs_that_recorded_at_the_same_updates():
    group = made_group(
        "row", made_run(1, losses((10, 4.0), (20, 3.0))), made_run(2, losses((10, 5.0), (20, 2.0)))
    )
    assert told(curve_over(group, "updates").line) == [(10, 4.5, 4, 5), (20, 2.5, 2, 3)]


def test_between_points_a_run_is_on_a_line_and_beyond_its_ends_it_is_not_counted():
    group = made_group(
        "row", made_run(1, losses((10, 1.0), (30, 3.0))), made_run(2, losses((20, 4.0), (40, 8.0)))
    )
    # At 20: 2 and 4. At 30: 3 and 6.
    assert told(curve_over(group, "updates").line) == [
        *((10, 1, 1, 1), (20, 3, 2, 4), (30, 4.5, 3, 6), (40, 8, 8, 8)),
    ]


def test_over_time_runs_stand_at_the_mean_of_their_times():
    slow = [one | {"seconds": 9.0} for one in losses((10, 4.0))]
    group = made_group("row", made_run(1, losses((10, 2.0))), made_run(2, slow))
    # After 5 and 9 seconds.
    assert told(curve_over(group, "seconds").line) == [(7, 3, 2, 4)]


def test_over_flops_runs_stand_where_the_profile_has_them():
    group = made_group("row", made_run(1, losses((50, 4.0), (100, 3.0))))
    training = profile_of(subject_of(PROFILED, {}))["flops"]["authors"]["training"]
    at = [one.at for one in curve_over(group, "flops").line]
    assert at == pytest.approx([training / 2, training])


def test_held_out_numbers_are_of_runs_validated_after_the_same_updates():
    first = [validation(10, generator_loss=4.0), validation(20, generator_loss=3.0)]
    second = [validation(10, generator_loss=6.0), validation(25, generator_loss=1.0)]
    other = [validation(10, "valid1", generator_loss=9.0)]
    group = made_group(
        "row", made_run(1, losses((5, 7.0)), first), made_run(2, losses((5, 7.0)), second + other)
    )
    curve = curve_over(group, "updates")
    assert told(curve.held_out) == [(10, 5, 4, 6), (20, 3, 3, 3), (25, 1, 1, 1)]


def test_the_table_of_held_out_text_is_of_runs_that_have_ended():
    ended = [made_run(seed, validations=[validation(20, generator_loss=seed)]) for seed in (3, 5)]
    begun = made_run(7, [point(5)], [validation(10, generator_loss=9.0)], ended=None)
    groups = [made_group("row", *ended, begun), made_group("begun", begun)]
    *_, section = curve_sections(groups, styles_of(["row", "begun"]))
    told = [(row[0], row[1], row[2]) for row in section.table.rows]
    assert told == [("row", "2", "4.000 (3.000 – 5.000)"), ("begun", "1", "9.000")]


@pytest.mark.parametrize("number", [1, MOST_POINTS, MOST_POINTS + 1, 1003])
def test_of_many_points_neighbours_are_drawn_as_their_means(number):
    values = np.random.default_rng(number).random(number)
    curve = RunCurve(made_run(), np.arange(1.0, number + 1), values).thinned()
    together = -(-number // MOST_POINTS)
    expected = [
        sum(values[first : first + together]) / len(values[first : first + together])
        for first in range(0, number, together)
    ]
    assert curve.values.tolist() == pytest.approx(expected)
    assert len(curve.updates) <= MOST_POINTS
    assert curve.updates[0] == pytest.approx((1 + min(together, number)) / 2)


def test_panels_are_of_what_the_objectives_log():
    bert = made_run(1, [point(10, masked_lm_loss=6.0, loss=6.0)], objective="masked_lm")
    groups = [made_group("a", made_run(1, losses((10, 4.0)))), made_group("b", bert)]
    panels = [(panel.metric, panel.over) for panel in curve_panels(groups)]
    assert panels == [
        (metric, over)
        for metric in ("generator loss", "masked-LM loss")
        for over in ("updates", "tokens", "flops", "seconds")
    ]


def test_without_a_profile_there_is_no_panel_over_flops_and_it_is_said():
    run = made_run(1, losses((10, 4.0)), model={"conv_type": "wide"})
    groups = [made_group("row", run)]
    assert "flops" not in {panel.over for panel in curve_panels(groups)}
    (section,) = curve_sections(groups, styles_of(["row"]))
    (note,) = section.notes
    assert note.startswith("row: not over FLOPs, which are not counted: conv_type takes one of")


def test_without_points_there_is_one_line():
    groups = [made_group("row", made_run(7))]
    (section,) = curve_sections(groups, styles_of(["row"]))
    assert section.notes == ["row: no curve of seed 7: its record holds no numbers yet"]
    assert (section.pictures, section.table, section.lead) == ((), None, "")
    assert section.notes[0] in html_page("", "", [section])
    assert list(curve_sections([], {})) == []


def rows(number):
    """The later, the better: by their last loss."""
    return [
        made_group(f"row {place}", made_run(1, losses((10, 9.0), (20, 8.0 - place / 10))))
        for place in range(number)
    ]


def test_of_too_many_rows_the_first_the_best_and_the_worst_stand_out():
    few, many = rows(MOST_ROWS), rows(30)
    assert len(shown_rows(curve_panels(few))) == MOST_ROWS
    assert shown_rows(curve_panels(many)) == [f"row {place}" for place in (0, 29, 28, 27, 1)]
    (section,) = curve_sections(many, styles_of(group.label for group in many))
    assert [entry.name for entry in section.legend][-1] == "25 others"
    assert len(section.table.rows) == 30


def test_of_auc_the_highest_is_the_best():
    groups = [
        made_group(f"row {place}", made_run(1, [point(10, discriminator_auc=0.5 + place / 100)]))
        for place in range(MOST_ROWS + 1)
    ]
    assert shown_rows(curve_panels(groups))[1] == f"row {MOST_ROWS}"


@pytest.mark.parametrize(
    ("over", "largest", "size", "words"),
    [
        ("updates", 900, 1, "updates"),
        ("updates", 2000, 1e3, "thousand updates"),
        ("tokens", 3.2e9, 1e9, "billion tokens"),
        ("flops", 1.9e19, 1e19, "10¹⁹ FLOPs"),
        ("seconds", 90, 1, "seconds"),
        ("seconds", 600, 60, "minutes"),
        ("seconds", 4 * 3600, 3600, "hours"),
        ("seconds", 12 * 86400, 86400, "days"),
    ],
)
def test_axes_are_in_words(over, largest, size, words):
    assert axis_unit(over, largest) == (size, words)


def test_the_steep_beginning_does_not_set_the_scale():
    run = made_run(1, losses((1, 100.0), *((updates, 5.0) for updates in range(30, 60)), (60, 4.0)))
    low, high = value_limits(curve_panels([made_group("row", run)]))
    # A margin of 0.06 around 4 to 5.
    assert (low, high) == (pytest.approx(3.94), pytest.approx(5.06))


@pytest.mark.parametrize("width", [7.5, 3.4])
def test_a_picture_says_what_its_axes_are(width):
    groups = [made_group("row", made_run(1, losses((1000, 5.0), (2000, 4.0))))]
    panels = curve_panels(groups)
    drawn = draw_pretraining(panels, styles_of(["row"]), width, "svg")
    texts = "".join(ElementTree.fromstring(drawn).itertext())
    for words in ("generator loss", "thousand updates", "thousand tokens", "minutes", "FLOPs"):
        assert words in texts
    assert drawn == draw_pretraining(panels, styles_of(["row"]), width, "svg")
