"""What the kit finds on pages that were made bad on purpose, and nothing on a good one."""

from pathlib import Path

import pytest

from user_dir_tests.pages import sight
from user_dir_tests.pages.look import look

pytestmark = pytest.mark.experiments

HEAD = '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>A page</title>'
SIZED = '<meta name="viewport" content="width=device-width, initial-scale=1">'
# A picture of two series, of which each has a colour, dashes and a marker.
PICTURE = """
<svg role="img" aria-label="{label}" viewBox="0 0 300 200" width="300" height="200"{more}>
<defs>
<path id="dot" d="M-3 0A3 3 0 1 0 3 0A3 3 0 1 0 -3 0Z"/><path id="box" d="M-3 -3H3V3H-3Z"/>
</defs>
<path d="M0 0H300V200H0Z" style="fill: white"/>
<path d="M20 20L280 100" style="fill: none; stroke: {one}; stroke-width: 2"/>
<path d="M20 60L280 140" style="fill: none; stroke: {other}; stroke-dasharray: {dashes}"/>
<use href="#dot" x="20" y="20" style="fill: {one}"/>
<use href="#{marker}" x="20" y="60" style="fill: {other}"/>
<text x="20" y="180" style="font: {size}px sans-serif; fill: {ink}">updates</text>{inner}
</svg>
"""
GOOD = {
    **{"label": "two curves", "one": "#0072b2", "other": "#d55e00", "dashes": "5 2"},
    **{"marker": "box", "size": 12, "ink": "#111", "inner": "", "more": ""},
}
# What is cut off does not lie behind a text.
CUT = (
    '<defs><clipPath id="upper"><rect width="300" height="110"/></clipPath></defs>'
    '<g clip-path="url(#upper)"><path d="M0 80H90V160H0Z" style="fill: #0072b2"/></g>'
    '<text x="9" y="150" style="font: 12px sans-serif; fill: #111">b</text>'
)


def page(body, style="", head=SIZED):
    return f"{HEAD}{head}<style>{style}</style></head><body>{body}</body></html>"


def picture_of(**changes):
    return PICTURE.format(**{**GOOD, **changes})


def picture(**changes):
    return page(picture_of(**changes))


SAME = {"dashes": "none", "marker": "dot"}
DARK = "@media (prefers-color-scheme: dark) { body { color: #333; background: #111 } }"
# A page, and the beginning of the one line that tells what is wrong with it.
BAD = {
    "a wide page": (page('<p style="width: 500px">a</p>'), "scrolls sideways: the page, by 1"),
    "a wide table": (
        page('<div style="overflow-x: auto"><p style="width: 900px">a</p></div>'),
        "scrolls sideways: <div>, by 5",
    ),
    "a text in a small box": (
        page('<p style="width: 3em; overflow: hidden; white-space: nowrap">far too long</p>'),
        'cut off: <p> [everywhere]: "far too long"',
    ),
    "a label outside of its picture": (
        picture(inner='<text x="270" y="30">discriminator</text>'),
        'cut off: picture 1 (two curves) [everywhere]: "discriminator"',
    ),
    "labels over each other": (
        picture(inner='<text x="30" y="182" style="font: 12px sans-serif">loss</text>'),
        'over each other: picture 1 (two curves) [everywhere]: "updates" and "loss"',
    ),
    "labels that run into each other": (
        picture(inner='<text x="250" y="180" style="font: 12px sans-serif">1000</text>'
                      '<text x="279" y="180" style="font: 12px sans-serif">0</text>'),
        'over each other: picture 1 (two curves) [everywhere]: "1000" and "0"',
    ),
    "a small text": (
        page('<p style="font-size: 10px">a</p>'),
        'text under 11 px: <p> [everywhere]: 10.0 px, "a"',
    ),
    "a picture that shrinks": (
        picture(more=' style="width: 60%; height: auto"'),
        "text under 11 px: picture 1 (two curves) [phone, phone dark]: 9.",
    ),
    "a small text in a picture": (
        picture(size=8),
        'text under 11 px: picture 1 (two curves) [everywhere]: 8.0 px, "updates"',
    ),
    "a picture without a name": (picture(label=""), "without a name: picture <svg> [everywhere]"),
    "a picture without a name on a button": (
        page("<button>head <canvas></canvas></button>"),
        "without a name: picture <canvas> [everywhere]",
    ),
    "an image without a name": (
        page('<img src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=">'),
        "without a name: picture <img> [everywhere]",
    ),
    "a choice without a name": (
        page("<select><option>1</option></select>"),
        "without a name: control <select> [everywhere]",
    ),
    "a table without headers": (
        page("<table><tr><td>1</td></tr></table>"),
        "without a name: table without headers <table> [everywhere]",
    ),
    "a pale text": (
        page('<p style="color: #777">a</p>'),
        'text under 4.5:1: <p> [everywhere]: 4.48, "a"',
    ),
    "a pale title": (
        page('<h1 style="font-size: 30px; color: #999">a</h1>'),
        'text under 3.0:1: <h1> [everywhere]: 2.85, "a"',
    ),
    "a text that is pale in the dark": (
        page("<p>a</p>", DARK),
        'text under 4.5:1: <p> [wide dark, phone dark]: 1.49, "a"',
    ),
    "a pale label on a coloured ground": (
        picture(
            inner='<path d="M0 80H90V120H0Z" style="fill: #0072b2"/>'
            '<text x="9" y="105" style="font: 12px sans-serif; fill: #111">a</text>'
        ),
        'text under 4.5:1: picture 1 (two curves) [everywhere]: 3.64, "a"',
    ),
    "a pale line": (
        picture(other="#e69f00"),
        "drawn under 3.0:1: picture 1 (two curves) [everywhere]: 2.2",
    ),
    "colours for red-blind eyes": (
        picture(**SAME, one="#c03020", other="#085018"),
        "alike by protanopia: picture 1 (two curves) [everywhere]: #c03020 and #085018",
    ),
    "colours for green-blind eyes": (
        picture(**SAME, one="#b80058", other="#008058"),
        "alike by deuteranopia: picture 1 (two curves) [everywhere]: #b80058 and #008058",
    ),
    "colours for blue-blind eyes": (
        picture(**SAME, one="#002098", other="#3830a0"),
        "alike by tritanopia: picture 1 (two curves) [everywhere]: #002098 and #3830a0",
    ),
    "colours for a grey printer": (
        picture(**SAME, one="#2848c0", other="#a82000"),
        "alike by greyscale: picture 1 (two curves) [everywhere]: #2848c0 and #a82000",
    ),
    "a picture from elsewhere": (
        page('<img alt="a" src="https://example.org/a.png">'),
        "asks outside: https://example.org/a.png [everywhere]",
    ),
    "a script that fails": (page("<script>nothing.at.all</script>"), "script error: Refer"),
    "a script that is refused": (
        page("<script>1</script>", head=SIZED + '<meta http-equiv="Content-Security-Policy" '
             "content=\"default-src 'none'; style-src 'unsafe-inline'\">"),
        "error: Executing inline script violates",
    ),
    "much": (page(f"<!--{'a' * 3_000_000}-->"), "more than 3 MB: 3.0 MB"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_found(tab, tmp_path, case):
    text, told = BAD[case]
    file = tmp_path / "page.html"
    file.write_text(text)
    lines = look(file, tab)
    assert [line for line in lines if line.startswith(told)], lines


def test_a_good_page_has_nothing(tab, tmp_path, monkeypatch):
    folder = tmp_path / "grid"
    folder.mkdir()
    # Pictures are named after the folder of a page, however the page is named.
    monkeypatch.chdir(folder)
    file = Path("page.html")
    file.write_text(
        page(
            "<h1>A page</h1><details><summary>more</summary><p>hidden</p></details>"
            "<table><tr><th>loss</th></tr><tr><td>1</td></tr></table>"
            '<button aria-label="head 0"><canvas width="9" height="9"></canvas></button>'
            f"<label>layer <select><option>1</option></select></label>{picture_of(inner=CUT)}",
            ":root { color-scheme: light dark }",
        )
    )
    assert look(file, tab, tmp_path / "seen") == []
    kept = {path.name: path.read_bytes()[:4] for path in (tmp_path / "seen").iterdir()}
    views = ("phone.png", "phone_dark.png", "print.pdf", "wide.png", "wide_dark.png")
    assert sorted(kept) == [f"grid_page_{view}" for view in views]
    for name, start in kept.items():
        assert start == (b"%PDF" if name.endswith("pdf") else b"\x89PNG")


# Of 21:1 and 1:1 by definition; WCAG's own example of a grey that just passes; worked by hand.
@pytest.mark.parametrize(
    ("one", "other", "ratio"),
    [("000000", "ffffff", 21), ("808080", "808080", 1), ("767676", "ffffff", 4.54)],
)
def test_contrast(one, other, ratio):
    assert sight.contrast(color(one), color(other)) == pytest.approx(ratio, abs=5e-3)


def color(words):
    return [int(words[at : at + 2], 16) / 255 for at in (0, 2, 4)]


def test_greys_stay_as_they_are_and_a_known_red():
    for eyes in (*sight.SIGHTS, sight.GREY):
        for grey in (0.2, 1.0):
            expected = sight.linear([grey] * 3)
            assert sight.seen_by(eyes, [grey] * 3) == pytest.approx(expected, abs=1e-4)
    # The matrices' first column, as linear RGB.
    assert sight.seen_by("protanopia", (1, 0, 0)) == pytest.approx([0.152286, 0.114503, 0])
    assert sight.seen_by(sight.GREY, (0, 1, 0)) == pytest.approx([0.7152] * 3)


def test_lab_of_known_colours():
    """Values of sRGB's primaries under D65, by Lindbloom's tables."""
    for given, expected in (
        ((1, 1, 1), (100, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
    ):
        assert sight.lab(sight.linear(given)) == pytest.approx(expected, abs=0.02)


def test_layers_with_alpha():
    layers = [(1, 0, 0, 0.5), (0, 0, 1, 0.5)]
    # White under half a blue is (0.5, 0.5, 1), and half a red over that:
    assert sight.laid_over(layers) == pytest.approx([0.75, 0.25, 0.5])
