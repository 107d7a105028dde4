"""convbert attention on a trained model, against the hub's maps of one text after the other."""

import json
import shutil

import pytest
import torch

from convbert_plugin import ConvBertModel
from convbert_plugin.cli import main
from convbert_plugin.errors import UserError

pytestmark = [pytest.mark.experiments, pytest.mark.slow]

LINES = ["the small cat sees a mouse.", "", "a bird!", "the old dog called the small bird."]
LAYERS, HEADS, TAPS = 2, 2, 3
# The maps are in fp32, and the batches of other shapes.
NEAR = 2e-5


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(LINES) + "\n")
    return path


def attention(*arguments):
    assert main(["attention", *map(str, arguments)]) == 0


def test_means_over_a_text(pretrained, text, tmp_path, capsys):
    out = tmp_path / "heads.json"
    attention("--path", pretrained.folder, text, out, "--reach", 2, "--head", "1.0", "--places", 3)
    found = json.loads(out.read_text())
    convbert = ConvBertModel.from_pretrained(pretrained.folder)
    ids = [convbert.encode(line) for line in LINES if line]
    assert (found["texts"], found["tokens"]) == (3, sum(map(len, ids)))
    maps = [convbert.extract_attention(tokens) for tokens in ids]
    for layer in range(LAYERS):
        for head in range(HEADS):
            shares, centres, kernels = [], [], []
            for each in maps:
                for place, row in enumerate(each.attention[layer, 0, head]):
                    shares.append(sum(row[max(0, place - 2) : place + 3].tolist()))
                for kernel in each.kernels[layer, 0, head]:
                    centres.append((kernel[2] - kernel[0]).item())
                    kernels.append(kernel)
            mean = torch.stack(kernels).mean(dim=0).tolist()
            share = found["attention"]["local_share"][layer][head]
            assert share == pytest.approx(sum(shares) / len(shares), abs=NEAR)
            centre = found["kernels"]["centre"][layer][head]
            assert centre == pytest.approx(sum(centres) / len(centres), abs=NEAR)
            assert found["kernels"]["mean_kernel"][layer][head] == pytest.approx(mean, abs=NEAR)
    search = found["search"]
    assert (search["layer"], search["head"]) == (1, 0)
    entropies = [place["entropy"] for place in search["sharpest"]]
    assert len(entropies) == 3
    assert entropies == sorted(entropies)
    for place in search["sharpest"]:
        which = [line for line in LINES if line].index(LINES[place["line"] - 1])
        kernel = maps[which].kernels[1, 0, 0, place["position"]]
        assert [weight for _, weight in place["window"]] == pytest.approx(kernel.tolist(), abs=NEAR)
        assert place["window"][TAPS // 2][0] == place["token"]
    told = capsys.readouterr().out
    assert told.splitlines()[0].split()[:3] == ["layer", "within", "±2"]
    assert f"{found['uniform']['local_share']:.1%}" in told
    assert "heads.json: 3 texts" in told


def test_texts_are_cut_where_that_is_asked_for(pretrained, text, tmp_path):
    out = tmp_path / "heads.json"
    attention("--path", pretrained.folder, text, out, "--tokens-per-sample", 4)
    found = json.loads(out.read_text())
    assert found["tokens"] == 3 * 4
    # All keys are within four tokens, for a uniform pattern too.
    assert found["uniform"] == pytest.approx({"local_share": 1.0, "mean_distance": 15 / 12})
    for shares in found["attention"]["local_share"]:
        assert shares == pytest.approx([1.0] * HEADS, abs=NEAR)
    assert "search" not in found


def test_a_page_a_picture_and_the_same_numbers(pretrained, text, tmp_path, capsys):
    page, alone = tmp_path / "new" / "heads.html", tmp_path / "heads.json"
    attention("--path", pretrained.folder, "--head", "0.1", text, page)
    capsys.readouterr()
    attention("--path", pretrained.folder, "--head", "0.1", text, alone, "--json")
    assert page.with_suffix(".json").read_bytes() == alone.read_bytes()
    assert capsys.readouterr().out == alone.read_text()
    assert page.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "All texts can be looked at here" in page.read_text()
    assert len(list(page.parent.iterdir())) == 3


def test_all_files_or_none(pretrained, text, tmp_path):
    page = tmp_path / "heads.html"
    page.with_suffix(".png").mkdir()
    with pytest.raises(UserError, match=r"heads\.png"):
        attention("--path", pretrained.folder, text, page)
    assert not page.exists()
    assert not page.with_suffix(".json").exists()


def test_two_models(pretrained, text, tmp_path):
    other = shutil.copytree(pretrained.folder, tmp_path / "other")
    out = tmp_path / "heads.json"
    attention("--path", pretrained.folder, "--path", other, text, out)
    first, second = json.loads(out.read_text())["models"]
    assert (first["name"], second["name"]) == ("pretrained", "other")
    assert first["attention"] == second["attention"]


@pytest.mark.parametrize(
    ("lines", "arguments", "line"),
    [
        (["a bird!", "the cat " * 400], (), "line 2: "),
        (["the cat " * 400], (), "or cut all texts by --tokens-per-sample "),
        (["", " "], (), "holds no text"),
        (["a bird!"], ("--head", "2.0"), "--head 2.0: "),
        (["a bird!"], ("--head", "0.2"), "has layers 0 to 1 and heads 0 to 1"),
        (["a bird!"], ("--tokens-per-sample", "4000"), "--tokens-per-sample 4000: choose from 3"),
    ],
)
def test_mistakes_are_one_line(lines, arguments, line, pretrained, text, tmp_path):
    text.write_text("\n".join(lines))
    out = tmp_path / "heads.json"
    with pytest.raises(UserError) as error:
        attention("--path", pretrained.folder, text, out, *arguments)
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("text.txt", "heads.png"), "heads.png: its name ends in .html or .json"),
        (("text.txt", "heads.json", "--head", "one"), "one: give two numbers from 0 on"),
    ],
)
def test_wrong_arguments(arguments, line, capsys):
    with pytest.raises(SystemExit) as end:
        main(["attention", "--path", "nowhere", *arguments])
    assert end.value.code == 2
    assert line in capsys.readouterr().err
