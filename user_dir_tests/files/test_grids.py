"""grid.json: what is written is read, and what is no grid is refused."""

import json

import pytest

from convbert_plugin.errors import UserError
from convbert_plugin.files.grids import Grid, GridRow, read_grid, write_grid

pytestmark = pytest.mark.experiments

ROWS = (GridRow("ELECTRA style", "electra_style", 5, 7), GridRow("+ bottleneck", "none", 4, 6))
GRID = Grid("a", "Table 1", ROWS, "ELECTRA style")
OTHER = Grid("options", "No change", ROWS[:1], "ELECTRA style", same_results=True, note="fp32")


def test_what_is_written_is_read(tmp_path):
    write_grid(tmp_path, [GRID, OTHER])
    assert read_grid(tmp_path) == (GRID, OTHER)
    assert json.loads((tmp_path / "grid.json").read_text())["grids"][0]["rows"][1] == {
        **{"name": "+ bottleneck", "folder": "none"},
        **{"parameters": 4, "trained": 6},
    }


@pytest.mark.parametrize(
    ("grids", "words"),
    [
        ([GRID, GRID], "two grids are called 'a': give each a name of its own"),
        ([GRID._replace(rows=ROWS[:1] * 2)], "two rows are called 'ELECTRA style'"),
        (
            [GRID._replace(rows=(ROWS[0], ROWS[1]._replace(folder="electra_style")))],
            "two rows have the folder 'electra_style'",
        ),
        (
            [GRID._replace(reference="none")],
            "no row is called 'none', its reference: name one of its rows",
        ),
        ([GRID._replace(rows=(ROWS[0]._replace(folder="a/b"),))], "'a/b' is no name of a folder"),
        (
            [GRID._replace(rows=(ROWS[0]._replace(folder=".."),))],
            "'..' is no name of a folder: name one that lies beside",
        ),
        ([GRID._replace(rows=(ROWS[0]._replace(folder=""),))], "'' is no name of a folder"),
    ],
)
def test_names_that_clash_are_refused(tmp_path, grids, words):
    with pytest.raises(UserError, match=words):
        write_grid(tmp_path, grids)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"format": 2, "grids": []}', "format 2, and this version reads 1"),
        ('{"format": 1, "grids": [{"name": "a"}]}', "damaged, or not of a grid"),
        ('{"format": 1, "grids": 1}', "damaged, or not of a grid"),
        ("[]", "not a JSON object"),
    ],
)
def test_what_is_no_grid_is_told_in_one_line(tmp_path, content, words):
    (tmp_path / "grid.json").write_text(content)
    with pytest.raises(UserError, match=words) as told:
        read_grid(tmp_path)
    assert str(tmp_path / "grid.json") in str(told.value)
    assert "\n" not in str(told.value)
