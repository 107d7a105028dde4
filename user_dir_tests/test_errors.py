"""Mistakes of the user as exceptions, and odd values of files as an error line shows them."""

import pickle

import pytest
import torch

from convbert_plugin.errors import UserError, listed, mistakes_end_the_program, readable, shown
from user_dir_tests.models.building import toy_model


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda model: model.forward(**too_long(model)), "38 tokens"),
        (lambda model: model.load_state_dict({}, strict=False), "does not fit"),
        (lambda model: model.register_classification_head("a", 2), "head a already"),
        (lambda model: model.register_classification_head("b.c", 2), "b.c"),
    ],
    ids=["too long a text", "no tensors", "a second head of a name", "an odd name"],
)
def test_from_python_a_mistake_is_an_ordinary_exception(mistake, words):
    model = toy_model()
    model.register_classification_head("a", 2)
    with pytest.raises(ValueError, match=words) as raised:
        mistake(model)
    assert isinstance(raised.value, UserError)
    assert not isinstance(raised.value, SystemExit)


def too_long(model):
    tokens = torch.zeros(1, 38, dtype=torch.long)
    return {"src_tokens": tokens, "segments": tokens}


def raised_under(package):
    """What a function of a package gets that makes a mistake."""
    module = {"__package__": package, "UserError": UserError}
    exec("def command(): raise UserError('a line')", module)
    with pytest.raises(UserError) as raised:
        module["command"]()
    return raised.value


@pytest.mark.parametrize(
    ("package", "kind"), [("fairseq", ValueError), ("fairseq_cli", SystemExit)]
)
def test_it_stays_what_it_is_on_its_way_between_processes(package, kind):
    error = pickle.loads(pickle.dumps(raised_under(package)))
    assert isinstance(error, kind)
    assert isinstance(error, UserError)
    assert str(error) == "a line"


def test_what_a_command_of_fairseq_could_swallow_is_no_mistake():
    assert not isinstance(raised_under("fairseq_cli"), Exception)


def test_a_program_ends_with_the_line():
    with pytest.raises(SystemExit) as ended, mistakes_end_the_program():
        raise UserError("a line")
    assert ended.value.code == "a line"


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
