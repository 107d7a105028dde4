"""What the report tells of published numbers: beside own scores, against FLOPs and in tables."""

from typing import Any, Iterator, Optional, Sequence

from convbert_plugin.analysis.contents import Contents
from convbert_plugin.analysis.drawing import pictures
from convbert_plugin.analysis.page import Entry, Section, Table
from convbert_plugin.analysis.published.flops_picture import draw_score_flops
from convbert_plugin.analysis.published.published_results import Published, read_published
from convbert_plugin.analysis.published.score_flops import (
    DISTILLED,
    OWN,
    SQUAD,
    ScorePanel,
    ScorePoint,
    score_panels,
)
from convbert_plugin.analysis.quantities import Spread, in_powers, in_thousands
from convbert_plugin.analysis.theme import Styles
from convbert_plugin.analysis.words import ABSENT

TITLE = "Score against FLOPs, beside published numbers"
LEAD = (
    "Own scores are of the development set, most published ones of the test set, which is another "
    "one: they show the order of things, and decide no point."
)
NOTES = (
    "FLOPs of own runs are counted as the published ones are (convbert profile, the authors' "
    "convention). Those of distilled models have their teacher's among them. A line leads from a "
    "model to the same trained longer. Rerun: measured by others than the model's authors.",
    "Two strokes leave out a part of an axis where nothing is; what is on both sides of them has a "
    "scale of its own.",
    "FLOPs and parameters are as printed: by the formulas, ELECTRA-small takes 1.29 × 10¹⁸.",
)
SUMMARY = "In numbers: {title}"


def published_sections(contents: Contents, styles: Styles) -> Iterator[Section]:
    """The picture, and a table for each panel, folded away; nothing without own scores."""
    published = read_published()
    panels = score_panels(contents, published)
    drawn = [panel for panel in panels if any(point.is_drawn for point in panel.own)]
    if not panels:
        return
    notes = [
        *NOTES,
        *(note for panel in panels for note in panel.notes),
        *_sources(published, panels),
    ]

    def draw(width: float, image_format: str) -> bytes:
        return draw_score_flops(drawn, styles, width, image_format)

    titles = ", ".join(panel.title for panel in drawn)
    shown = [pictures(draw, f"Scores over FLOPs of pretraining: {titles}")] if drawn else []
    own = dict.fromkeys(point.series for panel in drawn for point in panel.own if point.is_drawn)
    legend = [Entry(styles[series], series, "") for series in own]
    first, *others = panels
    yield Section(TITLE, notes, table_of(first), shown, lead=LEAD, legend=legend)
    yield from (Section(table=table_of(panel)) for panel in others)


def _sources(published: Published, panels: Sequence[ScorePanel]) -> Iterator[str]:
    used = {point.source for panel in panels for point in panel.points}
    for name, source in published.sources.items():
        if name in used:
            yield f"Source “{name}”: {source.title} ({source.address}), read {source.read}."


def table_of(panel: ScorePanel) -> Table:
    """All points of a panel, folded away."""
    tasks = panel.tasks if len(panel.tasks) > 1 else []
    score = "F1" if panel.tasks == [SQUAD] else "score"
    header = ["model", "set", score, "FLOPs", "parameters", *tasks, "source"]
    rows = [
        [
            point.label,
            point.set,
            _score_words(point),
            _flops_words(point),
            ABSENT if point.parameters is None else in_thousands(point.parameters),
            *(_number(point.scores.get(task)) for task in tasks),
            _source_words(point),
        ]
        for point in panel.points
    ]
    numbers = {score, "FLOPs", "parameters", *tasks}
    return Table(header, rows, numbers, summary=SUMMARY.format(title=panel.title))


def _score_words(point: ScorePoint) -> str:
    return point.score.words(_number)


def _number(value: Optional[float]) -> str:
    return ABSENT if value is None else f"{value:.1f}"


def _flops_words(point: ScorePoint) -> str:
    if point.flops is None:
        return ABSENT
    return f"{'≥ ' if point.at_least else ''}{point.flops.words(in_powers)}"


def _source_words(point: ScorePoint) -> str:
    words = ["own runs" if point.kind == OWN else point.source]
    if point.kind == DISTILLED:
        words.append("distilled")
    if point.is_rerun:
        words.append("rerun")
    return ", ".join(words)


def published_values(contents: Contents) -> list[dict[str, Any]]:
    """The panels and their points, in full precision."""
    panels = score_panels(contents, read_published())
    return [
        {
            "title": panel.title,
            "tasks": panel.tasks,
            "points": [_point_values(point) for point in panel.points],
        }
        for panel in panels
    ]


def _point_values(point: ScorePoint) -> dict[str, Any]:
    def spread(value: Optional[Spread]) -> Optional[dict[str, float]]:
        return value and value._asdict()

    return {
        **point._asdict(),
        "flops": spread(point.flops),
        "score": spread(point.score),
        "scores": dict(point.scores),
    }
