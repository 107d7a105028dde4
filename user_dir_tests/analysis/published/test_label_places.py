"""Labels beside points: two that would stand side by side leave a space between them."""

import pytest

from convbert_plugin.analysis.published.label_places import Anchor, Box, place_labels

pytestmark = pytest.mark.experiments


def test_labels_side_by_side_are_not_read_as_one():
    # Between the points there is room for both labels, and for hardly anything else.
    points = [Anchor(x, 0, reach=0.3, width=1, height=1) for x in (0, 2.65)]
    marks = [Box(point.x - 0.3, -0.3, point.x + 0.3, 0.3) for point in points]
    first, second = place_labels([[point] for point in points], marks, [], Box(-0.3, -3, 2.95, 3))
    in_one_line = min(first.box.top, second.box.top) > max(first.box.bottom, second.box.bottom)
    assert not in_one_line or second.box.left - first.box.right >= 0.3
    assert first.box.shared(second.box) == 0
