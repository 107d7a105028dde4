"""The grids of examples/ablations: their models by formulas, their runs with small programs."""

import importlib.util
import sys
from pathlib import Path

import pytest

import convbert_plugin
from user_dir_tests.models.building import empty_model

pytestmark = pytest.mark.experiments

FOLDER = Path(convbert_plugin.__file__).parents[1] / "examples" / "ablations"
VOCABULARY = 6000
# Of the released sizes, with BERT's vocabulary. Source: the released code's variables, counted.
PUBLISHED = {
    "small": {
        "ELECTRA style": 13_483_008,
        "+ bottleneck": 11_905_536,
        "+ span convolution": 13_143_768,
        "+ larger hidden size": 17_475_888,
    },
    "base": {"+ span convolution": 105_680_520},
}
BERT_VOCABULARY = 30522


def module(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(FOLDER), str(FOLDER.parent), *sys.path])
        spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def comparisons():
    return module("comparisons")


def encoder_parameters(model, vocabulary):
    """By the paper's formulas: embeddings, their projection, and the layers one part at a time."""
    hidden, inner = model["encoder_embed_dim"], model["encoder_ffn_embed_dim"]
    embedding, groups = model["embedding_dim"], model["ffn_groups"]
    taps, size = model["conv_kernel_size"], hidden // model["encoder_attention_heads"]
    heads = max(1, model["encoder_attention_heads"] // model["head_ratio"])
    width = heads * size
    tables = (vocabulary + model["max_positions"] + 2 + 2) * embedding
    projection = 0 if embedding == hidden else (embedding + 1) * hidden
    value = (hidden + 1) * width
    kernels = (width + 1) * heads * taps
    span_key = hidden * taps + (hidden + 1) * width
    branch = {
        "none": 0,
        "conv": value + taps * width * width + width,
        "light": value + heads * taps,
        "dynamic": value + kernels,
        "span_dynamic": value + kernels + span_key,
    }[model["conv_type"]]
    output = (width * (1 if model["conv_type"] == "none" else 2) + 1) * hidden
    feed_forward = 2 * hidden * inner // groups + inner + hidden
    layer = 3 * value + branch + output + feed_forward + 4 * hidden
    return tables + projection + model["encoder_layers"] * layer


@pytest.mark.parametrize("name", ["tiny", "small", "base"])
def test_every_row_has_the_parameters_of_the_formulas(comparisons, name):
    scale, vocabulary = comparisons.SCALES[name], VOCABULARY if name == "tiny" else BERT_VOCABULARY
    grids, rows = comparisons.settled(list(comparisons.COMPARISONS), scale, vocabulary)
    usual = comparisons.ARCHITECTURES[scale.arch]
    for settled in rows:
        expected = encoder_parameters({**usual, **settled.settings}, vocabulary)
        assert settled.row.parameters == expected, settled.row.name
    of_first = {row.name: row.parameters for row in grids[0].rows}
    assert of_first.items() >= PUBLISHED.get(name, {}).items()


def test_the_models_have_the_parameters_that_are_said(comparisons):
    scale = comparisons.SCALES["tiny"]
    _, rows = comparisons.settled(list(comparisons.COMPARISONS), scale, VOCABULARY)
    for row, settings in rows:
        model = empty_model(scale.arch, VOCABULARY, **model_options(settings))
        assert parameters(model) == row.parameters
        if settings.get("objective") == "masked_lm":
            model.add_part("masked_lm_head")
        else:
            model.add_generator(None)
        assert parameters(model) == row.trained


def model_options(settings):
    of_training = ("objective", "num_workers")
    return {name: value for name, value in settings.items() if name not in of_training}


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", ["tiny", "small", "base"])
def test_convolutions_are_compared_at_parameters_as_equal_as_a_width_makes_them(comparisons, name):
    scale = comparisons.SCALES[name]
    [grid], rows = comparisons.settled(["b"], scale, VOCABULARY)
    model = comparisons.usual_model(scale)
    counts = [row.parameters for row in grid.rows]
    # Half of what one unit of the feed-forward has in all layers: two weights a channel, a bias.
    half = model["encoder_layers"] * (2 * model["encoder_embed_dim"] + 1) / 2
    assert all(abs(count - counts[-1]) <= half for count in counts)
    assert f"{max(abs(count - counts[-1]) for count in counts):,} (" in grid.note
    widths = [settled.settings.get("encoder_ffn_embed_dim") for settled in rows]
    assert len(set(widths)) == len(widths)
    assert rows[-1].row.folder == "convbert"


def test_rows_that_are_equal_share_a_folder(comparisons):
    scale = comparisons.SCALES["tiny"]
    grids, rows = comparisons.settled(list(comparisons.COMPARISONS), scale, VOCABULARY)
    folders = {grid.name: [row.folder for row in grid.rows] for grid in grids}
    assert [folders[name].index("convbert") for name in "abcde"] == [2, 3, 4, 1, 0]
    settings = {settled.row.folder: settled.settings for settled in rows}
    everything = [tuple(sorted(each.items())) for each in settings.values()]
    assert len(set(everything)) == len(everything) == len(rows)
    assert sum(map(len, folders.values())) == len(rows) + 5
