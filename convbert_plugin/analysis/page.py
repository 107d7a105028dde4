"""A page that needs no other file: sections of notes, tables and pictures; all text is escaped."""

import base64
from typing import Any, Collection, Iterable, NamedTuple, Optional, Sequence

from jinja2 import Environment

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
</style>
</head>
<body>
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
{% endif %}
{% for picture in section.pictures %}
<img alt="{{ picture.description }}" src="data:image/svg+xml;base64,{{ picture.svg | base64 }}">
{% endfor %}
{% endfor %}
</body>
</html>
"""


class Table(NamedTuple):
    """Cells of text under a header; ``numbers`` and ``paths`` (which break anywhere): columns."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Collection[str] = ()
    paths: Collection[str] = ()


class Picture(NamedTuple):
    """A drawing, and what it shows for who cannot see it."""

    svg: bytes
    description: str


class Section(NamedTuple):
    """What stands under a title, or without one at the beginning."""

    title: str = ""
    notes: Sequence[str] = ()
    table: Optional[Table] = None
    pictures: Sequence[Picture] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.notes or self.pictures or (self.table and self.table.rows))


def html_page(title: str, explanation: str, sections: Iterable[Section]) -> str:
    """Write the page. Whatever stands in a text stays text."""
    environment = Environment(
        autoescape=True, finalize=_shown, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    environment.globals["zip"] = zip
    return environment.from_string(TEMPLATE).render(
        title=title, explanation=explanation, sections=sections, policy=POLICY
    )


def _shown(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value
