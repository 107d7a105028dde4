"""The page of attention: what its script reads against the hub's maps, and texts that stay text."""

import base64
import hashlib
import io
import json
import re
import string
from types import SimpleNamespace

import pytest
import torch
from matplotlib import image

from convbert_plugin.analysis.heads.corpus_batches import CorpusText
from convbert_plugin.analysis.heads.head_page import attention_page, maps_png
from convbert_plugin.analysis.heads.kernel_search import Head
from convbert_plugin.analysis.heads.measured_models import (
    MeasuredModel,
    ReadTexts,
    measured_models,
    model_names,
    values_of_models,
)
from convbert_plugin.analysis.heads.shown_texts import ShownText, coded, maps_of, texts_to_show
from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.errors import UserError
from convbert_plugin.models.architectures import ARCHITECTURES
from convbert_plugin.models.config import ConvBertConfig
from convbert_plugin.models.convbert import ConvBertModel
from convbert_plugin.models.hub_interface import ConvBertHubInterface
from user_dir_tests.models.building import SPECIALS, TOY, TOY_GENERATOR_SIZE, randomize

pytestmark = pytest.mark.experiments

DIGITS = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
HOSTILE = ["</script><b>", "<!--<script>", 'a"b', "it's\\n", "\u2028", "\u202ered", "עברית", "\x07"]
WORDS = [*SPECIALS, *HOSTILE, *(f"w{number}" for number in range(20))]
LINES = {1: [2, 5, 6, 7, 8, 3], 4: [2, *range(9, 19), 3], 5: [2, 20, 3]}


def hub(tmp_path, words=WORDS, generator=False, **changes):
    path = tmp_path / "vocab.txt"
    # What no line can hold is put in afterwards.
    path.write_text("\n".join([*SPECIALS, *(f"v{number}" for number in range(5, len(words)))]))
    vocabulary = Vocabulary.load(path)
    vocabulary.symbols[5:] = words[5:]
    sizes = {**ARCHITECTURES["convbert_small"], **TOY, **changes}
    model = ConvBertModel(ConvBertConfig(_name="convbert_small", **sizes), vocabulary)
    if generator:
        model.add_generator(TOY_GENERATOR_SIZE)
    randomize(model, std=0.3)
    place = tmp_path / "a<b>" / "checkpoint_last.pt"
    run = SimpleNamespace(path=place, usable_positions=TOY["max_positions"])
    return ConvBertHubInterface(model, None, run)


def measured(*hubs, head=None, lines=LINES):
    texts = [CorpusText(line, torch.tensor(ids)) for line, ids in lines.items()]
    named = [(f"m{number}", ReadTexts(each, texts)) for number, each in enumerate(hubs)]
    return measured_models(named, "t<x>t", 2, head, 3)


def script_of(page):
    (script,) = re.findall("<script>(.*?)</script>", page, re.DOTALL)
    return script


def data_of(page):
    (line,) = re.findall("^const DATA = (.*);$", script_of(page), re.MULTILINE)
    assert "<" not in line
    assert line.isascii()
    return json.loads(line)


def numbers(letters):
    pairs = zip(letters[::2], letters[1::2], strict=True)
    return torch.tensor([(64 * DIGITS.index(a) + DIGITS.index(b)) / 4095 for a, b in pairs])


def test_two_letters_a_number():
    given = torch.tensor([[0.0, 1.0, 0.5], [1 / 4095, 0.123456, 0.99999]])
    letters = coded(given)
    assert letters[:4] == "AA//"
    assert (numbers(letters) - given.flatten()).abs().max() <= 0.5 / 4095 + 1e-7
    assert coded(None) == ""


@pytest.mark.parametrize("conv_type", ["span_dynamic", "dynamic", "light", "conv", "none"])
def test_what_is_shown_is_what_the_hub_gives(conv_type, tmp_path):
    convbert = hub(tmp_path, conv_type=conv_type, generator=conv_type == "span_dynamic")
    page = attention_page(measured(convbert), "t<x>t")
    data = data_of(page)
    assert [text["line"] for text in data["texts"]] == [1, 4, 5]
    for text, ids in zip(data["texts"], LINES.values(), strict=True):
        maps = convbert.extract_attention(torch.tensor(ids))
        attention = numbers(text["attention"][0]).view(2, 3, len(ids), len(ids))
        assert (attention - maps.attention[:, 0]).abs().max() <= 1.3e-4
        if conv_type in ("conv", "none"):
            assert text["kernels"] == [""]
            assert re.search(rf"No kernels here: [a-z, ]+ \(--conv-type {conv_type}\)\.", page)
            continue
        kernels = numbers(text["kernels"][0]).view(2, 3, len(ids), 5)
        assert (kernels - maps.kernels[:, 0]).abs().max() <= 1.3e-4
        if conv_type == "light":
            assert "do not depend on the token: --conv-type light" in page


def test_a_picture_of_all_maps(tmp_path):
    height, width, _ = image.imread(io.BytesIO(maps_png(measured(hub(tmp_path))))).shape
    assert min(height, width) > 400


def test_texts_of_files_stay_text(tmp_path):
    page = attention_page(measured(hub(tmp_path), head=Head(1, 2)), "t<x>t")
    script = script_of(page)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in page
    first, second, _ = data_of(page)["texts"]
    assert first["words"] == ["[CLS]", *HOSTILE[:4], "[SEP]"]
    # What moves a cursor, ends a line or turns the writing round is shown as its escape.
    assert second["words"][1:5] == [r"\u2028", r"\u202ered", "עברית", r"\x07"]
    assert not re.findall("<b>|<x>|[\u2028\u202e\x07]", page)


def test_the_page_tells_the_numbers_of_the_json(tmp_path):
    models = measured(hub(tmp_path), head=Head(0, 1))
    found = values_of_models(models, "text")
    page = attention_page(models, "text")
    for heads in found["attention"]["local_share"]:
        assert f">{sum(heads) / 3:.1%}</td>" in page
        for share in heads:
            assert f">{100 * share:.0f}</text>" in page
    for place in found["search"]["sharpest"]:
        assert f">{place['entropy']:.3f}</td>" in page
    values = data_of(page)["models"][0]
    assert values["attention"] == found["attention"]
    assert [place["position"] for place in values["places"] if place["kind"] == "sharpest"] == [
        place["position"] for place in found["search"]["sharpest"]
    ]


def bare_models(*shapes):
    return [
        MeasuredModel(
            "",
            None,
            {
                "attention": {"local_share": [[0.5] * heads] * layers},
                "kernels": {"mean_kernel": [[[0.1] * taps]]} if taps else None,
            },
        )
        for layers, heads, taps in shapes
    ]


def texts_of(*sizes):
    return [CorpusText(2 * place, torch.zeros(size)) for place, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("shapes", "sizes", "wanted", "room", "shown"),
    [
        # One head without kernels: 2 x 9, 2 x 16, 2 x 4 characters.
        ([(1, 1, 0)], (3, 4, 2), (), 100, [(0, 3), (1, 4), (2, 2)]),
        ([(1, 1, 0)], (3, 4, 2), (), 18 + 32, [(0, 3), (1, 4)]),
        # What does not fit is passed over.
        ([(1, 1, 0)], (3, 4, 2), (), 18 + 31, [(0, 3), (2, 2)]),
        ([(1, 1, 0)], (3, 2, 2), (4,), 18 + 8, [(0, 3), (2, 2)]),
        # Two tokens and what goes beyond them: 2 x 2 x 3.
        ([(1, 1, 0)], (3, 4), (), 17, [(0, 2)]),
        # A second model counts as well: 2 x 3 x (3 + 5), and of 2 x 2 heads 4 x 18.
        ([(1, 1, 5), (2, 2, 0)], (3,), (), 48 + 72, [(0, 3)]),
        ([(1, 1, 5), (2, 2, 0)], (3,), (), 48 + 71, [(0, 2)]),
    ],
)
def test_which_texts_are_shown(shapes, sizes, wanted, room, shown):
    found = texts_to_show(bare_models(*shapes), texts_of(*sizes), wanted, room)
    assert [(text.place, text.size) for text in found] == shown


def test_what_goes_beyond_the_shown_part_of_a_text(tmp_path):
    convbert = hub(tmp_path)
    (model,) = measured(convbert)
    shown = ShownText(1, model.read.texts[1], 4)
    maps = maps_of(model, shown)
    whole = convbert.extract_attention(torch.tensor(LINES[4])).attention[:, 0, :, :4].double()
    assert maps.attention.shape == (2, 3, 4, 5)
    assert torch.equal(maps.attention[..., :4], whole[..., :4])
    assert (maps.attention[..., 4] - whole[..., 4:].sum(dim=-1)).abs().max() < 1e-12
    assert maps.kernels.shape == (2, 3, 4, 5)


def test_two_hundred_texts_fit_into_three_megabytes(tmp_path):
    """As many layers, heads and taps as convbert_small has; the width makes no difference."""
    heads = {"encoder_layers": 12, "encoder_attention_heads": 4, "conv_kernel_size": 9}
    narrow = {"encoder_embed_dim": 16, "encoder_ffn_embed_dim": 16, "embedding_dim": 4}
    lines = {line: [2, *([5 + line % 20] * 29), 3] for line in range(1, 201)}
    page = attention_page(measured(hub(tmp_path, **heads, **narrow), lines=lines), "text")
    assert len(page.encode()) < 3_000_000
    # Each has 2 x 12 x 2 x 31 x (31 + 9) characters.
    shown = data_of(page)["texts"]
    assert len(shown) == 1_500_000 // 59_520
    assert [text["line"] for text in shown] == list(range(1, 26))
    assert f"{len(shown)} of 200 texts can be looked at here" in page


def test_models_side_by_side(tmp_path):
    models = measured(
        hub(tmp_path), hub(tmp_path, conv_type="none", encoder_layers=3), head=Head(1, 1)
    )
    found = values_of_models(models, "text")
    assert [each["name"] for each in found["models"]] == ["m0", "m1"]
    alone = values_of_models(measured(hub(tmp_path), head=Head(1, 1)), "text")
    assert found["models"][0] == {"name": "m0", **alone}
    # The other has no kernels to search.
    assert "search" not in found["models"][1]
    page = attention_page(models, "text")
    assert "What the kernels look at: m1" in page
    assert "Share of attention within ±2 by layer:" in page
    for text in data_of(page)["texts"]:
        assert [len(letters) for letters in text["attention"]] == [
            2 * layers * 3 * len(text["words"]) ** 2 for layers in (2, 3)
        ]


@pytest.mark.parametrize(
    ("other", "line"),
    [
        ({"words": [*WORDS[:20], "other", *WORDS[21:]]}, "line 5 of t<x>t .*'other' as token 1"),
        ({"conv_type": "none"}, "--head 0.0: .*a<b>.* no kernels"),
    ],
)
def test_models_that_cannot_be_compared(other, line, tmp_path):
    convbert = hub(tmp_path, conv_type="none")
    with pytest.raises(UserError, match=line) as error:
        measured(
            convbert, hub(tmp_path, **other), head=Head(0, 0) if "no kernels" in line else None
        )
    assert "\n" not in str(error.value)


def test_names_are_what_differs(tmp_path):
    names = model_names([tmp_path / "a" / "x" / "last.pt", tmp_path / "b" / "x" / "last.pt"])
    assert names == ["a/x", "b/x"]
    assert model_names([tmp_path / "a" / "1.pt", tmp_path / "a" / "2.pt"]) == ["1.pt", "2.pt"]
    assert model_names([tmp_path / "a" / "last.pt"]) == ["a"]
    with pytest.raises(UserError, match=r"a/1\.pt: given twice"):
        model_names([tmp_path / "a" / "1.pt", tmp_path / "b" / ".." / "a" / "1.pt"])
