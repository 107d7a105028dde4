"""Looks at pages as their readers do: wide, on a phone and printed, in the light and in the dark.

    python -m user_dir_tests.pages.look PAGE.html... [--out FOLDER] [--chromium PROGRAM]

Each finding is a line, and ends the command with 1: sideways scrolling, texts that are cut off, lie
over each other or are smaller than 11 px as shown, what has no name for who cannot see it, contrast
below WCAG's AA, series of a picture that the colour-blind or a grey printer cannot tell apart,
anything asked for from outside, errors of scripts, and more than 3 MB. FOLDER gets a picture of
every view, and the page as printed.
"""

import argparse
import contextlib
import itertools
import sys
from pathlib import Path
from typing import Iterator, NamedTuple

from user_dir_tests.pages import sight
from user_dir_tests.pages.chromium import (
    Browser,
    View,
    address_of,
    browser,
    find_chromium,
    told_error,
)

VIEWS = (
    View("wide", 1280),
    View("wide dark", 1280, "dark"),
    View("phone", 390),
    View("phone dark", 390, "dark"),
    # A4 without margins of 14 mm, at 96 px an inch. Browsers print in the light whatever is chosen.
    View("print", 688, "light", "print"),
)
SMALLEST = 11
# WCAG 1.4.3 and 1.4.11: of text, of large text, of what is drawn.
TEXT, LARGE, GRAPHICS = 4.5, 3.0, 3.0
LARGE_SIZE, LARGE_BOLD_SIZE = 24, 18.66
LARGEST_PAGE = 3_000_000
# CIELAB: less chroma is grey, that of axes and lines behind; nearer colours are taken for one.
GREY_CHROMA = 8
ALIKE = 10
# Of greys lightness alone is left, of which the eye tells five steps apart.
ALIKE_GREY = 8
# More colours in a picture are a scale, whose neighbours are meant to be alike.
MOST_SERIES = 10
EXAMPLES = 3
MEASURING = Path(__file__).with_name("measuring.js")


class Finding(NamedTuple):
    """What is wrong with a page, where, and an example of it."""

    kind: str
    where: str
    example: str


def judge(seen: dict) -> Iterator[Finding]:
    """What measuring.js found, held against the limits."""
    for each in seen["sideways"]:
        yield Finding("scrolls sideways", each["what"], ", ".join(each["of"]))
    for name, kind in (("cut", "cut off"), ("over", "over each other")):
        for each in seen[name]:
            yield Finding(kind, each["where"], f'"{each["words"]}"')
    for each in seen["unnamed"]:
        yield Finding("without a name", each, "")
    for text in seen["texts"]:
        if text["size"] < SMALLEST - 0.05:
            example = f'{text["size"]:.1f} px, "{text["words"]}"'
            yield Finding(f"text under {SMALLEST} px", text["where"], example)
        yield from pale_text(text)
    for mark in seen["marks"]:
        yield from pale_mark(mark)
    for where, marks in itertools.groupby(seen["marks"], lambda mark: mark["where"]):
        yield from alike(where, list(marks))


def contrast_of(part: dict) -> float | None:
    """None: what lies behind it cannot be told."""
    if part["behind"] is None or part["color"] is None:
        return None
    behind = sight.laid_over(part["behind"])
    return sight.contrast(sight.laid_over([part["color"], (*behind, 1.0)]), behind)


def pale_text(text: dict) -> Iterator[Finding]:
    is_large = text["size"] >= (LARGE_BOLD_SIZE if text["isBold"] else LARGE_SIZE)
    least, ratio = (LARGE if is_large else TEXT), contrast_of(text)
    if ratio is not None and ratio < least:
        yield Finding(f"text under {least}:1", text["where"], f'{ratio:.2f}, "{text["words"]}"')


def pale_mark(mark: dict) -> Iterator[Finding]:
    ratio = contrast_of(mark)
    if ratio is not None and ratio < GRAPHICS and is_series(mark):
        kind, _, _ = mark["kind"].partition(" ")
        example = f"{ratio:.2f}, {kind} of {hexadecimal(mark['color'])}"
        yield Finding(f"drawn under {GRAPHICS}:1", mark["where"], example)


def is_series(mark: dict) -> bool:
    """Whether a mark has a colour, and is not as faint as a band behind the others."""
    *color, alpha = mark["color"] or (0, 0, 0, 0)
    return alpha > 0.5 and sight.chroma(color) >= GREY_CHROMA


def alike(where: str, marks: list[dict]) -> Iterator[Finding]:
    """Colours of a picture that some eyes cannot tell apart, and whose marks are the same."""
    kinds: dict[tuple, set[str]] = {}
    for mark in filter(is_series, marks):
        kinds.setdefault(tuple(mark["color"][:3]), set()).add(mark["kind"])
    if len(kinds) > MOST_SERIES:
        return
    for one, other in itertools.combinations(kinds, 2):
        # A line of other dashes, or a marker of another outline, tells them apart.
        if kinds[one] != kinds[other]:
            continue
        for eyes in (*sight.SIGHTS, sight.GREY):
            apart = sight.difference(one, other, eyes)
            if apart < (ALIKE_GREY if eyes == sight.GREY else ALIKE):
                colors = f"{hexadecimal(one)} and {hexadecimal(other)}"
                yield Finding(f"alike by {eyes}", where, f"{colors} ({apart:.0f} apart)")


def hexadecimal(color: sight.Color) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in color[:3])


def told(events: list[dict]) -> Iterator[Finding]:
    """What a load asked for from outside, and its errors."""
    for event in events:
        method, about = event["method"], event["params"]
        if method == "Network.requestWillBeSent":
            address = about["request"]["url"]
            if not address.startswith(("file:", "data:", "blob:", "about:")):
                yield Finding("asks outside", address, "")
        elif method == "Runtime.exceptionThrown":
            yield Finding("script error", told_error(about["exceptionDetails"]), "")
        elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "assert"):
            words = " ".join(str(part.get("value", "")) for part in about["args"])
            yield Finding("script error", words, "")
        elif method == "Log.entryAdded" and about["entry"]["level"] == "error":
            yield Finding("error", about["entry"]["text"], "")


def look(page: Path, tab: Browser, folder: Path | None = None) -> list[str]:
    """A line for each finding, with the views in which it is; pictures go into ``folder``."""
    found: dict[Finding, list[str]] = {}
    if (size := page.stat().st_size) > LARGEST_PAGE:
        found[Finding("more than 3 MB", f"{size / 1e6:.1f} MB", "")] = []
    measuring = MEASURING.read_text()
    for view in VIEWS:
        tab.open(address_of(page), view)
        if folder is not None:
            keep(folder, page, view, tab)
        # What is folded away is to be read too.
        tab.run("document.querySelectorAll('details').forEach((one) => { one.open = true })")
        findings = [*judge(tab.run(measuring)), *told(tab.events)]
        for finding in dict.fromkeys(findings):
            found.setdefault(finding, []).append(view.name)
    return lines_of(found)


def keep(folder: Path, page: Path, view: View, tab: Browser) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = folder / f"{page.resolve().parent.name}_{page.stem}_{view.name.replace(' ', '_')}"
    if view.media == "print":
        name.with_suffix(".pdf").write_bytes(tab.printed())
    else:
        name.with_suffix(".png").write_bytes(tab.picture())


def lines_of(found: dict[Finding, list[str]]) -> list[str]:
    """Findings of one kind at one place are a line, with a few examples."""
    lines: dict[tuple, list[str]] = {}
    for finding, views in found.items():
        is_everywhere = len(views) in (0, len(VIEWS))
        place = (finding.kind, finding.where, "everywhere" if is_everywhere else ", ".join(views))
        lines.setdefault(place, []).append(finding.example)
    return [
        f"{kind}: {where} [{views}]" + (f": {some(examples)}" if any(examples) else "")
        for (kind, where, views), examples in sorted(lines.items())
    ]


def some(examples: list[str]) -> str:
    left = len(examples) - EXAMPLES
    return "; ".join(examples[:EXAMPLES]) + (f"; {left} more" if left > 0 else "")


def main() -> int:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--chromium", default=find_chromium())
    given = parser.parse_args()
    if not given.chromium:
        sys.exit("chromium is not on PATH: install it, or name it with --chromium")
    count = 0
    if missing := [page for page in given.pages if not page.is_file()]:
        sys.exit(f"{missing[0]}: no such file")
    with browser(given.chromium) as tab:
        for page in given.pages:
            lines = look(page, tab, given.out)
            count += len(lines)
            for line in lines or ["nothing found"]:
                print(f"{page}: {line}", flush=True)
    return 1 if count else 0


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
