"""The picture of compared rows: dots, means and the reference where the numbers are."""

import numpy as np
import pytest

from convbert_plugin.analysis import comparison_pictures
from convbert_plugin.analysis.comparison_pictures import draw_rows
from convbert_plugin.analysis.contents import read_contents
from convbert_plugin.analysis.drawing import NARROW, WIDE, plain
from convbert_plugin.analysis.report_files import styles_in
from convbert_plugin.analysis.row_sets import row_sets
from user_dir_tests.analysis.recorded_runs import write_rows

pytestmark = pytest.mark.experiments


@pytest.fixture
def picture(tmp_path, monkeypatch):
    """The figure of the rows of a grid, of a width."""
    contents = read_contents([write_rows(tmp_path)])
    (rows,) = row_sets(contents)
    monkeypatch.setattr(comparison_pictures, "image_of", lambda figure, image_format: figure)
    return lambda width: draw_rows(rows, styles_in(contents), width, "svg")


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_dots_are_seeds_beside_their_mean_and_that_of_the_reference(picture, width):
    figure = picture(width)
    _, accuracy = figure.axes
    titles = [text.get_text() for text in figure.texts if text.get_weight() == "bold"]
    assert titles == ["discriminator AUC", "rte accuracy"]
    dots, mean, reference, *others = [np.asarray(line.get_xdata()) for line in accuracy.get_lines()]
    np.testing.assert_allclose(dots, [50, 54, 52])
    np.testing.assert_allclose(mean, [52, 52])
    np.testing.assert_allclose(reference, [52, 52])
    np.testing.assert_allclose(others[0], [52, 53, 56])
    np.testing.assert_allclose(others[1], [161 / 3] * 2)
    assert len(others) == 4


def numbers_in(axes):
    """The numbers that lie in the panel."""
    low, high = axes.get_xlim()
    ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    return [label for place, label in ticks if low <= place <= high and label.get_text()]


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_nothing_is_cut_off_and_nothing_overlaps(picture, width):
    figure = picture(width)
    with plain():
        figure.draw_without_rendering()
        numbers = [number for axes in figure.axes for number in numbers_in(axes)]
        texts = [*figure.texts, *numbers]
        boxes = [text.get_window_extent() for text in texts]
    # Titles, the names of the rows (beside each other's panels once), the key and some numbers.
    assert len(boxes) >= 2 + 3 + 3 + 4
    for number, box in enumerate(boxes):
        assert figure.bbox.containsx(box.x0)
        assert figure.bbox.containsx(box.x1)
        assert figure.bbox.containsy(box.y0)
        assert figure.bbox.containsy(box.y1)
        assert not any(box.overlaps(other) for other in boxes[:number])
