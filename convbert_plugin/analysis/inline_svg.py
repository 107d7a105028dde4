"""Drawings as parts of a page: its font and its colours, and of SVG what draws and nothing else."""

import re
from typing import Iterator
from xml.etree import ElementTree

from markupsafe import Markup, escape

from convbert_plugin.analysis.theme import NAMES
from convbert_plugin.analysis.words import printable

SHAPES = {"path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "use", "image"}
TEXTS = {"text", "tspan", "title"}
GROUPS = {"g", "defs", "clipPath"}
ATTRIBUTES = {
    *("d", "x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "ry", "width", "height"),
    *("points", "transform", "preserveAspectRatio", "clip-path"),
}
PROPERTIES = {
    *("fill", "fill-opacity", "fill-rule", "stroke", "stroke-opacity", "stroke-width", "opacity"),
    *("stroke-dasharray", "stroke-dashoffset", "stroke-linecap", "stroke-linejoin"),
    *("text-anchor", "font-size", "font-weight", "font-style", "image-rendering"),
}
DEFAULTS = {"stroke-dashoffset: 0", "text-anchor: start", "fill: #000000"}
# Where one part names another, in the picture or with its bytes.
PLACE = re.compile(r"(?:url\()?#([^)]+)\)?")
LONG_NUMBER = re.compile(r"-?\d*\.\d{2,}(?:e-?\d+)?")
COLOR = re.compile(r"#[0-9a-f]{6}", re.IGNORECASE)
NO_TURN = re.compile(r"rotate\(-?0 [^)]*\)")


def inline_svg(svg: bytes, description: str, css_class: str, prefix: str) -> Markup:
    """Write a drawing for a page: ids begin with ``prefix``, colours of the theme are variables.

    Raises:
        xml.etree.ElementTree.ParseError: bytes that are no drawing.
    """
    root = ElementTree.fromstring(svg)
    width, height = root.get("viewBox", "0 0 0 0").split()[2:]
    body = "".join(_Writer(root, prefix).parts(root))
    # In matplotlib's points, of which 72 are 96 pixels.
    return Markup(
        '<svg role="img" class="{}" aria-label="{}" viewBox="0 0 {} {}" width="{:g}" '
        'height="{:g}">{}</svg>'
    ).format(
        css_class, printable(description), width, height, float(width) * 96 / 72,
        float(height) * 96 / 72, Markup(body),
    )  # fmt: skip


class _Writer:
    def __init__(self, root: ElementTree.Element, prefix: str):
        named = {
            match[1]
            for element in root.iter()
            for name, value in element.items()
            if _local(name) in ("href", "clip-path") and (match := PLACE.fullmatch(value))
        }
        self.ids = {name: f"{prefix}{number}" for number, name in enumerate(sorted(named))}

    def parts(self, parent: ElementTree.Element) -> Iterator[str]:
        for element in parent:
            tag = _local(element.tag)
            if tag in SHAPES | TEXTS | GROUPS:
                text = escape(printable(element.text or "")) if tag in TEXTS else ""
                yield from self._element(tag, element, text + "".join(self.parts(element)))
            if _local(parent.tag) in TEXTS and element.tail:
                yield escape(printable(element.tail))

    def _element(self, tag: str, element: ElementTree.Element, body: str) -> Iterator[str]:
        attributes = "".join(f' {name}="{escape(value)}"' for name, value in self._kept(element))
        if tag in SHAPES:
            yield f"<{tag}{attributes}/>"
        elif body and tag == "g" and not attributes:
            yield body
        elif body:
            yield f"<{tag}{attributes}>{body}</{tag}>"

    def _kept(self, element: ElementTree.Element) -> Iterator[tuple[str, str]]:
        for full_name, value in element.items():
            name = _local(full_name)
            if name == "id" and value in self.ids:
                yield name, self.ids[value]
            elif name == "href" and value.startswith("data:image/"):
                yield name, value
            elif name in ("href", "clip-path"):
                if match := PLACE.fullmatch(value):
                    place = f"#{self.ids[match[1]]}"
                    yield name, place if name == "href" else f"url({place})"
            elif name == "style":
                yield from _style(value)
            elif name in ATTRIBUTES and (kept := _short(NO_TURN.sub("", value))):
                yield name, kept


def _style(value: str) -> Iterator[tuple[str, str]]:
    pairs = (one.strip() for one in value.split(";"))
    kept = [
        f"{name}:{_colored(_short(words.strip()))}"
        for pair in pairs
        if pair not in DEFAULTS
        for name, _, words in [pair.partition(":")]
        if name in PROPERTIES and "(" not in words
    ]
    if kept:
        yield "style", ";".join(kept)


def _colored(words: str) -> str:
    def variable(match: re.Match) -> str:
        name = NAMES.get(match[0].lower())
        return f"var(--{name})" if name else match[0]

    return COLOR.sub(variable, words)


def _short(words: str) -> str:
    """Numbers to a hundredth of a point, and no more space than it needs."""
    rounded = LONG_NUMBER.sub(lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), words)
    return re.sub(r" ?([A-Za-z]) ", r"\1", " ".join(rounded.split())).strip()


def _local(name: str) -> str:
    return name.rpartition("}")[2]
