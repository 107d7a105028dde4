"""What pretraining is said to have cost, worked by hand and beside profiles."""

import json

import pytest

from convbert_plugin.analysis.pretraining.pretraining_costs import (
    cost_sections,
    cost_values,
    hardware,
    last_place,
    places,
    run_flops,
)
from convbert_plugin.analysis.profiling.profiles import profile_of
from convbert_plugin.analysis.profiling.subjects import subject_of
from user_dir_tests.analysis.pretraining.made_runs import (
    PROFILED,
    made_group,
    made_run,
    point,
    validation,
)

pytestmark = pytest.mark.experiments


def section_of(*groups):
    (section,) = cost_sections(groups)
    return section


def cells_of(section):
    """The rows of its table, by their first cells and the header."""
    header = section.table.header
    return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in section.table.rows}


def profile():
    return profile_of(subject_of(PROFILED, {}))


def test_places_between_points_lie_on_lines():
    run = made_run(points=[point(10), point(30)])
    assert places(run, "tokens", [5, 10, 20, 30]).tolist() == [288, 576, 1152, 1728]
    assert places(run, "seconds", [0, 20, 99]).tolist() == [0, 10, 15]
    assert places(made_run(), "tokens", [1]) is None
    assert last_place(made_run(), "updates") is None


def test_slots_after_the_last_point_are_told_by_tokens():
    # 100 tokens in 200 places, and 50 more tokens until the validation at the end.
    points = [{"updates": 4, "tokens": 100, "slots": 200, "seconds": 1.0}]
    validations = [{"subset": "valid", "updates": 6, "tokens": 150, "seconds": 2.0}]
    run = made_run(points=points, validations=validations)
    assert last_place(run, "slots") == 300
    assert places(run, "slots", [2, 5]).tolist() == [100, 250]


def test_flops_of_full_batches_are_those_of_the_profile():
    group = made_group("row", made_run(points=[point(50), point(100)]))
    values = cost_values([group])["row"]
    counted = profile()
    for convention in ("usual", "authors"):
        training = counted["flops"][convention]["training"]
        assert values["flops"][convention] == [pytest.approx(training, rel=1e-12)]
    assert values["parameters"] == {
        "encoder": counted["parameters"]["encoder"],
        "trained": counted["parameters"]["all"],
    }
    assert values["memory"] == counted["memory"]
    assert run_flops(group.runs[0], None, "authors") is None


def test_a_table_worked_by_hand():
    first = made_run(1, [point(50), point(100)])
    second = made_run(2, [point(100) | {"seconds": 60.0}])
    cells = cells_of(section_of(made_group("row", first, second)))["row"]
    counted = profile()
    assert cells["runs"] == "2"
    assert cells["updates"] == "100"
    # 0.9 x 64 x 100.
    assert cells["tokens"] == "5,760"
    assert cells["time"] == "55.0 s (50.0 s – 60.0 s)"
    # The mean of 5760 / 50 and 5760 / 60.
    assert cells["tokens a second"] == "106 (96.0 – 115)"
    digits, exponent = f"{counted['flops']['authors']['training']:.2e}".split("e+")
    assert cells["FLOPs"] == f"{digits} × 10{exponent.translate(str.maketrans('0123', '⁰¹²³'))}"
    assert cells["parameters"] == f"{counted['parameters']['encoder']:,}"
    assert cells["memory, at most"] == f"{counted['memory']['peak'] / 2**20:,.0f} MiB"


def test_hardware_is_a_column_where_it_differs():
    slow, fast = (
        made_run(1, [point(9)]),
        made_run(1, [point(9)], environment={"gpu": "NVIDIA H100"}),
    )
    together = section_of(made_group("a", slow), made_group("b", slow))
    assert "hardware" not in together.table.header
    assert "Trained on: A Processor, 8 CPUs, 2 threads." in together.notes
    apart = cells_of(section_of(made_group("a", slow), made_group("b", fast)))
    assert apart["b"]["hardware"] == "NVIDIA H100"
    several = made_run(environment={"gpu": "NVIDIA H100", "world_size": 8})
    assert hardware(several) == "8 × NVIDIA H100"
    assert hardware(made_run(environment={})) == "–"


@pytest.mark.parametrize(
    ("changes", "absent", "words"),
    [
        (
            {"model": {"conv_type": "wide"}},
            ("FLOPs", "parameters", "trained", "memory, at most"),
            "row: FLOPs, parameters and memory are not counted: conv_type takes one of",
        ),
        (
            {"settings": {"optimizer": "adafactor"}},
            ("memory, at most",),
            "row: memory is not counted for the optimizer 'adafactor'",
        ),
        (
            {"start": {"kind": "converted", "checkpoint": "x", "updates": 0, "objective": None}},
            (),
            "row: what its runs began from is not counted",
        ),
        ({"ended": None}, (), "row: not at its end (seed 1): counted as far as it has come"),
    ],
)
def test_what_is_not_counted_is_said(changes, absent, words):
    section = section_of(made_group("row", made_run(points=[point(9)], **changes)))
    assert any(note.startswith(words) for note in section.notes)
    cells = cells_of(section)["row"]
    assert {name for name, cell in cells.items() if cell == "–"} == set(absent)


def test_a_run_without_numbers_costs_nothing_that_is_known():
    section = section_of(made_group("row", made_run()))
    cells = cells_of(section)["row"]
    unknown = ("updates", "tokens", "FLOPs", "time", "tokens a second")
    assert {cells[name] for name in unknown} == {"–"}


def test_times_stand_under_their_names_alone():
    """So that two runs that are equal have the same values but for these."""
    runs = [
        made_run(points=[point(10) | {"seconds": seconds}], validations=[validation(10)])
        for seconds in (3.0, 4.0)
    ]
    values = [cost_values([made_group("row", run)])["row"] for run in runs]
    changed = {name for name in values[0] if values[0][name] != values[1][name]}
    assert changed == {"seconds", "wps"}
    assert json.loads(json.dumps(values)) == values


def test_without_pretraining_there_is_no_cost():
    assert list(cost_sections([])) == []
