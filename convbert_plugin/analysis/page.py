"""A page that needs no other file: notes, tables, pictures, marked texts; all text is escaped."""

import base64
import hashlib
import re
from typing import Any, Collection, Iterable, Iterator, NamedTuple, Optional, Sequence

from jinja2 import Environment
from markupsafe import Markup, escape

from convbert_plugin.analysis.inline_svg import inline_svg
from convbert_plugin.analysis.page_style import STYLE
from convbert_plugin.analysis.theme import DASHES, MARKERS, NAMES, Style
from convbert_plugin.analysis.words import printable

# The page needs nothing from elsewhere, and browsers can hold it to that.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
# Letters of the columns of a table that needs a wide screen; of a column of words, which wrap, at
# most, and between two.
BREADTHS = {"broad": 105, "middling": 75}
WORDS_LETTERS, GAP_LETTERS = 24, 2
# So many sections are listed at the beginning.
LISTED = 4
TEMPLATE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
{{ style }}</style>
</head>
<body>
{% macro marked(pieces) %}
{% for piece in pieces %}
{% if piece.marks -%}
<mark class="{{ piece.marks | join(" ") }}">{{ piece.text }}</mark>
{%- else %}{{ piece.text }}{% endif %}
{% endfor %}
{% endmacro %}
{% macro introduction_of(section) %}
{% if section.lead %}
<p class="lead">{{ section.lead }}</p>
{% endif %}
{% if section.legend %}
<dl class="legend">
{% for entry in section.legend %}
<dt>{{ entry.style | swatch }}{{ entry.name }}</dt><dd>{{ entry.words | breakable }}</dd>
{% endfor %}
</dl>
{% endif %}
{% endmacro %}
{% macro shown(table) %}
{% if table.summary %}
<details>
<summary>{{ table.summary | named }}</summary>
{% endif %}
<div class="table"><table{{ {"class": table | breadth} | xmlattr }}>
<thead><tr>
{%- for name in table.header %}
<th{% if name in table.numbers %} class="number"{% endif %}>{{ name }}</th>
{%- endfor %}
</tr></thead>
<tbody>
{% for row in table | cells %}
<tr>
{%- for cell in row %}
{% if cell.is_stub %}
<th scope="row"{{ {"class": cell.css_class} | xmlattr }}>{{ cell.shown }}</th>
{%- else %}
<td{{ {"class": cell.css_class, "data-label": cell.name} | xmlattr }}>{{ cell.shown }}</td>
{%- endif %}
{%- endfor %}
</tr>
{% endfor %}
</tbody></table></div>
{% if table.summary %}
</details>
{% endif %}
{% endmacro %}
<header>
<h1>{{ title }}</h1>
<p class="deck">{{ explanation }}</p>
{% if listed | length >= least %}
<nav>
{% for number, name in listed %}
<a href="#section-{{ number }}">{{ name }}</a>
{% endfor %}
</nav>
{% endif %}
</header>
<main>
{% for group in groups %}
{% set first = group[0] %}
<section id="section-{{ loop.index }}"{% if not first.title %} class="plain"{% endif %}>
<div class="rail">
{% if first.title %}
<h2>{{ first.title }}</h2>
{% endif %}
{{ introduction_of(first) -}}
</div>
<div class="content">
{% for section in group %}
{% if not loop.first %}
{{ introduction_of(section) -}}
{% endif %}
{% if section.pictures or section.place %}
<div class="pictures"{{ {"id": section.place or none} | xmlattr }}>
{% for picture in section.pictures %}
<figure>{{ picture | drawn }}</figure>
{% endfor %}
</div>
{% endif %}
{% if section.table %}
{{ shown(section.table) -}}
{% endif %}
{% for paragraph in section.words %}
<p>{{ paragraph }}</p>
{% endfor %}
{% if section.notes %}
<ul class="notes">
{% for note in section.notes %}
<li>{{ note }}</li>
{% endfor %}
</ul>
{% endif %}
{% for passages in section.passages %}
<details>
<summary>{{ passages.summary | named }}</summary>
<p>{{ marked(passages.legend) }}</p>
{% for passage in passages.passages %}
<div class="passage">
<h3>{{ passage.title }}</h3>
<p>
{% for name, words in passage.facts %}
<span class="fact"><span class="name">{{ name }}</span>&nbsp;{{ words }}</span>
{% endfor %}
</p>
<p>{{ marked(passage.pieces) }}</p>
</div>
{% endfor %}
</details>
{% endfor %}
{% endfor %}
</div>
</section>
{% endfor %}
</main>
{% if script %}
<script>{{ script }}</script>
{% endif %}
</body>
</html>
"""


class Table(NamedTuple):
    """Cells of text under a header; ``numbers`` and ``paths`` (which break anywhere): columns.

    With a ``summary`` it is folded away under that. The first columns, ``stubs`` of them, name a
    row: what they share with the row above is shown once.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Collection[str] = ()
    paths: Collection[str] = ()
    summary: str = ""
    stubs: int = 1


class Picture(NamedTuple):
    """A drawing as SVG, what it shows for who cannot see it, and the same for narrow screens."""

    svg: bytes
    description: str
    narrow: bytes = b""


class Entry(NamedTuple):
    """A line of a legend: how something is drawn, its short name, and what it is."""

    style: Optional[Style]
    name: str
    words: str


class Piece(NamedTuple):
    """A part of a text, and how it is marked: by FIRST, SECOND, both or neither."""

    text: str
    marks: Sequence[str] = ()


FIRST, SECOND = "first", "second"


class Passage(NamedTuple):
    """A text in pieces under a title and facts, each a name and words."""

    title: str
    facts: Sequence[tuple[str, str]]
    pieces: Sequence[Piece]


class Passages(NamedTuple):
    """Texts that fold away under their ``summary``, and what the marks in them mean."""

    summary: str
    legend: Sequence[Piece]
    passages: Sequence[Passage]


class Section(NamedTuple):
    """What stands under a title, or without one at the beginning.

    In the order shown: ``lead`` (a sentence), ``legend``, ``pictures``, ``table``, ``words`` (what
    may be concluded, a paragraph each), ``notes``, ``passages``. With a ``place`` its pictures
    stand in an element of that id, where a script may put something else in their stead.
    """

    title: str = ""
    notes: Sequence[str] = ()
    table: Optional[Table] = None
    pictures: Sequence[Picture] = ()
    passages: Sequence[Passages] = ()
    place: str = ""
    lead: str = ""
    legend: Sequence[Entry] = ()
    words: Sequence[str] = ()

    @property
    def is_empty(self) -> bool:
        held = self.notes or self.pictures or self.passages or self.legend or self.words
        return not (held or (self.table and self.table.rows))


class _Cell(NamedTuple):
    name: str
    shown: str
    is_stub: bool
    css_class: Optional[str]


def html_page(title: str, explanation: str, sections: Iterable[Section], script: str = "") -> str:
    """Write the page. Whatever stands in a text stays text.

    The ``script`` runs at its end, and no other does. It is no text: what comes from a file stands
    in it only as JSON in which every "<" is an escape.
    """
    groups = _groups(sections)
    environment = Environment(
        autoescape=True, finalize=_shown, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"cells": _cells, "swatch": _swatch, "drawn": _Drawer()}
    environment.filters |= {"breakable": _breakable, "breadth": _breadth, "named": _named}
    return environment.from_string(TEMPLATE).render(
        title=title,
        explanation=explanation,
        groups=groups,
        listed=[(place, first.title) for place, (first, *_) in enumerate(groups, 1) if first.title],
        least=LISTED,
        policy=_policy(script),
        style=Markup(STYLE),
        script=Markup(script),
    )


def _groups(sections: Iterable[Section]) -> list[list[Section]]:
    """Each section that has a title, with those after it that have none."""
    groups: list[list[Section]] = []
    for section in sections:
        if section.title or not groups:
            groups.append([])
        groups[-1].append(section)
    return groups


def _policy(script: str) -> str:
    if not script:
        return POLICY
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"{POLICY}; script-src 'sha256-{digest}'"


def _shown(value: Any) -> Any:
    # What the template itself has made is Markup, in which all text has gone through here.
    is_text = isinstance(value, str) and not isinstance(value, Markup)
    return printable(value) if is_text else value


def _cells(table: Table) -> Iterator[list[_Cell]]:
    above: Sequence[str] = ()
    for row in table.rows:
        # Of the stubs, those that are as above from the first on.
        shared = next(
            (place for place in range(table.stubs) if row[: place + 1] != above[: place + 1]),
            table.stubs,
        )
        yield [
            _Cell(
                name=printable(name),
                shown=_breakable(text) if name in table.paths else text,
                is_stub=place < table.stubs,
                css_class=_css_class(table, name, is_again=bool(above) and place < shared),
            )
            for place, (name, text) in enumerate(zip(table.header, row, strict=True))
        ]
        above = row


def _breadth(table: Table) -> Optional[str]:
    """The class of a table that needs a wide screen: by the letters that its columns need."""
    needed = sum(
        GAP_LETTERS + _letters(name, [row[place] for row in table.rows], name in table.numbers)
        for place, name in enumerate(table.header)
    )
    return next((name for name, letters in BREADTHS.items() if needed > letters), None)


def _letters(name: str, cells: Sequence[str], is_number: bool) -> int:
    longest = max(map(len, cells), default=0)
    return max([longest if is_number else min(longest, WORDS_LETTERS), *map(len, name.split())])


def _css_class(table: Table, name: str, is_again: bool) -> Optional[str]:
    marks = {"number": name in table.numbers, "path": name in table.paths, "again": is_again}
    return " ".join(mark for mark, holds in marks.items() if holds) or None


def _breakable(text: str) -> Markup:
    """A text that may also break after the parts of a path."""
    parts = re.split("(?<=[/_])", printable(text))
    return Markup("<wbr>").join(parts)


def _named(text: str) -> Markup:
    """A text that may begin with what it is about, and ": "."""
    about, colon, rest = printable(text).partition(": ")
    return (
        Markup("<strong>{}</strong>{}{}").format(about, colon, rest)
        if colon
        else Markup(escape(about))
    )


def _swatch(style: Optional[Style]) -> Markup:
    if style is None:
        return Markup("")
    return Markup(
        '<svg viewBox="-17 -5 34 10" aria-hidden="true" style="stroke:var(--{0})">'
        '<path d="M-16 0H16" style="stroke-width:1.8;stroke-dasharray:{1}"/>'
        '<path d="{2}" style="fill:var(--{0});stroke:none"/></svg>'
    ).format(NAMES[style.color], DASHES[style.line], MARKERS[style.marker])


class _Drawer:
    """Puts pictures into a page, the parts of each under names of their own."""

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self, picture: Picture) -> Markup:
        kinds = {"wide": picture.svg, "narrow": picture.narrow}
        self.drawn += 1
        return Markup("").join(
            inline_svg(svg, picture.description, kind, f"p{self.drawn}{kind[0]}")
            for kind, svg in kinds.items()
            if svg
        )
