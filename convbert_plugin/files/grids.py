"""What the runs of a folder were made to compare: ``grid.json``, written by examples/ablations."""

from pathlib import Path
from typing import Iterator, NamedTuple, Optional, Sequence

from convbert_plugin.errors import UserError, shown
from convbert_plugin.files.json_files import read_json_object, typed, write_json
from convbert_plugin.files.text_files import PathLike

GRID_FILE = "grid.json"
FORMAT = 1
# Of each run of a row, in the row's folder: what was fine-tuned from it lies below.
SEED_FOLDER = "seed{seed}"


class GridRow(NamedTuple):
    """One model of a comparison; what it is trained as stands in the records of its runs.

    ``folder``: a name in the folder of grid.json; rows of two grids may share one.
    ``parameters``: of the encoder, by which models are compared; ``trained``: of all that
    pretraining trains, the generator and the heads among them.
    """

    name: str
    folder: str
    parameters: int
    trained: int


class Grid(NamedTuple):
    """The rows that one table compares, each with the one that ``reference`` names.

    ``same_results``: the rows differ in what must not change a result. ``note``: what is to be
    known of the comparison, None where there is nothing.
    """

    name: str
    title: str
    rows: tuple[GridRow, ...]
    reference: str
    same_results: bool = False
    note: Optional[str] = None


class _Content(NamedTuple):
    format: int
    grids: tuple[Grid, ...]


def read_grid(folder: PathLike) -> tuple[Grid, ...]:
    """The grids of the runs in ``folder``, in their order.

    Raises:
        UserError: damaged, of a later version, names that clash, or it cannot be read.
    """
    path = Path(folder) / GRID_FILE
    content = read_json_object(path)
    if content.get("format") != FORMAT:
        raise UserError(
            f"{path}: format {shown(content.get('format'))}, and this version reads {FORMAT}: "
            "read it with the version that wrote it"
        )
    try:
        grids = typed(_Content, content).grids
    except (ValueError, OverflowError):
        raise UserError(f"{path}: damaged, or not of a grid: remove it") from None
    check_grids(grids, path)
    return grids


def write_grid(folder: PathLike, grids: Sequence[Grid]) -> None:
    """Write them, whole or not at all. Raises UserError: names that clash; else ``whole_file``."""
    path = Path(folder) / GRID_FILE
    check_grids(grids, path)
    content = [{**grid._asdict(), "rows": [row._asdict() for row in grid.rows]} for grid in grids]
    write_json(path, {"format": FORMAT, "grids": content})


def check_grids(grids: Sequence[Grid], source: object) -> None:
    """Raise UserError, which names ``source``: one name for two things, or one of nothing."""
    for problem in _clashes(grids):
        raise UserError(f"{source}: {problem}")


def _clashes(grids: Sequence[Grid]) -> Iterator[str]:
    """What is wrong with the names, and what to do."""
    own = "give each a name of its own"
    for name in _twice([grid.name for grid in grids]):
        yield f"two grids are called {shown(name)}: {own}"
    for grid in grids:
        rows = [row.name for row in grid.rows]
        for name in _twice(rows):
            yield f"grid {grid.name}: two rows are called {shown(name)}: {own}"
        for folder in _twice([row.folder for row in grid.rows]):
            yield f"grid {grid.name}: two rows have the folder {shown(folder)}: {own}"
        if grid.reference not in rows:
            yield (
                f"grid {grid.name}: no row is called {shown(grid.reference)}, its reference: name "
                "one of its rows"
            )
        for row in grid.rows:
            if row.folder in ("", "..") or Path(row.folder).name != row.folder:
                yield (
                    f"grid {grid.name}: {shown(row.folder)} is no name of a folder: name one that "
                    f"lies beside {GRID_FILE}"
                )


def _twice(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
