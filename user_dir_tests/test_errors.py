"""Odd values of files, as an error line shows them."""

import pytest

from convbert_plugin.errors import listed, readable, shown


@pytest.mark.parametrize(
    ("value", "words"),
    [("a\nb\x1b[2J", r"'a\nb\x1b[2J'"), (7, "7")],
)
def test_a_value_is_shown_as_python_writes_it(value, words):
    assert shown(value) == words


@pytest.mark.parametrize("value", ["x" * 10**6, 10**4000, [["x" * 999] * 999] * 999, b"\n" * 999])
def test_a_long_value_is_cut_and_on_one_line(value):
    assert len(shown(value)) < 999
    assert "\n" not in shown(value)


def test_a_name_is_shown_as_it_is_where_it_can_be():
    assert readable("größe 2") == "größe 2"
    assert readable("a\u202eb") == r"'a\u202eb'"
    assert len(readable("x" * 999)) < 99


def test_of_many_names_the_first_are_listed():
    assert listed(["a", "b\tc"]) == r"a, 'b\tc'"
    names = [f"n{number}" for number in range(1012)]
    assert listed(names[:12]) == "n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11"
    assert listed(names) == "n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11 and 1,000 more"
