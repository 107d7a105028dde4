"""The page of attention in a browser: how it looks, and what its script tells of a chosen word."""

import pytest
import torch

from convbert_plugin.analysis.heads.head_page import attention_page
from convbert_plugin.analysis.heads.kernel_search import Head
from convbert_plugin.analysis.words import printable
from user_dir_tests.analysis.heads.test_head_page import LINES, WORDS, hub, measured
from user_dir_tests.pages.chromium import View, address_of
from user_dir_tests.pages.look import look

pytestmark = pytest.mark.experiments
HEADS = 3
TOLD = "document.querySelector('[aria-live]').textContent"
# As a reader does by hand, and by the keyboard alone.
BY_HAND = """
(() => {
  const text = document.querySelector("select");
  text.value = "%(text)s";
  text.dispatchEvent(new Event("change"));
  document.querySelectorAll(".grid button")[%(head)s].click();
  document.querySelectorAll(".words button")[%(word)s].click();
})()
"""
BY_KEYS = """
(() => {
  const press = (key) => document.activeElement.dispatchEvent(
    new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
  document.querySelector(".words button[tabindex='0']").focus();
  for (const key of %(keys)s) press(key);
})()
"""


@pytest.fixture(scope="module")
def convbert(tmp_path_factory):
    return hub(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def page(convbert, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "page.html"
    file.write_text(attention_page(measured(convbert, convbert, head=Head(1, 2)), "t<x>t"))
    return file


def told_of(convbert, line, layer, head, word):
    """The sentence, from what the hub gives."""
    ids = LINES[line]
    row = convbert.extract_attention(torch.tensor(ids)).attention[layer, 0, head, word]
    shares, places = row.topk(min(4, len(ids)))
    most = [
        f"“{printable(WORDS[ids[place]])}” {100 * share:.1f}%"
        for share, place in zip(shares.tolist(), places.tolist(), strict=True)
    ]
    return f"“{printable(WORDS[ids[word]])}” looks most at {', '.join(most)}"


def test_it_looks_well_everywhere(tab, page):
    assert look(page, tab) == []


@pytest.mark.parametrize("view", [View("wide", 1280), View("phone", 390)])
def test_what_is_chosen_is_told(tab, page, convbert, view):
    tab.open(address_of(page), view)
    # At first the word in the middle of six.
    assert tab.run(TOLD) == told_of(convbert, 1, 0, 0, 3)
    # The second of the texts; layer 1, head 2.
    tab.run(BY_HAND % {"text": 1, "head": HEADS + 2, "word": 7})
    assert tab.run(TOLD) == told_of(convbert, 4, 1, 2, 7)
    tab.run(BY_KEYS % {"keys": ["ArrowRight", "ArrowRight", "ArrowUp", "ArrowLeft"]})
    assert tab.run(TOLD) == told_of(convbert, 4, 0, 2, 8)
    assert not any(event["method"] == "Runtime.exceptionThrown" for event in tab.events)
