"""Places for labels beside the points that they name, where nothing else stands."""

import math
from typing import Iterator, NamedTuple, Optional, Sequence

# Directions in which a label may stand from its point, in degrees, the best first; and how many
# heights of a line away.
DIRECTIONS = (0, 180, 30, 330, 150, 210, 60, 300, 120, 240, 90, 270)
DISTANCES = (0.0, 0.5, 1.0, 1.75, 2.5, 3.5, 5.0)
ROUNDS = 8
# In heights: what a label that is hidden costs, a line through a label, and one across another.
HIDDEN, STRUCK, CROSSED = 500.0, 30.0, 10.0
# A label that is further from its point is no help; of its area, a little may be hidden.
FAR, MAY_BE_HIDDEN = 4.0, 0.03
# In heights: nearer beside each other two labels, which may be numbers, are read as one.
SPACE = 0.4
# Of a line, the points that are looked at.
STEPS = 12
# From how many heights on a line leads from the label to its point.
LED = 0.5


class Box(NamedTuple):
    """A rectangle, from its left lower corner to its right upper one."""

    left: float
    bottom: float
    right: float
    top: float

    @property
    def area(self) -> float:
        return (self.right - self.left) * (self.top - self.bottom)

    def shared(self, other: "Box") -> float:
        """The area that both have."""
        width = min(self.right, other.right) - max(self.left, other.left)
        if width <= 0:
            return 0.0
        return width * max(0.0, min(self.top, other.top) - max(self.bottom, other.bottom))

    def with_space(self, width: float) -> "Box":
        """With so much more at its left and at its right."""
        return self._replace(left=self.left - width, right=self.right + width)

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """Its point that is nearest to another one."""
        return min(max(x, self.left), self.right), min(max(y, self.bottom), self.top)


class Anchor(NamedTuple):
    """A point to be named: where it is, how far its mark reaches, and the size of its label."""

    x: float
    y: float
    reach: float
    width: float
    height: float

    def boxes(self) -> Iterator[tuple[float, Box]]:
        """Where its label may stand, each with how far away that is, in heights."""
        for distance in DISTANCES:
            for number, direction in enumerate(DIRECTIONS):
                away = self.reach + distance * self.height
                angle = math.radians(direction)
                x, y = math.cos(angle), math.sin(angle)
                # The corner or the middle of the edge that faces the point.
                left = self.x + x * away - _share_before(x) * self.width
                bottom = self.y + y * away - _share_before(y) * self.height
                box = Box(left, bottom, left + self.width, bottom + self.height)
                yield self.distance(box) + 0.02 * number, box

    def distance(self, box: Box) -> float:
        """From the edge of its mark to a box, in heights."""
        way = math.dist((self.x, self.y), box.nearest(self.x, self.y)) - self.reach
        return max(0.0, way) / self.height


def _share_before(along: float) -> float:
    """Of a label, what stands on this side of its place: ``along``, of the way that is one."""
    return 0.5 if abs(along) < 0.3 else float(along < 0)


Line = tuple[tuple[float, float], tuple[float, float]]


class Label(NamedTuple):
    """Where a label stands, for which of its points, and the line to that where it is far."""

    box: Box
    anchor: Anchor

    @property
    def line(self) -> Optional[Line]:
        """From the edge of the mark to the label."""
        anchor = self.anchor
        if anchor.distance(self.box) < LED:
            return None
        end = self.box.nearest(anchor.x, anchor.y)
        share = anchor.reach / math.dist((anchor.x, anchor.y), end)
        begin = anchor.x + share * (end[0] - anchor.x), anchor.y + share * (end[1] - anchor.y)
        return begin, end


def place_labels(
    anchors: Sequence[Sequence[Anchor]], marks: Sequence[Box], lines: Sequence[Box], frame: Box
) -> list[Label]:
    """A place for each label: in the frame, on no mark and on no other label where that can be.

    ``anchors``: of each label the points that it may stand at. ``marks``: those of all points;
    ``lines``: what else no label should hide, in pieces. The nearest places are taken, each label
    in turn, until none gains by another.
    """
    costs = [
        sorted(_choices(each, marks, [*marks, *lines], frame), key=lambda pair: pair[0])
        for each in anchors
    ]
    places: list[Optional[Label]] = [None] * len(anchors)
    for _ in range(ROUNDS):
        before = list(places)
        for number, each in enumerate(costs):
            others = [label for label in places if label and label is not places[number]]
            best, chosen = math.inf, places[number]
            for cost, label in each:
                # No other label makes it cheaper.
                if cost >= best:
                    break
                total = cost + _beside(label, others)
                if total < best:
                    best, chosen = total, label
            places[number] = chosen
        if places == before:
            break
    return [label for label in places if label]


def _choices(
    anchors: Sequence[Anchor], marks: Sequence[Box], fixed: Sequence[Box], frame: Box
) -> Iterator[tuple[float, Label]]:
    """Where a label may stand, and what that costs by itself."""
    for anchor in anchors:
        for away, box in anchor.boxes():
            label = Label(box, anchor)
            struck = sum(_passes(label.line, mark) for mark in marks) if label.line else 0
            yield away + HIDDEN * _hidden(box, fixed, frame) + STRUCK * struck, label


def are_readable(labels: Sequence[Label], marks: Sequence[Box], frame: Box) -> bool:
    """Whether each is near its point, in the frame, and on no mark and no other label."""
    return all(
        label.anchor.distance(label.box) <= FAR
        and _hidden(label.box, [*marks, *(one.box for one in labels if one is not label)], frame)
        <= MAY_BE_HIDDEN
        for label in labels
    )


def _hidden(box: Box, marks: Sequence[Box], frame: Box) -> float:
    """The share of a box that is outside of the frame or on marks."""
    return (box.area - box.shared(frame) + sum(map(box.shared, marks))) / box.area


def _beside(label: Label, others: Sequence[Label]) -> float:
    """What a place costs for the labels that have one."""
    line = label.line
    cost = 0.0
    for other in others:
        wider = label.box.with_space(SPACE * label.anchor.height)
        cost += HIDDEN * wider.shared(other.box) / label.box.area
        other_line = other.line
        cost += CROSSED * _cross(line, other_line)
        cost += STRUCK * (_passes(line, other.box) + _passes(other_line, label.box))
    return cost


def _passes(line: Optional[Line], box: Box) -> bool:
    """Whether a line goes through a box."""
    if line is None:
        return False
    (x1, y1), (x2, y2) = line
    return any(
        box.left < x1 + (x2 - x1) * step / STEPS < box.right
        and box.bottom < y1 + (y2 - y1) * step / STEPS < box.top
        for step in range(STEPS)
    )


def _cross(first: Optional[Line], second: Optional[Line]) -> bool:
    if first is None or second is None:
        return False
    (a, b), (c, d) = first, second
    return _side(a, b, c) != _side(a, b, d) and _side(c, d, a) != _side(c, d, b)


def _side(begin: tuple[float, float], end: tuple[float, float], point: tuple[float, float]) -> bool:
    """On which side of a line a point is."""
    return (end[0] - begin[0]) * (point[1] - begin[1]) > (end[1] - begin[1]) * (point[0] - begin[0])
