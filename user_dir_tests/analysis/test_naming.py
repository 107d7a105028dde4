"""Short names, against what a reader would call the runs."""

import pytest

from convbert_plugin.analysis.naming import LONGEST, legend_of, short_names
from convbert_plugin.analysis.page import Entry
from convbert_plugin.analysis.theme import styles_of

pytestmark = pytest.mark.experiments

RTD = "4,500 updates of replaced_token_detection"


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["random weights"], ["random weights"]),
        # One checkpoint is called by its folder, and several by what their paths differ in.
        (
            [f"from runs/base/checkpoint_last.pt, {RTD}", "random weights"],
            ["base", "random weights"],
        ),
        (
            [f"from /x/a/one/last.pt, {RTD}", f"from /x/b/one/last.pt, {RTD}", "random weights"],
            ["a", "b", "random weights"],
        ),
        (
            [f"from {path}/c.pt, {RTD}" for path in ("x/a/i", "x/b/i", "x/a/k")],
            ["a/i", "b/i", "a/k"],
        ),
        (["converted: published/model.pt", "random weights"], ["published", "random weights"]),
        # What all share tells nothing, and what differs is told no longer than it needs to be.
        (
            [f"from a/c.pt, {RTD}, lr 0.002", f"from a/c.pt, {RTD}, lr 1e-07"],
            ["lr 0.002", "lr 1e-07"],
        ),
        (
            [f"from a/c.pt, {RTD}, lr 1", f"from a/c.pt, {RTD}, lr 2", "random weights, lr 1"],
            ["a, lr 1", "a, lr 2", "random weights"],
        ),
        # Names of rows of a grid are short already.
        (["ELECTRA style", "+ bottleneck"], ["ELECTRA style", "+ bottleneck"]),
        # Too long, or still the same: letters.
        (["a folder of a very long name", "random weights"], ["A", "B"]),
        (["from a/c.pt, b", "converted: a/c.pt, b"], ["A", "B"]),
        ([f"x{'y' * 30}{number}" for number in range(28)][25:], ["A", "B", "C"]),
    ],
)
def test_names(labels, names):
    assert short_names(labels) == dict(zip(labels, names, strict=True))


def test_there_are_more_names_than_letters():
    labels = [f"{number} {'x' * LONGEST}" for number in range(28)]
    assert list(short_names(labels).values())[24:] == ["Y", "Z", "AA", "AB"]


def test_names_are_printable():
    assert list(short_names(["a\x1b[2J", "b\n"]).values()) == [r"a\x1b[2J", r"b\n"]


def test_a_legend_explains_what_needs_it():
    labels = ["random weights", f"from runs/base/checkpoint_last.pt, {RTD}"]
    styles = styles_of(labels)
    assert legend_of(short_names(labels), styles) == [
        Entry(styles[labels[0]], "random weights", ""),
        Entry(styles[labels[1]], "base", labels[1]),
    ]
    assert legend_of(short_names(labels[:1]), styles) == []


def test_a_legend_of_many_is_told_in_few_words():
    labels = [
        f"from runs/{name}/c.pt, {RTD}, lr {lr}" for name in "ab" for lr in (0.125, 0.25, 0.5)
    ]
    entries = legend_of(short_names(labels), styles_of(labels))
    # The names themselves, which are short, and where these are letters what they stand for.
    assert [(entry.name, entry.words) for entry in entries[:2]] == [
        ("a, lr 0.125", ""),
        ("a, lr 0.25", ""),
    ]
    long = "x" * LONGEST
    labels = [f"{label}, another {long}{number}" for number, label in enumerate(labels)]
    entries = legend_of(short_names(labels), styles_of(labels))
    assert [entry.name for entry in entries] == [*"ABCDEF"]
    assert entries[5].words == f"b, lr 0.5, another {long}5"
