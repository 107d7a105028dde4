"""Pages as a browser's parser reads them: what comes from files is text, wherever it stands."""

import base64
import hashlib
from html.parser import HTMLParser

import pytest

from convbert_plugin.analysis.page import (
    FIRST,
    POLICY,
    SECOND,
    Passage,
    Passages,
    Picture,
    Piece,
    Section,
    Table,
    html_page,
)
from convbert_plugin.analysis.words import aligned, printable

pytestmark = pytest.mark.experiments

SVG = b"<svg/>"
HOSTILE = "\"><script>alert('x')</script>{{ 7 * 7 }}&amp;\x1b[2J\udcff"
SHOWN = r""""><script>alert('x')</script>{{ 7 * 7 }}&amp;\x1b[2J\udcff"""


class Elements(HTMLParser):
    """Every tag with its attributes, and the texts between them."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def test_everything_stands_where_it_belongs():
    page = Elements(
        html_page(
            "Title",
            "What it is.",
            [
                Section(table=Table(["name", "count", "folder"], [["a", "1", "b"]], {"count"})),
                Section("Notes", notes=["first", "second"]),
                Section("Pictures", pictures=[Picture(SVG, "a drawing", SVG)]),
            ],
        )
    )
    # Between the style and the end.
    assert page.texts[2:] == [
        *("Title", "What it is.", "name", "count", "folder", "a", "1", "b"),
        *("Notes", "first", "second", "Pictures"),
    ]
    assert page.of("th") == [{}, {"class": "number"}, {}, {"scope": "row"}]
    # On a narrow screen each cell says what it is.
    assert page.of("td") == [{"class": "number", "data-label": "count"}, {"data-label": "folder"}]
    assert len(page.of("h2")) == 2
    drawn = [(image["class"], image["aria-label"]) for image in page.of("svg")]
    assert drawn == [("wide", "a drawing"), ("narrow", "a drawing")]
    policy = {"http-equiv": "Content-Security-Policy", "content": POLICY}
    assert policy in page.of("meta")


def test_what_names_a_row_is_shown_once():
    rows = [["rte", "a", "1"], ["rte", "b", "2"], ["sts-b", "b", "3"], ["sts-b", "b", "4"]]
    table = Table(["task", "runs", "score"], rows, {"score"}, stubs=2)
    page = Elements(html_page("Title", "", [Section(table=table)]))
    marks = [names.get("class") for names in page.of("th") if "scope" in names]
    # The second "b" is of another task, and the third names nothing new.
    assert marks == [None, None, "again", None, None, None, "again", "again"]


@pytest.mark.parametrize(
    ("columns", "cell", "is_number", "breadth"),
    [
        # Twelve letters and a gap of two each: 70, 98 and 112.
        (5, "x" * 12, True, None),
        (7, "x" * 12, True, "middling"),
        (8, "x" * 12, True, "broad"),
        # Words wrap, numbers do not.
        (2, "x " * 60, False, None),
        (2, "1 " * 60, True, "broad"),
    ],
)
def test_tables_that_need_a_wide_screen_say_so(columns, cell, is_number, breadth):
    header = [f"c{number}" for number in range(columns)]
    table = Table(header, [[cell] * columns], header if is_number else ())
    page = Elements(html_page("Title", "", [Section(table=table)]))
    assert page.of("table") == [{"class": breadth} if breadth else {}]


def test_marked_texts_fold_away():
    legend = [Piece("the one", [FIRST]), Piece("both", [FIRST, SECOND])]
    pieces = [Piece("a "), Piece("b c", [SECOND]), Piece(" d")]
    passages = Passages("Ten of them", legend, [Passage("Which?", [("fact", "words")], pieces)])
    table = Table(["name"], [["cell"]], summary="In numbers")
    page = Elements(html_page("Title", "", [Section("Texts", table=table, passages=[passages])]))
    assert page.of("details") == [{}, {}]
    assert page.of("mark") == [{"class": "first"}, {"class": "first second"}, {"class": "second"}]
    # Not a space more than there was between the pieces.
    text = "".join(page.texts[3:])
    assert "a b c d" in text
    found = [text.index(words) for words in ("In numbers", "Ten of", "the one", "Which?", "words")]
    assert found == sorted(found)


def test_text_is_text_everywhere():
    table = Table([HOSTILE], [[HOSTILE]], paths={HOSTILE}, summary=HOSTILE)
    marked = [Piece(HOSTILE, [FIRST])]
    passage = Passage(HOSTILE, [(HOSTILE, HOSTILE)], [*marked, Piece("x"), *marked])
    text = html_page(
        HOSTILE,
        HOSTILE,
        [
            Section(
                HOSTILE,
                [HOSTILE],
                table,
                [Picture(SVG, HOSTILE)],
                [Passages(HOSTILE, marked, [passage])],
            )
        ],
    )
    page = Elements(text)
    assert not page.of("script")
    # The title and the heading, the explanation, the section's title, a note, two cells under their
    # summary, another summary, a mark explained, a title, a fact of two parts, two marks.
    assert "".join(page.texts).count(SHOWN) == 15
    assert page.of("svg")[0]["aria-label"] == SHOWN
    text.encode()


def test_one_script_is_allowed_by_its_hash():
    script = 'if (1 < 2 && "é") { document.title = "<p>" }\n'
    text = html_page(
        "Title", "", [Section("a", pictures=[Picture(b"", "b")], place="here")], script
    )
    page = Elements(text)
    assert page.of("script") == [{}]
    assert page.texts[-1] == script
    (policy,) = (meta["content"] for meta in page.of("meta") if "http-equiv" in meta)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"{POLICY}; script-src 'sha256-{digest}'"
    assert {"class": "pictures", "id": "here"} in page.of("div")
    assert "script-src" not in POLICY


@pytest.mark.parametrize(
    ("section", "is_empty"),
    [
        (Section("a"), True),
        (Section("a", table=Table(["b"], [])), True),
        (Section("a", table=Table(["b"], [["c"]])), False),
        (Section("a", notes=["b"]), False),
        (Section("a", pictures=[Picture(b"", "b")]), False),
        (Section("a", passages=[Passages("b", [], [])]), False),
    ],
)
def test_sections_that_hold_nothing(section, is_empty):
    assert section.is_empty == is_empty


def test_a_table_for_a_terminal():
    assert aligned(["name", "count"], [["a\x1b", "5"], ["long name", "1,000"]], {"count"}) == [
        "name       count",
        r"a\x1b          5",
        "long name  1,000",
    ]


def test_what_moves_a_cursor_is_shown_as_its_escape():
    assert printable("é ok\r\x1b\u202e") == r"é ok\r\x1b\u202e"
