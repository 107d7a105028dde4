"""A page that needs no other file: notes, tables, pictures, marked texts; all text is escaped."""

import base64
import hashlib
from typing import Any, Collection, Iterable, NamedTuple, Optional, Sequence

from jinja2 import Environment
from markupsafe import Markup

from convbert_plugin.analysis.words import printable

# The page needs nothing from elsewhere, and browsers can hold it to that.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
TEMPLATE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; color: #222; background: #fff; margin: 2rem auto;
       max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; }
th, td { padding: .3rem .7rem; text-align: left; vertical-align: top;
         border-bottom: 1px solid #e2e2e2; }
th { border-bottom: 2px solid #888; white-space: nowrap; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.path { min-width: 14rem; overflow-wrap: anywhere; }
img { display: block; width: 100%; max-width: 60rem; height: auto; margin: 1rem 0; }
li { overflow-wrap: anywhere; }
summary { cursor: pointer; margin: .6rem 0; overflow-wrap: anywhere; }
.passage { max-width: 52rem; border-top: 1px solid #e2e2e2; padding: .7rem 0;
           overflow-wrap: anywhere; }
.passage h3 { font-size: 15px; margin: 0 0 .3rem; }
.passage p { margin: .3rem 0; color: #444; }
.fact { margin-right: 1.5rem; } .fact .name { color: #777; }
mark { color: #111; background: none; border-bottom: 3px solid transparent; }
mark.first { background: #bfe8d8; } mark.second { border-color: #d55e00; }
</style>
</head>
<body>
{% macro marked(pieces) %}
{% for piece in pieces %}
{% if piece.marks -%}
<mark class="{{ piece.marks | join(" ") }}">{{ piece.text }}</mark>
{%- else %}{{ piece.text }}{% endif %}
{% endfor %}
{% endmacro %}
<h1>{{ title }}</h1>
<p>{{ explanation }}</p>
{% for section in sections %}
{% if section.title %}
<h2>{{ section.title }}</h2>
{% endif %}
{% if section.notes %}
<ul>
{% for note in section.notes %}
<li>{{ note }}</li>
{% endfor %}
</ul>
{% endif %}
{% if section.table %}
{% if section.table.summary %}
<details>
<summary>{{ section.table.summary }}</summary>
{% endif %}
<div class="wide"><table>
{% for cells in [section.table.header] + section.table.rows %}
{% set tag = "th" if loop.first else "td" %}
<tr>
{%- for name, cell in zip(section.table.header, cells, strict=True) %}
<{{ tag }}
{%- if name in section.table.numbers %} class="number"{% endif %}
{%- if name in section.table.paths %} class="path"{% endif %}>{{ cell }}</{{ tag }}>
{%- endfor %}
</tr>
{% endfor %}
</table></div>
{% if section.table.summary %}
</details>
{% endif %}
{% endif %}
{% if section.place %}
<div id="{{ section.place }}">
{% endif %}
{% for picture in section.pictures %}
<img alt="{{ picture.description }}" src="data:image/svg+xml;base64,{{ picture.svg | base64 }}">
{% endfor %}
{% if section.place %}
</div>
{% endif %}
{% for passages in section.passages %}
<details open>
<summary>{{ passages.summary }}</summary>
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
{% if script %}
<script>{{ script }}</script>
{% endif %}
</body>
</html>
"""


class Table(NamedTuple):
    """Cells of text under a header; ``numbers`` and ``paths`` (which break anywhere): columns.

    With a ``summary`` it is folded away under that.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Collection[str] = ()
    paths: Collection[str] = ()
    summary: str = ""


class Picture(NamedTuple):
    """A drawing, and what it shows for who cannot see it."""

    svg: bytes
    description: str


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

    With a ``place`` its pictures stand in an element of that id, where a script may put something
    else in their stead.
    """

    title: str = ""
    notes: Sequence[str] = ()
    table: Optional[Table] = None
    pictures: Sequence[Picture] = ()
    passages: Sequence[Passages] = ()
    place: str = ""

    @property
    def is_empty(self) -> bool:
        held = self.notes or self.pictures or self.passages
        return not (held or (self.table and self.table.rows))


def html_page(title: str, explanation: str, sections: Iterable[Section], script: str = "") -> str:
    """Write the page. Whatever stands in a text stays text.

    The ``script`` runs at its end, and no other does. It is no text: what comes from a file stands
    in it only as JSON in which every "<" is an escape.
    """
    environment = Environment(
        autoescape=True, finalize=_shown, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    environment.globals["zip"] = zip
    return environment.from_string(TEMPLATE).render(
        title=title,
        explanation=explanation,
        sections=sections,
        policy=_policy(script),
        script=Markup(script),
    )


def _policy(script: str) -> str:
    if not script:
        return POLICY
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"{POLICY}; script-src 'sha256-{digest}'"


def _shown(value: Any) -> Any:
    # What the template itself has made is Markup, in which all text has gone through here.
    is_text = isinstance(value, str) and not isinstance(value, Markup)
    return printable(value) if is_text else value
