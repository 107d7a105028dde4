"""Drawings in a page, as an XML parser reads them: what draws is kept, and nothing else."""

from functools import partial
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from convbert_plugin.analysis.drawing import image_of, pictures, plain
from convbert_plugin.analysis.inline_svg import inline_svg
from convbert_plugin.analysis.page import Section, html_page
from convbert_plugin.analysis.theme import COLORS, DARK, NAMES

pytestmark = pytest.mark.experiments

HOSTILE = b"""<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
 viewBox="0 0 72 36" onload="alert(1)">
<script>alert(1)</script><metadata>m</metadata><style>* { fill: url(http://x/) }</style>
<foreignObject><b>html</b></foreignObject>
<a xlink:href="javascript:alert(1)"><text>in a link</text></a>
<defs><path id="dot" d="M 0 3.123456 \nL 1 2" onclick="alert(1)"/></defs>
<g id="group"><g id="inner"><use xlink:href="#dot" x="1.00001" style="fill: #1F6AD8; x: 1"/></g></g>
<use xlink:href="http://elsewhere/#dot"/><use xlink:href="#absent"/>
<image xlink:href="https://elsewhere/x.png"/><image xlink:href="data:image/png;base64,AA=="/>
<rect style="fill: url(#dot); stroke: #123456; stroke-width: 0.80001"/>
<text style="font-family: 'x'; font-size: 9.5px; text-anchor: end" x="2" transform="rotate(-0 1 2)"
>a &lt;b&gt; &amp; c</text>
</svg>"""


def test_what_draws_is_kept_and_nothing_else():
    root = ElementTree.fromstring(inline_svg(HOSTILE, 'a "drawing"', "wide", "p7"))
    assert root.attrib == {
        **{"role": "img", "class": "wide", "aria-label": 'a "drawing"', "viewBox": "0 0 72 36"},
        # An inch, which has 96 pixels.
        **{"width": "96", "height": "48"},
    }
    found = [(element.tag, element.attrib, element.text) for element in root.iter()][1:]
    assert found == [
        ("defs", {}, None),
        ("path", {"id": "p71", "d": "M0 3.12L1 2"}, None),
        ("use", {"href": "#p71", "x": "1", "style": "fill:var(--series-1)"}, None),
        ("use", {}, None),
        ("use", {"href": "#p70"}, None),
        ("image", {}, None),
        ("image", {"href": "data:image/png;base64,AA=="}, None),
        ("rect", {"style": "stroke:#123456;stroke-width:0.8"}, None),
        ("text", {"style": "font-size:9.5px;text-anchor:end", "x": "2"}, "a <b> & c"),
    ]


def draw(width, image_format, labels):
    with plain():
        figure = Figure((width, 1))
        axes = figure.add_axes((0.1, 0.2, 0.8, 0.7))
        for place, label in enumerate(labels):
            axes.plot([0, 1], [place, 2], color=COLORS[place], marker="o")
            axes.text(0, place, label)
        return image_of(figure, image_format)


def test_pictures_of_a_page_have_words_and_colours_of_the_page():
    labels = ["a $x_$ <i>", "second"]
    picture = pictures(partial(draw, labels=labels), "two lines")
    text = html_page("Title", "", [Section("Drawn", pictures=[picture, picture])])
    drawings = [
        ElementTree.fromstring(part.partition("</svg>")[0] + "</svg>")
        for part in text.partition("<figure>")[2].replace("<svg", "\0<svg").split("\0")[1:]
    ]
    assert [drawing.get("class") for drawing in drawings] == ["wide", "narrow"] * 2
    assert [float(drawing.get("width")) for drawing in drawings] == [720, 326.4] * 2
    ids = [part.get("id") for drawing in drawings for part in drawing.iter() if part.get("id")]
    assert len(set(ids)) == len(ids) > 0
    for drawing in drawings:
        assert [part.text for part in drawing.iter("text")][-2:] == labels
        named = {part.get("href") for part in drawing.iter("use")}
        assert named <= {f"#{part.get('id')}" for part in drawing.iter()}
    styles = {part.get("style", "") for drawing in drawings for part in drawing.iter()}
    # No colour is left that would not turn with the page.
    assert not any("#" in style for style in styles)
    assert any("var(--series-2)" in style for style in styles)
    assert all(f"--{NAMES[color]}: {DARK[color]};" in text for color in COLORS)
